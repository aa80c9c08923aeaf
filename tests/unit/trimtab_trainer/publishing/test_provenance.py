"""What a published model says about itself: its card as the hub reads it, and an in-toto statement that leads back to the run."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from tests.support.object_store import make_run_config, make_store

from trimtab_trainer.contract.manifests import canonical_json, config_sha256
from trimtab_trainer.contract.messages import Usage
from trimtab_trainer.contract.run_config import ResolvedDataset, RunConfig
from trimtab_trainer.publishing.facts import PublicationFacts
from trimtab_trainer.publishing.model_card import model_card
from trimtab_trainer.publishing.provenance import write_provenance

DIGEST = "sha256:" + "d" * 64
PARENT = {
    "name": "tone-v3",
    "artifactUri": "s3://trimtab/team/models/tone/3",
    "manifestSha256": "e" * 64,
    "format": "peftAdapter",
    "baseModel": {"uri": "s3://models/base"},
}
ON_PARENT = {"model": {"uri": "modelversion://tone-v3"}, "modelVersion": PARENT}


def facts(config: RunConfig | None = None, **changes: Any) -> PublicationFacts:
    known: dict[str, Any] = {
        "config": config or make_run_config(make_store("http://unused")),
        "step": 40,
        "learning_rate": 0.0002,
        "base_digest": DIGEST,
        "datasets": [ResolvedDataset(uri="hf://team/tone/train.jsonl", digest=DIGEST, examples=1234)],
        "metrics": {"test_loss": 0.5, "baseline_test_loss": 2.0, "broken": float("nan")},
        "usage": Usage(active_seconds=36.0),
        "software": {"torch": "2.6.0"},
        "started": datetime(2026, 11, 22, 10, 0, tzinfo=UTC),
        "finished": datetime(2026, 11, 22, 10, 5, tzinfo=UTC),
        "parameters": 1000,
        "trained_parameters": 10,
    }
    return PublicationFacts(**(known | changes))


def run_config(**changes: Any) -> RunConfig:
    return make_run_config(make_store("http://unused"), changes=changes)


# ── The card ──


def test_the_hub_reads_the_card() -> None:
    card = ModelCard(model_card(facts()))
    assert card.data.to_dict() | {"tags": None} == {
        "base_model": "s3://models/base",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "datasets": ["team/tone"],
        "tags": None,
        "model-index": [
            {
                "name": "tone",
                "results": [
                    {
                        "task": {"type": "text-generation"},
                        "dataset": {"name": "s3://data/train.jsonl", "type": "s3://data/train.jsonl", "split": "test"},
                        "metrics": [{"type": "loss", "value": 0.5, "name": "test_loss"}],
                    }
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("known", "words"),
    [
        pytest.param(facts(), "| test_loss | 2 | 0.5 |", id="before and after"),
        pytest.param(facts(), "| hf://team/tone/train.jsonl | 1,234 | `sha256:ddd", id="data with digest"),
        pytest.param(facts(), "10 of 1,000 weights moved", id="how much was trained"),
        pytest.param(facts(), "| learningRate | 0.0002 |", id="hyper-parameters"),
        pytest.param(facts(), "| torch | 2.6.0 |", id="software"),
        pytest.param(facts(), '| method | lora {"r": 16', id="the method's own parameters"),
        pytest.param(facts(), "cut at 512 tokens", id="limit: length"),
        pytest.param(facts(), "- Measured on: test.", id="limit: what was measured"),
        pytest.param(facts(), "Not measured on general data", id="limit: forgetting"),
        pytest.param(facts(metrics={}), "Not measured on any held-out data", id="limit: nothing measured"),
        pytest.param(facts(truncated={"train": 3, "test": 0}), "- 3 examples of the train split were truncated.", id="limit: truncated"),
        pytest.param(facts(), "states no `watts`", id="energy unknown"),
        pytest.param(facts(usage=Usage(active_seconds=3600, energy_watt_hours=90.0, co2_grams=34.2)), "90.00 Wh, about 34.20 g CO2", id="energy known"),
        pytest.param(facts(run_config(**ON_PARENT)), "going on from ModelVersion `tone-v3`", id="its parent"),
        pytest.param(facts(run_config(**ON_PARENT)), "Fine-tuned from `s3://models/base`", id="the base under its parent"),
        pytest.param(facts(run_config(method={"lora": None, "full": {}})), "| method | full |", id="a method without parameters"),
    ],
)  # fmt: skip
def test_the_card_says(known: PublicationFacts, words: str) -> None:
    text = model_card(known)
    assert words in text
    assert "broken" not in text, "a metric that is no number is left out"


def test_emissions_are_where_the_hub_looks_for_them() -> None:
    usage = Usage(active_seconds=3600, energy_watt_hours=90.0, co2_grams=34.2)
    assert ModelCard(model_card(facts(usage=usage))).data.co2_eq_emissions["emissions"] == 34.2


# ── The statement ──


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("adapter_model.safetensors", "chat/template.jinja"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_statement_names_every_file_and_all_that_went_in(directory: Path) -> None:
    config = run_config(**ON_PARENT, image="registry.example/trainer:1@sha256:" + "f" * 64)
    found = json.loads(write_provenance(facts(config), directory).read_bytes())

    assert (found["_type"], found["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    assert {entry["name"]: entry["digest"]["sha256"] for entry in found["subject"]} == {
        name: sha256(name.encode()).hexdigest() for name in ("adapter_model.safetensors", "chat/template.jinja")
    }
    build, run = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
    dependencies = {entry["name"]: (entry["uri"], *entry["digest"].items()) for entry in build["resolvedDependencies"]}
    assert dependencies == {
        "baseModel": ("s3://models/base", ("sha256", "d" * 64)),
        "parentVersion": ("s3://trimtab/team/models/tone/3", ("sha256", "e" * 64)),
        "dataset": ("hf://team/tone/train.jsonl", ("sha256", "d" * 64)),
        "image": ("oci://registry.example/trainer:1", ("sha256", "f" * 64)),
    }
    assert run["metadata"] == {
        "invocationId": "team/tone/uid-1/a1",
        "startedOn": "2026-11-22T10:00:00Z",
        "finishedOn": "2026-11-22T10:05:00Z",
    }
    assert run["builder"]["version"] == {"torch": "2.6.0"}


def test_the_statement_holds_the_configuration_that_the_digest_is_of(directory: Path) -> None:
    config = run_config(training={"learningRate": 0.01}, method={"lora": {"r": 4}})
    build = json.loads(write_provenance(facts(config), directory).read_bytes())["predicate"]["buildDefinition"]

    said = build["externalParameters"]
    assert sha256(canonical_json(said)).hexdigest() == config_sha256(config)
    assert build["internalParameters"]["configDigest"] == f"sha256:{config_sha256(config)}"
    again = RunConfig.model_validate({**config.to_json(), **said, "attempt": 9, "image": "another"})
    assert config_sha256(again) == config_sha256(config), "whoever runs it again has the same configuration"
