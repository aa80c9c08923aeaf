"""One S3 store: small, checked operations that know how to retry, verify and explain themselves."""

import hashlib
import mmap
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from tenacity import retry, retry_if_exception, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from urllib3.exceptions import HTTPError

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import Store
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store_client import make_client
from trimtab_trainer.store_errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    http_status,
    is_already_there,
    is_unsupported,
    translate,
)

MIB = 1 << 20
PART_BYTES = 8 * MIB
"""Size of a multipart part and of a ranged read; S3 wants at least 5 MiB."""
_PARTS_GOAL = 1000
"""Larger objects get larger parts, far below S3's limit of 10,000 parts."""
_IN_FLIGHT = 4
_NOT_FOUND = 404
_CONFLICT = 409

Bytes = bytes | memoryview

# A reply whose body breaks off is the one failure that botocore does not retry.
_retry_broken_body = retry(
    retry=retry_if_exception_type(
        (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, ConnectionClosedError, HTTPError)
    ),
    stop=stop_after_attempt(4),
    wait=wait_random_exponential(multiplier=0.2, max=5),
    reraise=True,
)
# S3 answers 409 when two conditional writes of a key meet, and asks to begin again.
_retry_conflict = retry(
    retry=retry_if_exception(lambda error: isinstance(error, ClientError) and http_status(error) == _CONFLICT),
    stop=stop_after_attempt(4),
    wait=wait_random_exponential(multiplier=0.2, max=5),
    reraise=True,
)


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing or a HEAD says about one object."""

    key: str
    size: int
    etag: str
    modified: datetime
    metadata: Mapping[str, str]


class ObjectStore:
    """One S3 endpoint with its credentials, and the profile's bucket unless a call names another. Safe to share by threads.

    Every method raises TrainerError: `StorageAccessDenied`, `StorageNotFound` or `StorageUnavailable`, the last one only
    after bounded retries.
    """

    def __init__(self, client: Any, config: Store) -> None:
        self._client, self._config = client, config
        self._pool = ThreadPoolExecutor(2 * _IN_FLIGHT, thread_name_prefix="store")
        self._conditional_writes = True

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
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def client(self) -> Any:
        """The S3 client itself, for the conformance probe and for tests."""
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
        """Size and times of one object, or None where there is none."""
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
            return self._get(Bucket=bucket or self.bucket, Key=key)

    def chunks(self, key: str, *, bucket: str | None = None) -> Iterator[bytes]:
        """An object's bytes in order, fetched as parallel ranges of one and the same version."""
        info = self.head(key, bucket=bucket)
        if info is None:
            raise self._missing(key, bucket)
        if info.size <= PART_BYTES:
            yield self.get(key, bucket=bucket)
            return
        request = {"Bucket": bucket or self.bucket, "Key": key, "IfMatch": info.etag}
        ranges = [
            f"bytes={start}-{min(start + PART_BYTES, info.size) - 1}" for start in range(0, info.size, PART_BYTES)
        ]
        waiting: deque[Future[bytes]] = deque()
        with self._translated("read", key, bucket):
            try:
                for piece in ranges:
                    waiting.append(self._pool.submit(self._get, **request, Range=piece))
                    if len(waiting) > _IN_FLIGHT:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                _settle(waiting)

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

    def put(
        self,
        key: str,
        data: Bytes,
        *,
        bucket: str | None = None,
        if_absent: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write a small object in one request.

        Args:
            key: where.
            data: what.
            bucket: another bucket than the profile's.
            if_absent: never overwrite. Finding the same bytes there is success: an earlier try was applied and its reply lost.
            metadata: user metadata of the object.

        Raises:
            ObjectExistsError: with `if_absent`, when other bytes are there.
        """
        self.upload([data], key, bucket=bucket, if_absent=if_absent, metadata=metadata)

    def upload_file(
        self,
        path: Path,
        key: str,
        *,
        bucket: str | None = None,
        if_absent: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Write a local file; the SHA-256 (64 hex digits) of the bytes that were sent. See `put` for the arguments."""
        if path.stat().st_size == 0:
            return self.upload([b""], key, bucket=bucket, if_absent=if_absent, metadata=metadata)
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            return self.upload([view], key, bucket=bucket, if_absent=if_absent, metadata=metadata)

    def upload(
        self,
        pieces: Sequence[Bytes],
        key: str,
        *,
        bucket: str | None = None,
        if_absent: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Write pieces of memory as one object, in parts where it is large; the SHA-256 of the bytes that were sent.

        See `put` for the arguments and errors.
        """
        request = {"Bucket": bucket or self.bucket, "Key": key}
        described = {**request, "Metadata": dict(metadata or {})}
        size = sum(len(piece) for piece in pieces)
        with self._translated("write", key, bucket):
            if if_absent and self.head(key, bucket=bucket) is not None:
                return self._same_bytes(pieces, key, bucket)
            try:
                if size <= PART_BYTES:
                    return self._put(b"".join(pieces), described, if_absent=if_absent)
                return self._upload_parts(pieces, described, request, if_absent=if_absent)
            except ClientError as error:
                if is_already_there(error):
                    return self._same_bytes(pieces, key, bucket)
                raise

    def delete(self, key: str, *, bucket: str | None = None) -> None:
        """Remove an object; one that is not there is fine."""
        with self._translated("delete", key, bucket):
            self._client.delete_object(Bucket=bucket or self.bucket, Key=key)

    def abort_uploads(self, prefix: str, *, older_than: datetime) -> int:
        """Drop unfinished multipart uploads below a prefix that began before a moment; how many there were."""
        aborted = 0
        with self._translated("list uploads of", prefix, None):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=prefix
            ):
                for upload in page.get("Uploads", ()):
                    if upload["Key"].startswith(prefix) and upload["Initiated"] < older_than:
                        self._abort({"Bucket": self.bucket, "Key": upload["Key"]}, upload["UploadId"])
                        aborted += 1
        return aborted

    # Inside

    @_retry_broken_body
    def _get(self, **request: Any) -> bytes:
        reply = self._client.get_object(**request)
        with reply["Body"] as body:
            return bytes(body.read())

    @_retry_conflict
    def _put(self, data: bytes, described: dict[str, Any], *, if_absent: bool) -> str:
        self._conditionally(self._client.put_object, if_absent=if_absent, **described, Body=data)
        return hashlib.sha256(data).hexdigest()

    @_retry_conflict
    def _upload_parts(
        self, pieces: Sequence[Bytes], described: dict[str, Any], request: dict[str, Any], *, if_absent: bool
    ) -> str:
        upload = self._client.create_multipart_upload(**described)["UploadId"]
        digest, etags = hashlib.sha256(), list[str]()
        waiting: deque[Future[Any]] = deque()
        try:
            for number, part in enumerate(_parts(pieces), start=1):
                waiting.append(
                    self._pool.submit(
                        self._client.upload_part, **request, UploadId=upload, PartNumber=number, Body=part
                    )
                )
                digest.update(part)
                if len(waiting) >= _IN_FLIGHT:
                    etags.append(waiting.popleft().result()["ETag"])
            etags += [future.result()["ETag"] for future in waiting]
            listing = {"Parts": [{"ETag": etag, "PartNumber": number} for number, etag in enumerate(etags, start=1)]}
            self._conditionally(
                self._client.complete_multipart_upload,
                if_absent=if_absent,
                **request,
                UploadId=upload,
                MultipartUpload=listing,
            )
        except BaseException:
            _settle(waiting)
            self._abort(request, upload)
            raise
        return digest.hexdigest()

    def _conditionally(self, write: Any, *, if_absent: bool, **request: Any) -> None:
        if not (if_absent and self._conditional_writes):
            write(**request)
            return
        try:
            write(**request, IfNoneMatch="*")
        except ClientError as error:
            if not is_unsupported(error):
                raise
            self._conditional_writes = False
            write(**request)

    def _same_bytes(self, pieces: Sequence[Bytes], key: str, bucket: str | None) -> str:
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        if self.read_sha256(key, bucket=bucket) != digest.hexdigest():
            raise ObjectExistsError(
                TrainerReason.TRAINER_ERROR,
                f"{self.uri(key, bucket)} is written once, and holds other bytes already: another process writes there.",
            )
        return digest.hexdigest()

    def _abort(self, request: dict[str, Any], upload: str) -> None:
        try:
            self._client.abort_multipart_upload(**request, UploadId=upload)
        except (ClientError, BotoCoreError):
            return  # The sweep at the end of the job finds what stays behind.

    def _missing(self, key: str, bucket: str | None) -> ObjectNotFoundError:
        return ObjectNotFoundError(TrainerReason.STORAGE_NOT_FOUND, f"{self.uri(key, bucket)} does not exist.")

    @contextmanager
    def _translated(self, action: str, key: str, bucket: str | None) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, HTTPError, OSError) as error:
            if isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") == "NoSuchKey":
                raise self._missing(key, bucket) from error
            raise translate(error, store=self._config, action=action, uri=self.uri(key, bucket)) from error


def _parts(pieces: Sequence[Bytes]) -> Iterator[bytes]:
    """Cut pieces of memory into parts of equal size (the last one is shorter)."""
    size = max(PART_BYTES, -(-sum(len(piece) for piece in pieces) // _PARTS_GOAL))
    part = bytearray()
    for piece in pieces:
        start = 0
        while start < len(piece):
            taken = min(size - len(part), len(piece) - start)
            if not part and taken == size:
                yield bytes(piece[start : start + taken])
            else:
                part += piece[start : start + taken]
                if len(part) == size:
                    yield bytes(part)
                    part.clear()
            start += taken
    if part:
        yield bytes(part)


def _settle(waiting: deque[Future[Any]]) -> None:
    """Cancel what has not begun and wait for the rest, so that no thread writes behind the caller's back."""
    for future in waiting:
        future.cancel()
    for future in waiting:
        if not future.cancelled():
            future.exception()
