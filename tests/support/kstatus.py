"""What GitOps tools make of an object, by their own libraries, in the program of `dev/kstatus`.

`sigs.k8s.io/cli-utils/pkg/kstatus`: Flux, kpt and Config Sync decide by it; so does Argo CD for kinds that it has no health script for.
`github.com/fluxcd/pkg/runtime/cel`: Flux, for kinds that its Kustomization has health expressions for.
"""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from tests.support.cluster import Manifest

ROOT = Path(__file__).parents[2]


@cache
def program() -> str:
    """Its path; compiled the first time, which needs Go and its module proxy."""
    if shutil.which("go") is None:
        pytest.skip("kstatus is a Go library, and there is no go on PATH")
    command = [sys.executable, "-B", str(ROOT / "dev" / "local" / "main.py"), "kstatus"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def kstatus(body: Manifest, *kustomizations: Path) -> str:
    """InProgress, Failed, Current or Terminating; by the health expressions of Flux Kustomizations where they have some for its kind."""
    done = subprocess.run(
        [program(), *kustomizations], input=json.dumps([body]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
