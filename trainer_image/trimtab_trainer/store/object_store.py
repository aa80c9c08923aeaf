"""One S3 store: small, checked operations that know how to retry, verify and explain themselves."""

import hashlib
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import Store
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store.client import make_client
from trimtab_trainer.store.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    error_code,
    http_status,
    is_already_there,
    translate,
)
from trimtab_trainer.store.transfer import PART_BYTES, Bytes, Transfers

_NOT_FOUND = 404


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing or a HEAD says about one object."""

    key: str
    size: int
    etag: str
    modified: datetime
    metadata: Mapping[str, str]
    """User metadata; a listing has none."""


class ObjectStore:
    """One S3 endpoint with its credentials, and the profile's bucket unless a call names another. Threads may share it.

    Every method raises TrainerError: `StorageAccessDenied`, `StorageNotFound`, or `StorageUnavailable` after bounded retries.
    """

    def __init__(self, client: Any, config: Store) -> None:
        self._client, self._config = client, config
        self._transfers = Transfers(client)

    @classmethod
    def open(cls, store: Store, *, credentials: Path = Path(mounts.CREDENTIALS_DIRECTORY)) -> Self:
        """Connect, and find out at once whether endpoint, credentials and bucket are right.

        Args:
            store: the StorageProfile's part of the RunConfig.
            credentials: where the Secret's keys are mounted as files.

        Raises:
            TrainerError: also `StorageSecretMissing` and `ConfigInvalid`, see `make_client`.
        """
        opened = cls(make_client(store, credentials=credentials), store)
        try:
            next(opened.list(store.prefix), None)
        except TrainerError:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        """Give back connections and threads."""
        self._transfers.close()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def client(self) -> Any:
        """The S3 client itself, for the conformance probe."""
        return self._client

    @property
    def bucket(self) -> str:
        """The profile's bucket."""
        return self._config.bucket

    def uri(self, key: str, bucket: str | None = None) -> str:
        """`s3://` URI of a key."""
        return f"s3://{bucket or self.bucket}/{key}"

    # Reading

    def list(self, prefix: str, *, bucket: str | None = None) -> Iterator[ObjectInfo]:
        """All objects below a key prefix, in the order of their keys."""
        with self._translated("list", prefix, bucket):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket or self.bucket, Prefix=prefix)
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield ObjectInfo(entry["Key"], entry["Size"], entry.get("ETag", ""), entry["LastModified"], {})

    def head(self, key: str, *, bucket: str | None = None) -> ObjectInfo | None:
        """Size, time and metadata of one object, or None where there is none."""
        with self._translated("read", key, bucket):
            try:
                reply = self._client.head_object(Bucket=bucket or self.bucket, Key=key)
            except ClientError as error:
                if http_status(error) == _NOT_FOUND:
                    return None
                raise
        return ObjectInfo(
            key, reply["ContentLength"], reply.get("ETag", ""), reply["LastModified"], reply.get("Metadata", {})
        )

    def get(self, key: str, *, bucket: str | None = None) -> bytes:
        """A whole object. A missing one is an ObjectNotFoundError."""
        with self._translated("read", key, bucket):
            return self._transfers.get(Bucket=bucket or self.bucket, Key=key)

    def chunks(self, key: str, *, bucket: str | None = None) -> Iterator[bytes]:
        """An object's bytes in order, fetched as parallel ranges of one and the same version."""
        info = self.head(key, bucket=bucket)
        # A HEAD's 404 has no body that says what is missing: the GET says whether it is the object, the bucket or the user.
        if info is None or info.size <= PART_BYTES:
            yield self.get(key, bucket=bucket)
            return
        with self._translated("read", key, bucket):
            yield from self._transfers.ranges(info.size, Bucket=bucket or self.bucket, Key=key, IfMatch=info.etag)

    def download_file(self, key: str, path: Path, *, bucket: str | None = None) -> str:
        """Write an object to a local file; the SHA-256 (64 hex digits) of the bytes that were written."""
        digest = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in self.chunks(key, bucket=bucket):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def read_sha256(self, key: str, *, bucket: str | None = None) -> str:
        """Read an object back; the SHA-256 (64 hex digits) of what the store holds."""
        digest = hashlib.sha256()
        for chunk in self.chunks(key, bucket=bucket):
            digest.update(chunk)
        return digest.hexdigest()

    # Writing

    def put(self, key: str, data: Bytes, *, if_absent: bool = False, metadata: Mapping[str, str] | None = None) -> None:
        """Write an object to the profile's bucket; see `upload`."""
        self.upload([data], key, if_absent=if_absent, metadata=metadata)

    def upload_file(
        self, path: Path, key: str, *, if_absent: bool = False, metadata: Mapping[str, str] | None = None
    ) -> str:
        """Write a local file to the profile's bucket; see `upload`."""
        if path.stat().st_size == 0:
            return self.upload([b""], key, if_absent=if_absent, metadata=metadata)
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            return self.upload([view], key, if_absent=if_absent, metadata=metadata)

    def upload(
        self, pieces: Sequence[Bytes], key: str, *, if_absent: bool = False, metadata: Mapping[str, str] | None = None
    ) -> str:
        """Write pieces of memory as one object to the profile's bucket, in parallel parts where it is large.

        Args:
            pieces: the object's bytes, one after the other.
            key: where.
            if_absent: never overwrite. Finding the same bytes there is success: an earlier try was applied, its reply lost.
            metadata: user metadata of the object.

        Returns:
            The SHA-256 (64 hex digits) of the bytes that were sent.

        Raises:
            ObjectExistsError: with `if_absent`, when other bytes are there.
        """
        with self._translated("write", key):
            # If-None-Match alone is not enough: some stores ignore it.
            if if_absent and self.head(key) is not None:
                return self._same_bytes(pieces, key)
            try:
                request = {"Bucket": self.bucket, "Key": key}
                return self._transfers.write(pieces, request, metadata=metadata or {}, if_absent=if_absent)
            except ClientError as error:
                if not is_already_there(error):
                    raise
                if self.head(key) is None:
                    raise TrainerError(
                        TrainerReason.STORAGE_UNAVAILABLE,
                        f"{self.uri(key)}: the store dropped the upload before it was complete. "
                        "A lifecycle rule for unfinished uploads must leave them a day.",
                    ) from error
                return self._same_bytes(pieces, key)

    def delete(self, key: str) -> None:
        """Remove an object of the profile's bucket; one that is not there is fine."""
        with self._translated("delete", key):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def abort_uploads(self, prefix: str, *, older_than: datetime, dead: Callable[[str], bool] = lambda _: True) -> int:
        """Drop unfinished multipart uploads of dead keys below a prefix that began before a moment; how many there were."""
        aborted = 0
        with self._translated("list uploads of", prefix):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=prefix
            ):
                for upload in page.get("Uploads", ()):
                    key = upload["Key"]
                    if key.startswith(prefix) and upload["Initiated"] < older_than and dead(key):
                        self._transfers.abort({"Bucket": self.bucket, "Key": key}, upload["UploadId"])
                        aborted += 1
        return aborted

    def _same_bytes(self, pieces: Sequence[Bytes], key: str) -> str:
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        if self.read_sha256(key) != digest.hexdigest():
            raise ObjectExistsError(
                TrainerReason.TRAINER_ERROR,
                f"{self.uri(key)} is written once, and holds other bytes already: another process writes there.",
            )
        return digest.hexdigest()

    def _missing(self, key: str, bucket: str | None) -> ObjectNotFoundError:
        return ObjectNotFoundError(TrainerReason.STORAGE_NOT_FOUND, f"{self.uri(key, bucket)} does not exist.")

    @contextmanager
    def _translated(self, action: str, key: str, bucket: str | None = None) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, HTTPError, OSError) as error:
            if isinstance(error, ClientError) and error_code(error) == "NoSuchKey":
                raise self._missing(key, bucket) from error
            raise translate(error, store=self._config, action=action, uri=self.uri(key, bucket)) from error
