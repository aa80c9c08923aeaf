"""Models and data at `pvc://claim/path`: mounted read-only, hashed where they lie, linked instead of copied."""

import hashlib
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from trimtab_trainer.contract import mounts
from trimtab_trainer.fetch.source import SourceFile, Wanted, belongs_to_data, near_names


def folder(wanted: Wanted) -> list[SourceFile]:
    """Every file below a folder of a volume."""
    place = _place(wanted)
    if place.is_file():
        raise wanted.unusable("it is a file; name the folder that holds config.json and the weights.")
    files = _below(place, wanted)
    if not files:
        raise _missing(place, wanted)
    return files


def data_files(wanted: Wanted) -> list[SourceFile]:
    """The files of a data set: one file, a folder, or `folder/*.jsonl`, in the order of their names."""
    place = _place(wanted)
    if "*" in place.name:
        found = [file for file in _below(place.parent, wanted) if fnmatchcase(file.path, place.name)]
    elif place.is_file():
        found = [_file(place, place.name)]
    else:
        found = [file for file in _below(place, wanted) if belongs_to_data(file.path)]
    if not found:
        raise _missing(place, wanted)
    return found


def _place(wanted: Wanted) -> Path:
    """The local path that a URI names.

    Raises:
        TrainerError: it leads out of its volume, by `..` or by a link, or the volume is not mounted.
    """
    claim, _, path = wanted.uri.removeprefix("pvc://").partition("/")
    root = Path(mounts.VOLUMES_DIRECTORY) / claim
    if ".." in Path(path).parts or claim in {"", ".", ".."}:
        raise wanted.unusable("the path must not contain '..'.")
    if not root.is_dir():
        raise wanted.missing(f"the PersistentVolumeClaim '{claim}' is not mounted at {root}")
    place = root / path
    _stay_inside(place, root, wanted)
    return place


def _stay_inside(path: Path, root: Path, wanted: Wanted) -> None:
    if not path.resolve().is_relative_to(root.resolve()):
        raise wanted.unusable(f"{path.relative_to(root)} is a link out of the volume. Put the file itself there.")


def _below(place: Path, wanted: Wanted) -> list[SourceFile]:
    if not place.is_dir():
        return []
    root = Path(mounts.VOLUMES_DIRECTORY) / wanted.uri.removeprefix("pvc://").partition("/")[0]
    files = []
    for path in sorted(place.rglob("*")):
        relative = path.relative_to(place).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in Path(relative).parts):
            _stay_inside(path, root, wanted)
            files.append(_file(path, relative))
    return files


def _file(path: Path, relative: str) -> SourceFile:
    return SourceFile(relative, path.stat().st_size, partial(_link, path), occupies=False)


def _link(source: Path, target: Path) -> str:
    target.unlink(missing_ok=True)
    target.symlink_to(source.resolve())
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _missing(place: Path, wanted: Wanted) -> Exception:
    beside = (
        [entry.name + ("/" if entry.is_dir() else "") for entry in place.parent.iterdir()]
        if place.parent.is_dir()
        else []
    )
    parent = wanted.uri.rstrip("/").rpartition("/")[0]
    names = [
        f"{parent}/{name}" for name in near_names(place.name, (name for name in beside if not name.startswith(".")))
    ]
    if place.is_dir():
        return wanted.missing(f"{wanted.uri} holds no usable file")
    return wanted.missing(f"there is nothing at {wanted.uri}", names)
