"""What router and vLLM share: the base model is there under its fixed name only when every byte of it is verified."""

from pathlib import Path

import pytest
from tests.support.object_store import BUCKET, make_store
from tests.support.serving import make_config, publish, put_base, served

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.server.vllm.sources import SharedSource
from trimtab_trainer.store.object_store import ObjectStore


@pytest.fixture
def shared(tmp_path: Path, credentials: Path, store: ObjectStore, folders: dict[str, Path]) -> SharedSource:
    put_base(store, folders["base"])
    return SharedSource(tmp_path, credentials=credentials)


def config(endpoint: str, digest: str = "") -> ServerConfig:
    base = {"uri": f"s3://{BUCKET}/base", "digest": digest}
    return make_config(served("tone-v1"), store=make_store(endpoint).to_json(), baseModel=base)


def test_the_base_model_appears_when_it_is_verified(shared: SharedSource, s3_endpoint: str, tmp_path: Path) -> None:
    link = tmp_path / mounts.VLLM_BASE_MODEL.name
    with pytest.raises(TrainerError) as refused:
        shared.base(config(s3_endpoint, digest="sha256:" + "f" * 64))
    assert refused.value.reason is TrainerReason.DIGEST_MISMATCH
    assert not link.exists(), "vLLM waits for it"
    files = shared.base(config(s3_endpoint))
    assert (link / "config.json").read_bytes() == (files.path / "config.json").read_bytes()
    assert link.resolve() == files.path


def test_a_whole_model_appears_in_its_place_when_it_is_verified(
    shared: SharedSource, s3_endpoint: str, store: ObjectStore, folders: dict[str, Path], tmp_path: Path
) -> None:
    link, whole = tmp_path / mounts.VLLM_BASE_MODEL.name, publish(store, folders["base"], 3, format="safetensors")
    whole = whole.model_copy(update={"format": "safetensors"})
    other = whole.model_copy(update={"manifest_sha256": "f" * 64})
    with pytest.raises(TrainerError) as refused:
        shared.whole(config(s3_endpoint), other)
    assert refused.value.reason is TrainerReason.DIGEST_MISMATCH
    assert not link.exists(), "vLLM waits for it"
    shared.whole(config(s3_endpoint), whole)
    assert (link / "config.json").read_bytes() == (folders["base"] / "config.json").read_bytes()


def test_a_router_that_starts_anew_leaves_the_files_alone(
    shared: SharedSource, s3_endpoint: str, credentials: Path, store: ObjectStore, tmp_path: Path
) -> None:
    first = shared.base(config(s3_endpoint))
    store.delete("base/config.json")
    again = SharedSource(tmp_path, credentials=credentials).base(config(s3_endpoint))
    assert again == first
