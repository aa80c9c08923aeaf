"""Moving bytes: multipart uploads, ranged reads, and the two failures that botocore does not retry by itself."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

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

from trimtab_trainer.daemon_threads import DaemonThreads
from trimtab_trainer.store.errors import http_status, is_unsupported

MIB = 1 << 20
PART_BYTES = 8 * MIB
"""Size of a multipart part and of a ranged read; S3 wants at least 5 MiB."""
_PARTS_GOAL = 1000
"""Larger objects get larger parts, far below S3's limit of 10,000 parts."""
_IN_FLIGHT = 4
_CONFLICT = 409

Bytes = bytes | memoryview

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


class Transfers:
    """Reads and writes of one client, several parts at a time. Raises botocore's errors."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._threads = DaemonThreads(2 * _IN_FLIGHT, name="store")
        self._conditional_writes = True

    def close(self) -> None:
        """Give the threads back."""
        self._threads.close()

    @_retry_broken_body
    def get(self, **request: Any) -> bytes:
        """An object, or a range of it."""
        reply = self._client.get_object(**request)
        with reply["Body"] as body:
            return bytes(body.read())

    def ranges(self, size: int, **request: Any) -> Iterator[bytes]:
        """An object of a known size in order, read as parallel ranges."""
        waiting: deque[Future[bytes]] = deque()
        try:
            for start in range(0, size, PART_BYTES):
                last = min(start + PART_BYTES, size) - 1
                waiting.append(self._threads.submit(partial(self.get, **request, Range=f"bytes={start}-{last}")))
                if len(waiting) > _IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            _settle(waiting)

    def write(
        self, pieces: Sequence[Bytes], request: Mapping[str, Any], *, metadata: Mapping[str, str], if_absent: bool
    ) -> str:
        """Write pieces of memory as one object; the SHA-256 of the bytes that were sent."""
        described = {**request, "Metadata": dict(metadata)}
        if sum(len(piece) for piece in pieces) <= PART_BYTES:
            return self._put(b"".join(pieces), described, if_absent=if_absent)
        return self._put_parts(pieces, request, described, if_absent=if_absent)

    @_retry_conflict
    def _put(self, data: bytes, described: Mapping[str, Any], *, if_absent: bool) -> str:
        self._conditionally(self._client.put_object, if_absent=if_absent, **described, Body=data)
        return hashlib.sha256(data).hexdigest()

    @_retry_conflict
    def _put_parts(
        self, pieces: Sequence[Bytes], request: Mapping[str, Any], described: Mapping[str, Any], *, if_absent: bool
    ) -> str:
        upload = self._client.create_multipart_upload(**described)["UploadId"]
        try:
            digest, etags = self._send_parts(pieces, {**request, "UploadId": upload})
            listing = {"Parts": [{"ETag": etag, "PartNumber": number} for number, etag in enumerate(etags, start=1)]}
            self._conditionally(
                self._client.complete_multipart_upload,
                if_absent=if_absent,
                **request,
                UploadId=upload,
                MultipartUpload=listing,
            )
        except BaseException:
            self.abort(request, upload)
            raise
        return digest

    def _send_parts(self, pieces: Sequence[Bytes], request: Mapping[str, Any]) -> tuple[str, list[str]]:
        digest, etags = hashlib.sha256(), list[str]()
        waiting: deque[Future[Any]] = deque()
        try:
            for number, part in enumerate(parts(pieces), start=1):
                send = partial(self._client.upload_part, **request, PartNumber=number, Body=part)
                waiting.append(self._threads.submit(send))
                digest.update(part)
                if len(waiting) >= _IN_FLIGHT:
                    etags.append(waiting.popleft().result()["ETag"])
            etags += [future.result()["ETag"] for future in waiting]
        except BaseException:
            _settle(waiting)
            raise
        return digest.hexdigest(), etags

    def abort(self, request: Mapping[str, Any], upload: str) -> None:
        """Drop an unfinished multipart upload, as well as may be: the sweep at the end of a job finds what stays."""
        try:
            self._client.abort_multipart_upload(**request, UploadId=upload)
        except (ClientError, BotoCoreError):
            return

    def _conditionally(self, write: Callable[..., Any], *, if_absent: bool, **request: Any) -> None:
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


def parts(pieces: Sequence[Bytes]) -> Iterator[bytearray]:
    """Cut pieces of memory into parts of equal size; the last one is shorter."""
    size = max(PART_BYTES, -(-sum(len(piece) for piece in pieces) // _PARTS_GOAL))
    part = bytearray()
    for piece in pieces:
        start = 0
        while start < len(piece):
            taken = piece[start : start + size - len(part)]
            part += taken
            start += len(taken)
            if len(part) == size:
                yield part
                part = bytearray()
    if part:
        yield part


def _settle(waiting: deque[Future[Any]]) -> None:
    """Cancel what has not begun and wait for the rest, so that no thread writes behind the caller's back."""
    for future in waiting:
        future.cancel()
    for future in waiting:
        if not future.cancelled():
            future.exception()
