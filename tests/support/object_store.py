"""An S3 server for tests: moto's, in this process, on a free port of the loopback interface."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
from moto import backends
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler

from trimtab_trainer.contract.run_config import RunConfig, Store

BUCKET = "trimtab"
ACCESS_KEY = "testing-key"
SECRET_KEY = "testing-secret"
SMALL_PART_BYTES = 64 * 1024
"""A part size for tests of multipart uploads that shall not move megabytes."""


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto's S3 server; its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    services = tuple(backends.list_of_moto_modules())
    with (
        # moto looks through its 175 folders for each request: a tenth of the time of a test with a store.
        patch.object(backends, "list_of_moto_modules", lambda: services),
        # A body would wait 40 ms for the client to acknowledge its headers.
        patch.object(WSGIRequestHandler, "disable_nagle_algorithm", new=True),
    ):
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()


def admin_client(endpoint: str, *, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Any:
    """A plain boto3 client, to prepare and inspect a store from outside."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
    )


def write_credentials(directory: Path, *, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Path:
    """Lay out a mounted Secret, as the kubelet does: the keys are links into a folder behind the link `..data`."""
    version = directory / f"..{len(list(directory.iterdir())) if directory.exists() else 0}"
    version.mkdir(parents=True)
    (version / "AWS_ACCESS_KEY_ID").write_text(access_key)
    (version / "AWS_SECRET_ACCESS_KEY").write_text(secret_key + "\n")
    link = directory / "..new"
    link.symlink_to(version.name)
    os.replace(link, directory / "..data")  # noqa: PTH105 - replaces a link, as the kubelet does
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if not (directory / key).is_symlink():
            (directory / key).symlink_to(f"..data/{key}")
    return directory


def make_store(endpoint: str, **changes: Any) -> Store:
    """The `store` of a RunConfig for a test server."""
    return Store(**{"profile": "default", "endpoint": endpoint, "bucket": BUCKET, "prefix": "runs", **changes})


def make_run_config(store: Store, *, changes: dict[str, Any] | None = None, **fields: Any) -> RunConfig:
    """A small valid RunConfig.

    Args:
        store: where to.
        changes: parts of the wire form to add or replace, one level deep: `{"checkpoints": {"keepLast": 1}}`.
        fields: top-level fields to replace, in Python's spelling.
    """
    document: dict[str, Any] = {
        "job": {"namespace": "team", "name": "tone", "uid": "uid-1"},
        "attempt": 1,
        "model": {"uri": "s3://models/base"},
        "task": {"causalLanguageModeling": {}},
        "objective": {"supervised": {}},
        "method": {"lora": {}},
        "data": {"train": [{"uri": "s3://data/train.jsonl"}]},
        "training": {},
        "distribution": {},
        "checkpoints": {},
        "output": {"modelName": "tone"},
        "store": store.to_json(),
    }
    for name, change in (changes or {}).items():
        document[name] = {**document.get(name, {}), **change} if isinstance(change, dict) else change
    return RunConfig.model_validate(document).model_copy(update=fields)
