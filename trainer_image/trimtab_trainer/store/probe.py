"""Does this store keep what the commit protocol relies on? A conformance probe whose result is shown on the StorageProfile."""

import logging
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from trimtab_trainer.contract.manifests import job_prefix
from trimtab_trainer.contract.messages import StoreProbe
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store.errors import http_status, is_unsupported, translate
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.store.transfer import MIB

_WRITERS = 16
_ROUNDS = 3
"""A race shows itself by chance: three rounds find a store that loses one in three almost always."""
_MULTIPART_BYTES = 9 * MIB
_CREATED = "created"


def probe_store(store: ObjectStore, config: RunConfig) -> StoreProbe:
    """Try what the commit protocol relies on, below the job's own prefix, and clean up.

    No safety rests on the result: a store without atomic conditional writes works, and the profile says so.

    Args:
        store: the store to probe.
        config: whose prefix to use.

    Raises:
        TrainerError: the store cannot be reached or denies access.
    """
    prefix = f"{job_prefix(config.store, config.job)}/probe/{uuid.uuid4().hex[:12]}"
    problems: list[str] = []
    try:
        conditional = _conditional_writes(store, config, prefix, problems)
        read = _read_after_write(store, f"{prefix}/read", problems)
        listed = _list_after_write(store, f"{prefix}/list/", problems)
        multipart = _multipart(store, f"{prefix}/multipart", problems)
    finally:
        _clean_up(store, prefix)
    return StoreProbe(
        conditional_writes=conditional,
        read_after_write=read,
        list_after_write=listed,
        multipart=multipart,
        checked_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        message=" ".join(problems),
    )


def _conditional_writes(store: ObjectStore, config: RunConfig, prefix: str, problems: list[str]) -> bool:
    for number in range(_ROUNDS):
        key = f"{prefix}/conditional-{number}"
        start = threading.Barrier(_WRITERS)

        def write(writer: int, key: str = key, start: threading.Barrier = start) -> str:
            start.wait(timeout=60)
            return _create(store, config, key, f"writer {writer}".encode())

        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="probe") as pool:
            outcomes = list(pool.map(write, range(_WRITERS)))
        if "unsupported" in outcomes:
            problems.append("The store does not know If-None-Match.")
            return False
        winners = [writer for writer, outcome in enumerate(outcomes) if outcome == _CREATED]
        if len(winners) != 1:
            problems.append(f"Of {_WRITERS} concurrent If-None-Match writes {len(winners)} were accepted, not 1.")
            return False
        if store.get(key) != f"writer {winners[0]}".encode():
            problems.append("A refused If-None-Match write replaced the accepted one.")
            return False
    return True


def _create(store: ObjectStore, config: RunConfig, key: str, data: bytes) -> str:
    """One raw conditional write: ObjectStore.put would read and compare where the store refuses."""
    try:
        store.client.put_object(Bucket=store.bucket, Key=key, Body=data, IfNoneMatch="*")
    except ClientError as error:
        if http_status(error) in {409, 412}:
            return "refused"
        if is_unsupported(error):
            return "unsupported"
        raise translate(error, store=config.store, action="write", uri=store.uri(key)) from error
    return _CREATED


def _read_after_write(store: ObjectStore, key: str, problems: list[str]) -> bool:
    for data in (b"first", b"second"):
        store.put(key, data)
        if store.get(key) != data:
            problems.append("A read after a write returned older bytes.")
            return False
    return True


def _list_after_write(store: ObjectStore, prefix: str, problems: list[str]) -> bool:
    keys = [f"{prefix}{number}" for number in range(3)]
    for key in keys:
        store.put(key, b"listed")
        if key not in {info.key for info in store.list(prefix)}:
            problems.append("A listing after a write does not show the object.")
            return False
    store.delete(keys[1])
    if {info.key for info in store.list(prefix)} != {keys[0], keys[2]}:
        problems.append("A listing after a deletion still shows the object.")
        return False
    return True


def _multipart(store: ObjectStore, key: str, problems: list[str]) -> bool:
    try:
        sent = store.upload([os.urandom(_MULTIPART_BYTES)], key)
    except TrainerError as error:
        problems.append(f"A multipart upload failed: {error}")
        return False
    if store.read_sha256(key) != sent:
        problems.append("A multipart upload came back with other bytes.")
        return False
    return True


def _clean_up(store: ObjectStore, prefix: str) -> None:
    try:
        for info in store.list(prefix):
            store.delete(info.key)
    except TrainerError as error:
        logging.getLogger(__name__).warning("probe_not_cleaned_up prefix=%s why=%s", prefix, error)
