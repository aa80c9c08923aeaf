"""What every source of models and data has in common: names, near misses, room on the disk, parallel and hashed copies."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import sha256_hex
from trimtab_trainer.contract.spec import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.scratch_space import require_room

DATA_SUFFIXES = (".jsonl", ".csv", ".parquet")
MEDIA_SUFFIXES = (*IMAGE_SUFFIXES, *AUDIO_SUFFIXES)
"""What rows may name; in a folder without rows each such file is one."""
_PARALLEL_FILES = 4
_SHOWN = 5


@dataclass(frozen=True)
class Wanted:
    """What a source is asked for, in the words of its error messages."""

    uri: str
    field: str
    """The field of the FineTuneJob that names it."""
    not_found: TrainerReason
    invalid: TrainerReason

    def missing(self, what: str, near: Iterable[str] = ()) -> TrainerError:
        """It is not there. `near` is what is there instead."""
        names = list(near)
        there = f" There is: {', '.join(names)}." if names else ""
        return TrainerError(
            self.not_found, f"`{self.field}` must name something that exists: {what}.{there} Correct the URI."
        )

    def unusable(self, what: str) -> TrainerError:
        """It is there and cannot be used. `what` says why and what to do."""
        return TrainerError(self.invalid, f"`{self.field}` '{self.uri}': {what}")


def wanted_model(uri: str) -> Wanted:
    """A base model."""
    return Wanted(uri, "model.uri", TrainerReason.MODEL_NOT_FOUND, TrainerReason.MODEL_INVALID)


def wanted_dataset(uri: str, field: str) -> Wanted:
    """A data set."""
    return Wanted(uri, field, TrainerReason.DATASET_NOT_FOUND, TrainerReason.DATASET_INVALID)


@dataclass(frozen=True)
class SourceFile:
    """One file at a source."""

    path: str
    """Relative, with `/`."""
    size: int
    fetch: Callable[[Path], str]
    """Makes it appear at a local path; returns the SHA-256 (64 hex digits) of its bytes."""
    occupies: bool = True
    """Whether it takes room on the local disk."""


def materialize(files: Sequence[SourceFile], directory: Path, *, wanted: Wanted) -> dict[str, tuple[int, str]]:
    """Bring files below a directory, several at a time.

    Returns:
        `{path: (size, sha256)}`, as `listing_digest` takes it.

    Raises:
        TrainerError: `WillNotFit` before the first byte where the disk has no room.
    """
    directory.mkdir(parents=True, exist_ok=True)
    needed = sum(file.size for file in files if file.occupies)
    require_room(directory, needed, what=f"`{wanted.field}` '{wanted.uri}'")
    targets = [directory / safe_path(file.path, wanted) for file in files]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_PARALLEL_FILES, thread_name_prefix="fetch") as pool:
        digests = list(pool.map(lambda file, target: file.fetch(target), files, targets))
    return {
        file.path: (target.stat().st_size, sha256) for file, target, sha256 in zip(files, targets, digests, strict=True)
    }


def safe_path(path: str, wanted: Wanted) -> PurePosixPath:
    """A relative path that stays below the folder it is joined to."""
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path or "\0" in path:
        raise wanted.unusable(f"the file name '{path}' leads out of its folder. Rename it.")
    return parts


def belongs_to_data(path: str) -> bool:
    """Whether a file of a data folder is fetched: rows, and what they may name."""
    return path.endswith(DATA_SUFFIXES) or path.lower().endswith(MEDIA_SUFFIXES)


def row_files(paths: Sequence[Path]) -> list[Path]:
    """The files that hold the rows: not the media beside them, unless there is nothing else."""
    return [path for path in paths if not path.name.lower().endswith(MEDIA_SUFFIXES)] or list(paths)


def own_directory(directory: Path, *identity: str) -> Path:
    """A sub-folder for one source, so that several may share a directory."""
    return directory / sha256_hex("\n".join(identity).encode())[:16]


def near_names(name: str, candidates: Iterable[str]) -> list[str]:
    """What a person may have meant, closest first; else the first few that are there."""
    names = sorted(set(candidates))
    return difflib.get_close_matches(name, names, n=_SHOWN, cutoff=0.5) or names[:_SHOWN]
