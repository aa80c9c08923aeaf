"""Where things live, and the few addresses that everything agrees on."""

import hashlib
import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# What is expensive and may be reused by every clone on this machine: binaries, images, wheels, the node's images.
CACHE = Path(os.environ.get("TRIMTAB_CACHE") or Path.home() / ".cache" / "trimtab").resolve()
# What belongs to one running cluster: certificates, logs, process records, etcd's and the store's data.
STATE = Path(os.environ.get("TRIMTAB_STATE") or CACHE / "run").resolve()

# Of the network namespace, the control group and the kind cluster: with another name, and a cache and a state of its
# own, a second cluster runs beside the first.
NAME = os.environ.get("TRIMTAB_NAME") or "trimtab"

LOGS = STATE / "logs"
KUBECONFIG = STATE / "admin.kubeconfig"
IMAGES_ENV = STATE / "images.env"

# Sockets and mount points: outside of the cache, since a Unix socket's path must be shorter than 108 bytes.
RUNTIME = Path("/run/trimtab") / hashlib.sha256(str(STATE).encode()).hexdigest()[:8]

UV = CACHE / "tools-venv" / "bin" / "uv"


def digest_of(*parts: bytes | str | Path) -> str:
    """A short content hash of strings and files (a directory: of every file below it)."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
            for file in files:
                total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        else:
            total.update((part.encode() if isinstance(part, str) else part) + b"\0")
    return total.hexdigest()[:12]


def write(path: Path, content: str, *, mode: int = 0o644) -> Path:
    """Write a file whole or not at all: a crash in the middle must not leave half a configuration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.touch(mode=mode)
    partial.chmod(mode)
    partial.write_text(content)
    partial.replace(path)
    return path
