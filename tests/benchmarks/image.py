"""Programs that run inside the trainer image, with peers' packages beside the image's own."""

import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("TRIMTAB_CACHE") or Path.home() / ".cache" / "trimtab").resolve()
UV = CACHE / "tools-venv" / "bin" / "uv"
TRL = ("trl==1.16.0", "accelerate==1.15.0", "datasets==5.2.0")
_NEEDS = ("dill", "multiprocess", "xxhash", "pandas", "pytz", "tzdata", "psutil", "fsspec", "httpx", "aiohttp", "six")
AWAKE = 300_000
"""How often libgomp's threads look for work, by its own default: a benchmark has its machine alone."""
# sys.path, not PYTHONPATH: what the image has comes first.
_RUN_MODULE = (
    "import os, runpy, sys; sys.path.extend(filter(None, [os.environ['TRIMTAB_MORE_PACKAGES']])); "
    "sys.path.insert(0, os.getcwd()); sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__')"
)


def peer_packages() -> Path:
    """TRL, accelerate and what they need, for the image's Python."""
    folder = CACHE / "peers" / "-".join(TRL)
    if not folder.is_dir():
        target = ["--target", str(folder), "--python-version", "3.13", "--python-platform", "x86_64-manylinux_2_36"]
        subprocess.run(
            [UV, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", *target, *TRL, *_NEEDS],
            check=True,
            env={**os.environ, "UV_CACHE_DIR": str(CACHE / "uv")},
        )
    return folder


def in_image(
    module: str, *arguments: str, mounts: tuple[Path, ...], with_peers: bool = False, spins: int = AWAKE
) -> str:
    """Standard output of a module of this repository that runs in the trainer image; GOMP_SPINCOUNT overrides `spins`."""
    packages = peer_packages() if with_peers else None
    environment = {
        **os.environ,
        "TRIMTAB_MOUNTS": ":".join(str(path) for path in (*mounts, packages) if path),
        "TRIMTAB_MORE_PACKAGES": str(packages or ""),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": "/tmp/datasets",
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", str(spins)),
    }
    done = subprocess.run(
        [REPOSITORY / "dev" / "in-trainer-image", "python", "-c", _RUN_MODULE, module, *arguments],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout
