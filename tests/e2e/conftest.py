"""A real cluster with the operator installed as a user installs it, a real store, and a namespace for each test."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import kube
from tests.support.jobs import fresh_namespace
from tests.support.store import Bucket

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def platform() -> None:
    """The operator, the profiles and the assets, brought there by the same scripts that the demo uses."""
    missing = [name for name in ("KUBECONFIG", "AWS_ENDPOINT_URL", "TRIMTAB_BUCKET") if not os.environ.get(name)]
    if missing:
        pytest.fail(
            f'{", ".join(missing)} not set: run `make test-e2e`, or `make up` and `eval "$(make -s env)"` first'
        )
    for script in ("upload.py", "install.py"):
        subprocess.run([sys.executable, str(ROOT / "dev" / "demo" / script)], check=True)


@pytest.fixture(scope="session")
def bucket(platform: None) -> Bucket:
    """The store."""
    return Bucket()


@pytest.fixture
def namespace(bucket: Bucket, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace that enforces Pod Security `restricted`, with the store's Secret; gone afterwards."""
    name = "e2e-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")[:40].strip(
        "-"
    )
    failed_before = request.session.testsfailed
    with fresh_namespace(name, bucket):
        yield name
        if request.session.testsfailed > failed_before:
            print(kube.story(name))
