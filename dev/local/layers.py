"""Reading an image out of buildah's storage: its manifest, its configuration and the exact bytes of its layers.

`buildah push` would compress every layer again and take a minute; the storage already holds all that is needed. A layer
is kept unpacked, and beside it the parts of its tar archive that are not file contents (the "tar-split"): reading both in
turn gives the archive back, byte for byte.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image_store import STORAGE

_CHUNK = 1 << 20
_FILE, _SEGMENT = 1, 2


@dataclass(frozen=True)
class StoredImage:
    """What an OCI archive of the image consists of."""

    manifest: bytes
    config: bytes
    layers: tuple[dict[str, Any], ...]

    @property
    def descriptor(self) -> dict[str, Any]:
        """How an index refers to the image."""
        return {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": f"sha256:{hashlib.sha256(self.manifest).hexdigest()}",
            "size": len(self.manifest),
        }


def find(name: str) -> StoredImage:
    """Look an image up by its full name."""
    images = json.loads((STORAGE / "overlay-images" / "images.json").read_text())
    image = next(image for image in images if name in image.get("names", []))
    folder = STORAGE / "overlay-images" / image["id"]
    manifest = (folder / "manifest").read_bytes()
    parsed = json.loads(manifest)
    key = base64.b64encode(parsed["config"]["digest"].encode()).decode()
    return StoredImage(manifest, (folder / f"={key}").read_bytes(), tuple(parsed["layers"]))


def archive_of(digest: str) -> Iterator[bytes]:
    """The bytes of one layer's tar archive."""
    layers = json.loads((STORAGE / "overlay-layers" / "layers.json").read_text())
    layer = next(layer["id"] for layer in layers if layer.get("diff-digest") == digest)
    content = STORAGE / "overlay" / layer / "diff"
    with gzip.open(STORAGE / "overlay-layers" / f"{layer}.tar-split.gz", "rt") as entries:
        for line in entries:
            entry = json.loads(line)
            if entry["type"] == _SEGMENT:
                yield base64.b64decode(entry["payload"])
            elif entry["type"] == _FILE and entry.get("size"):
                name = base64.b64decode(entry["name_raw"]).decode() if "name_raw" in entry else entry["name"]
                yield from _read(content / name)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
