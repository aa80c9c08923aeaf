"""Buildah with a storage of its own below the cache, and where an image's layers lie on disk.

Everything runs in a private mount namespace with a throw-away run root: whatever buildah mounts is gone when it exits,
also when it is killed.
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from paths import CACHE, RUNTIME
from progress import run

PRIVATE_MOUNTS = ("unshare", "--mount", "--propagation", "private")
STORAGE = CACHE / "containers"

# A corporate or otherwise private authority that this machine trusts must be trusted while images are built too.
_HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_WHEELS = CACHE / "wheels"


@contextmanager
def exclusive() -> Iterator[None]:
    """One image build at a time on this machine."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _buildah() -> Iterator[list[str]]:
    temporary = CACHE / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    RUNTIME.mkdir(parents=True, exist_ok=True)
    run_root = tempfile.mkdtemp(prefix="buildah-", dir=RUNTIME)
    try:
        yield [
            *PRIVATE_MOUNTS,
            "env",
            f"TMPDIR={temporary}",
            "buildah",
            "--root",
            str(STORAGE),
            "--runroot",
            run_root,
            "--storage-driver",
            "overlay",
        ]
    finally:
        shutil.rmtree(run_root, ignore_errors=True)


def build(dockerfile: Path, *, name: str, context: Path, arguments: dict[str, str], target: str = "") -> None:
    """Build one image from its Dockerfile."""
    _WHEELS.mkdir(parents=True, exist_ok=True)
    with _buildah() as buildah:
        command = [
            *buildah,
            "build",
            "--isolation",
            "chroot",
            "--layers",
            "--timestamp",
            "0",
            "--file",
            str(dockerfile),
            "--tag",
            name,
            "--volume",
            f"{_WHEELS}:/var/cache/wheels",
        ]
        if _HOST_CERTIFICATES.exists():
            command += ["--volume", f"{_HOST_CERTIFICATES}:{_HOST_CERTIFICATES}:ro"]
        for key, value in arguments.items():
            command += ["--build-arg", f"{key}={value}"]
        if target:
            command += ["--target", target]
        run([*command, context], log="images")


def names() -> set[str]:
    """Every image in the storage, by name."""
    return set(_top_layers())


def remove(old: Sequence[str]) -> None:
    """Forget images that nothing needs any more."""
    with _buildah() as buildah:
        run([*buildah, "rmi", "--force", *old], log="images")


def _top_layers() -> dict[str, str]:
    """The top layer of each named image, read from the storage itself: a hundred times faster than asking buildah."""
    index = STORAGE / "overlay-images" / "images.json"
    images = json.loads(index.read_text()) if index.exists() else []
    return {name: image["layer"] for image in images for name in image.get("names", [])}


def layer_directories(name: str) -> list[Path]:
    """The directories that, laid over each other, are the image's file system; the topmost first."""
    layers = json.loads((STORAGE / "overlay-layers" / "layers.json").read_text())
    parents = {layer["id"]: layer.get("parent") for layer in layers}
    chain: list[Path] = []
    layer: str | None = _top_layers()[name]
    while layer:
        chain.append(STORAGE / "overlay" / layer / "diff")
        layer = parents[layer]
    return chain
