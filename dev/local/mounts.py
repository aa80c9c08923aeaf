"""What is mounted where, as the kernel tells it."""

import subprocess
from pathlib import Path


def points() -> list[Path]:
    """Every mount point, in the order of mounting."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [Path(line.split()[1].encode().decode("unicode_escape")) for line in lines]


def is_mounted(path: Path) -> bool:
    """Whether something is mounted here; `Path.is_mount` overlooks bind mounts within one file system."""
    return path in points()


def unmount_below(folder: Path) -> None:
    """Unmount everything below a folder, the last mounted first."""
    for point in reversed(points()):
        if point.is_relative_to(folder):
            subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
