"""The chart as Helm renders it."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
CHART = Path(__file__).parents[2] / "charts" / "trimtab"
_STATE = Path(os.environ.get("TRIMTAB_STATE") or Path.home() / ".cache/trimtab/run")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
VALUE_SETS = ("", *(f"ci/{path.name}" for path in sorted((CHART / "ci").glob("*.yaml"))))


class HelmError(Exception):
    """What Helm says when it refuses."""


def helm() -> str:
    """Helm on PATH, or the one that `make up` made; empty without either."""
    ours = _STATE / "bin" / "helm"
    return shutil.which("helm") or (str(ours) if ours.exists() else "")


@cache
def render(
    values: str = "", *settings: str, namespace: str = "trimtab-system", kubernetes: str = "v1.31.0"
) -> tuple[Manifest, ...]:
    """The manifests of the release `trimtab` with a file of values (relative to the chart) and `key=value` settings."""
    command = [helm(), "template", "trimtab", str(CHART), "--namespace", namespace, "--kube-version", kubernetes]
    command += ["--values", str(CHART / values)] if values else []
    command += [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HelmError(done.stderr)
    return tuple(document for document in yaml.load_all(done.stdout, Loader=_LOADER) if document)


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    return next(manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name)
