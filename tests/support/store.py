"""The S3 store of `make env`, as a test sees it from outside."""

import json
import os
from typing import Any

import boto3
from botocore.config import Config


class Bucket:
    """The project's bucket, with the administrator's credentials."""

    def __init__(self) -> None:
        self.name = os.environ["TRIMTAB_BUCKET"]
        self.client = boto3.client(
            "s3",
            endpoint_url=os.environ["AWS_ENDPOINT_URL"],
            region_name=os.environ.get("AWS_REGION", "us-east-1"),
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    def below(self, *parts: str) -> str:
        """The key of something that the runs write: `make env`'s prefix, then the parts."""
        prefix = os.environ.get("TRIMTAB_PREFIX", "")
        return "/".join((prefix, *parts) if prefix else parts)

    def keys(self, prefix: str) -> list[str]:
        """All keys below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def clear(self, prefix: str) -> None:
        """Delete everything below a prefix: a namespace of an earlier run left its models there, and their numbers are taken."""
        for key in self.keys(prefix):
            self.client.delete_object(Bucket=self.name, Key=key)

    def read(self, key: str) -> bytes:
        """One object's bytes."""
        body: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def write(self, key: str, data: bytes) -> None:
        """Write one object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def lines(self, key: str) -> list[dict[str, Any]]:
        """A JSONL object."""
        return [json.loads(line) for line in self.read(key).decode().splitlines()]

    def flip_a_byte(self, key: str) -> None:
        """Change one bit in the middle of an object, as a bad disk would."""
        data = bytearray(self.read(key))
        data[len(data) // 2] ^= 0x01
        self.write(key, bytes(data))
