"""Models and data at `s3://`: any bucket that the profile's endpoint and credentials reach."""

from fnmatch import fnmatchcase
from functools import partial
from itertools import islice

from trimtab_trainer.fetch.source import DATA_SUFFIXES, SourceFile, Wanted, belongs_to_data, near_names
from trimtab_trainer.store.object_store import ObjectStore

_LOOK_AROUND = 1000


def split_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/key` as bucket and key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def folder(store: ObjectStore, wanted: Wanted) -> list[SourceFile]:
    """Every object below `s3://bucket/path`, which is a folder whether or not it ends in a slash."""
    bucket, key = split_uri(wanted.uri)
    files = _below(store, bucket, key.rstrip("/") + "/")
    if files:
        return files
    if store.head(key, bucket=bucket) is not None:
        raise wanted.unusable("it is a file; name the folder that holds config.json and the weights.")
    raise _missing(store, wanted)


def data_files(store: ObjectStore, wanted: Wanted) -> list[SourceFile]:
    """The files of a data set: one object, a folder, or `folder/*.jsonl`, in the order of their names."""
    bucket, key = split_uri(wanted.uri)
    parent, _, name = key.rpartition("/")
    if "*" in name:
        found = [file for file in _below(store, bucket, f"{parent}/" if parent else "") if fnmatchcase(file.path, name)]
        if not found:
            raise _missing(store, wanted)
        return found
    if not key.endswith("/"):
        info = store.head(key, bucket=bucket)
        if info is not None:
            return [SourceFile(name, info.size, partial(store.download_file, key, bucket=bucket))]
    below = _below(store, bucket, key.rstrip("/") + "/")
    files = [file for file in below if belongs_to_data(file.path)]
    if below and not files:
        names = ", ".join(near_names(name, (file.path for file in below)))
        raise wanted.missing(f"{wanted.uri} holds no file that ends in {', '.join(DATA_SUFFIXES)}; it holds {names}")
    if not files:
        raise _missing(store, wanted)
    return files


def _below(store: ObjectStore, bucket: str, prefix: str) -> list[SourceFile]:
    return [
        SourceFile(info.key.removeprefix(prefix), info.size, partial(store.download_file, info.key, bucket=bucket))
        for info in store.list(prefix, bucket=bucket)
        if not info.key.endswith("/")
    ]


def _missing(store: ObjectStore, wanted: Wanted) -> Exception:
    bucket, key = split_uri(wanted.uri)
    parent, _, name = key.rstrip("/").rpartition("/")
    prefix = f"{parent}/" if parent else ""
    beside = (info.key.removeprefix(prefix) for info in islice(store.list(prefix, bucket=bucket), _LOOK_AROUND))
    names = {entry.partition("/")[0] + ("/" if "/" in entry else "") for entry in beside}
    near = [f"s3://{bucket}/{prefix}{entry}" for entry in near_names(name, names)]
    return wanted.missing(f"there is nothing at {wanted.uri}", near)
