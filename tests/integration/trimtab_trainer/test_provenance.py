"""What a run says about the model that it publishes."""

import json
from hashlib import sha256
from pathlib import Path

from huggingface_hub import ModelCard
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.manifests import config_sha256


def test_a_run_states_the_files_that_it_publishes(storage: MemoryStorage, job_files: Path, tmp_path: Path) -> None:
    config = make_job(training={"maxSteps": 1})

    ended = run_job(config, tmp_path / "run")

    assert ended.code == 0, ended.message.message
    published = storage.published["path"]
    files = {
        path.relative_to(published).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in published.rglob("*")
        if path.is_file() and path.name != "provenance.json"
    }
    found = json.loads((published / "provenance.json").read_bytes())
    assert {entry["name"]: entry["digest"]["sha256"] for entry in found["subject"]} == files
    assert (
        found["predicate"]["buildDefinition"]["internalParameters"]["configDigest"] == f"sha256:{config_sha256(config)}"
    )
    assert set(found["predicate"]["runDetails"]["builder"]["version"]) >= {"torch", "transformers", "peft"}
    card = ModelCard.load(published / "README.md")
    assert card.data.eval_results, "the hub finds results on the card"
