"""Puts the assets into the store: `s3://<bucket>/assets/{models,data}/<name>/<file>`. What is there already stays.

Usage: python dev/demo/upload.py [NAME...]      needs the environment of `make env`
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
from assets import CATALOGUE, Asset, ensure
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from common import StepFailedError, say, step

_DIGEST = "sha256"
"""Key of the objects' metadata that says what the bytes are: an ETag does not where an upload had several parts."""


def store() -> Any:
    """A client of the store that the environment names."""
    return boto3.client(
        "s3",
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL"),
        region_name=os.environ.get("AWS_REGION", "us-east-1"),
    )


def bucket() -> str:
    """The bucket that the environment names."""
    return os.environ.get("TRIMTAB_BUCKET", "trimtab")


def upload(assets: Sequence[Asset]) -> None:
    """Upload every file that is not there yet with the same bytes."""
    try:
        _upload(assets)
    except (Boto3Error, BotoCoreError, ClientError) as error:
        where = os.environ.get("AWS_ENDPOINT_URL", "AWS")
        raise StepFailedError(f"The store at {where} (bucket {bucket()}) refused: {error}") from error


def _upload(assets: Sequence[Asset]) -> None:
    client = store()
    wanted = [
        (file, f"assets/{asset.kind}/{asset.name}/{file.relative_to(asset.link)}")
        for asset in assets
        for file in _files(asset)
    ]
    digests = {file: _sha256(file) for file, _ in wanted}
    missing = [(file, key) for file, key in wanted if not _is_there(client, key, digests[file])]
    if not missing:
        say(f"   {len(wanted)} files of {len(assets)} assets are in s3://{bucket()}/assets/ already")
        return
    size = sum(file.stat().st_size for file, _ in missing) / 1e6
    with step(f"Uploading {len(missing)} files ({size:.0f} MB) to s3://{bucket()}/assets/", "2-10 s"):
        for file, key in missing:
            client.upload_file(str(file), bucket(), key, ExtraArgs={"Metadata": {_DIGEST: digests[file]}})


def _files(asset: Asset) -> list[Path]:
    return sorted(file for file in asset.link.rglob("*") if file.is_file())


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _is_there(client: Any, key: str, digest: str) -> bool:
    try:
        found = client.head_object(Bucket=bucket(), Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:  # noqa: PLR2004 - not found
            return False
        raise
    return bool(found["Metadata"].get(_DIGEST) == digest)


if __name__ == "__main__":
    try:
        upload(ensure(sys.argv[1:] or list(CATALOGUE)))
    except StepFailedError as error:
        sys.exit(str(error))
