"""Peers that are Go programs: their modules' files, and the programs built from them."""

import json
import os
import subprocess
from pathlib import Path

_CACHE = Path(os.environ.get("TRIMTAB_CACHE", Path.home() / ".cache" / "trimtab")) / "peers"


def source(module: str, version: str) -> Path:
    """Where Go keeps a module's files, which its zip brings: manifests among them."""
    command = ["go", "mod", "download", "-json", f"{module}@{version}"]
    answer = subprocess.run(command, cwd="/", check=True, capture_output=True)
    return Path(json.loads(answer.stdout)["Dir"])


def program(name: str, files: Path, package: str = ".", *, folder: str) -> Path:
    """A program of a module whose files are here, compiled once into a folder of the cache (2-4 minutes on two cores)."""
    built = _CACHE / folder / name
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOFLAGS": f"-buildvcs=false {os.environ.get('GOFLAGS', '')}"}
        # Inside its own module, so that its versions are taken as they were released.
        subprocess.run(["go", "build", "-C", files, "-o", built, package], env=environment, check=True)
    return built
