"""From buildah's storage into containerd, moving only what containerd does not have.

A layer is one file named by its digest, on both sides. So after a change of the source a few kilobytes move, not two
gigabytes, and nothing is compressed on the way.
"""

import json
import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import containerd
import image_store
from paths import CACHE
from progress import StepFailedError, output_of, step

_LAYOUT = CACHE / "layout"
_BLOBS = _LAYOUT / "blobs" / "sha256"


def _known_images() -> set[str]:
    return set(output_of(containerd.ctr("images", "list", "--quiet")).split())


def load(name: str) -> None:
    """Make the image known to containerd, unless it is."""
    if name in _known_images():
        return
    with step(f"Importing {name}", "2 s for a change of the source, 30-60 s for new dependencies"), image_store.exclusive():
        image_store.save(name, layout=_LAYOUT)
        _import(name)


def _manifest(name: str) -> dict[str, Any]:
    index = json.loads((_LAYOUT / "index.json").read_text())
    for manifest in index["manifests"]:
        if manifest.get("annotations", {}).get("org.opencontainers.image.ref.name") == name:
            return cast("dict[str, Any]", manifest)
    raise StepFailedError(f"{name} is not in {_LAYOUT}.")


def _import(name: str) -> None:
    """Stream an archive with the blobs that containerd lacks; those it has count as given."""
    descriptor = _manifest(name)
    # A ref name that holds a whole image name confuses `ctr`: containerd's own annotation is taken as it is.
    descriptor["annotations"] = {"io.containerd.image.name": name}
    index = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
    manifest_digest = descriptor["digest"].partition(":")[2]
    manifest = json.loads((_BLOBS / manifest_digest).read_text())
    layers = [layer["digest"].partition(":")[2] for layer in manifest["layers"]]
    known = set(output_of(containerd.ctr("content", "list", "--quiet")).split())
    missing = [layer for layer in layers if f"sha256:{layer}" not in known]
    wanted = [manifest_digest, manifest["config"]["digest"].partition(":")[2], *missing]
    importer = subprocess.Popen(containerd.ctr("images", "import", "-"), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if importer.stdin is None or importer.stdout is None:
        raise StepFailedError("No pipe to ctr.")
    try:
        with importer.stdin, tarfile.open(fileobj=importer.stdin, mode="w|") as archive:
            _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add(archive, "index.json", index)
            for digest in wanted:
                archive.add(_BLOBS / digest, arcname=f"blobs/sha256/{digest}")
    except BrokenPipeError:
        pass  # what ctr says about it follows
    said = importer.stdout.read().decode(errors="replace")
    if importer.wait() != 0:
        raise StepFailedError(f"containerd refused {name}: {said}")
    _share_blobs(layers)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, BytesIO(content))


def _share_blobs(layers: list[str]) -> None:
    """Let both sides hold the same file: two gigabytes less on disk."""
    theirs = containerd.ROOT / "io.containerd.content.v1.content" / "blobs" / "sha256"
    for layer in layers:
        source, ours = theirs / layer, _BLOBS / layer
        if not source.exists() or source.samefile(ours):
            continue
        link = Path(f"{ours}.link")
        link.unlink(missing_ok=True)
        os.link(source, link)
        link.replace(ours)
