"""What `dev/local` offers to the scripts of this folder: paths, and steps that a person can follow."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "local"))

from packages import ensure_uv
from paths import CACHE, IMAGES_ENV, REPOSITORY, UV, digest_of
from progress import StepFailedError, run, say, step

__all__ = [
    "CACHE",
    "IMAGES_ENV",
    "REPOSITORY",
    "UV",
    "StepFailedError",
    "digest_of",
    "ensure_uv",
    "run",
    "say",
    "step",
]
