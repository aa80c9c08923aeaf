"""From buildah's storage into containerd, moving only what containerd does not have.

A layer is known by its digest on both sides. So after a change of the source a megabyte moves, not two gigabytes, and
nothing is compressed on the way.
"""

import json
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO, RawIOBase

import containerd
import image_store
import layers
from progress import StepFailedError, output_of, step


def load(name: str) -> None:
    """Make the image known to containerd, unless it is."""
    if name in output_of(containerd.ctr("images", "list", "--quiet")).split():
        return
    with step(f"Importing {name}", "2 s for a change of the source, 30-60 s the first time"), image_store.exclusive():
        _import(name)


def _import(name: str) -> None:
    """Stream an OCI archive with the layers that containerd lacks; those it has count as given."""
    image = layers.find(name)
    known = set(output_of(containerd.ctr("content", "list", "--quiet")).split())
    descriptor = {**image.descriptor, "annotations": {"io.containerd.image.name": name}}
    small = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode(),
        _blob(descriptor["digest"]): image.manifest,
        _blob(json.loads(image.manifest)["config"]["digest"]): image.config,
    }
    missing = {layer["digest"]: layer["size"] for layer in image.layers if layer["digest"] not in known}
    importer = subprocess.Popen(
        containerd.ctr("images", "import", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if importer.stdin is None or importer.stdout is None:
        raise StepFailedError("No pipe to ctr.")
    try:
        with importer.stdin, tarfile.open(fileobj=importer.stdin, mode="w|", bufsize=1 << 20) as archive:
            for path, content in small.items():
                archive.addfile(_entry(path, len(content)), BytesIO(content))
            for digest, size in missing.items():
                archive.addfile(_entry(_blob(digest), size), _Stream(layers.archive_of(digest)))
    except BrokenPipeError:
        pass  # what ctr says about it follows
    said = importer.stdout.read().decode(errors="replace")
    if importer.wait() != 0:
        raise StepFailedError(f"containerd refused {name}: {said}")


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.partition(':')[2]}"


def _entry(path: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.size = size
    return entry


class _Stream(RawIOBase):
    """Chunks of any size, read as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """As many bytes as asked for, fewer at the end only."""
        parts = [self._rest]
        length = len(self._rest)
        while length < size and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            length += len(chunk)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]
