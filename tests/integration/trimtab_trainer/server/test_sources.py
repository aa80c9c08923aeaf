"""From a real store protocol: what was published is served, what was changed is refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.object_store import BUCKET, admin_client, make_store
from tests.support.serving import VERSIONS, Running, eventually, make_config, publish, put_base, running

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import ServedVersion
from trimtab_trainer.server.sources import StoreSource
from trimtab_trainer.store.object_store import ObjectStore


@asynccontextmanager
async def serving_from(
    store: ObjectStore, endpoint: str, credentials: Path, scratch: Path, *versions: ServedVersion, digest: str = ""
) -> AsyncIterator[Running]:
    base = {"uri": f"s3://{BUCKET}/base", "digest": digest}
    config = make_config(*versions, store=make_store(endpoint).to_json(), baseModel=base)
    async with running(config, StoreSource(scratch, credentials=credentials), wait=False) as server:
        yield server


@pytest.fixture
def base(store: ObjectStore, folders: dict[str, Path]) -> None:
    put_base(store, folders["base"])


@pytest.mark.usefixtures("base")
async def test_a_published_version_is_served_and_a_changed_one_is_not(
    store: ObjectStore, s3_endpoint: str, credentials: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    good, bad = publish(store, folders["tone-v1"], 1), publish(store, folders["tone-v2"], 2)
    key = f"{VERSIONS}/2/adapter_model.safetensors"
    data = bytearray(store.get(key))
    data[-1] ^= 1
    admin_client(s3_endpoint).put_object(Bucket=BUCKET, Key=key, Body=bytes(data))
    async with serving_from(store, s3_endpoint, credentials, tmp_path, good, bad) as server:
        await server.until_ready()
        assert (await server.chat("Hi")).json()["model"] == "tone-v1"
        refused = next(version.error for version in server.versions.report() if version.error)
        assert refused.reason is TrainerReason.DIGEST_MISMATCH
        assert "adapter_model.safetensors has sha256" in str(refused)
        # The bytes come back: so does the version, when the configuration is looked at again.
        store.put(key, (folders["tone-v2"] / "adapter_model.safetensors").read_bytes())
        server.versions.configure(server.versions.config)
        await eventually(lambda: all(version.target for version in server.versions.report()))
        assert (await server.chat("Hi", model="tone-v2")).json()["model"] == "tone-v2"


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    ("changes", "served_changes", "reason", "words"),
    [
        pytest.param({}, {"manifest_sha256": "0" * 64}, "DigestMismatch", "manifestSha256", id="another manifest"),
        pytest.param(
            {}, {"format": "safetensors"}, "ModelInvalid", "is peftAdapter, not safetensors", id="another format"
        ),
        pytest.param(
            {"baseModel": {"uri": "s3://x/y", "digest": "sha256:" + "1" * 64}},
            {},
            "DigestMismatch",
            "was trained on a base model with digest sha256:111",
            id="another base model",
        ),
        pytest.param({}, {"artifact_uri": f"s3://{BUCKET}/nowhere"}, "ModelNotFound", "nowhere", id="not there"),
    ],
)
async def test_the_only_version_is_refused(  # noqa: PLR0917 - a table
    changes: dict[str, Any],
    served_changes: dict[str, Any],
    reason: str,
    words: str,
    store: ObjectStore,
    s3_endpoint: str,
    credentials: Path,
    folders: dict[str, Path],
    tmp_path: Path,
) -> None:
    version = publish(store, folders["tone-v1"], 1, **changes).model_copy(update=served_changes)
    async with serving_from(store, s3_endpoint, credentials, tmp_path, version) as server:
        await eventually(lambda: server.versions.fatal)
        assert server.versions.fatal is not None
        assert server.versions.fatal.reason == reason
        assert words in str(server.versions.fatal)


@pytest.mark.usefixtures("base")
async def test_another_base_model_than_its_digest_is_refused(
    store: ObjectStore, s3_endpoint: str, credentials: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    version = publish(store, folders["tone-v1"], 1)
    digest = "sha256:" + "2" * 64
    async with serving_from(store, s3_endpoint, credentials, tmp_path, version, digest=digest) as server:
        await eventually(server.follower.done)
        assert getattr(server.follower.exception(), "reason", None) is TrainerReason.DIGEST_MISMATCH
        assert (await server.client.get("/readyz")).status_code == 503
