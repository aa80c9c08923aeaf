"""Full fine-tuning of which each of two processes holds a share (FSDP2 over gloo): the same run as one process."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support.ranks import run_alone, run_ranks
from tests.support.training import make_job
from transformers import AutoModelForCausalLM, AutoTokenizer

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig

LLAMA = {"uri": "s3://models/llama-no-dropout"}
BERT = {"uri": "s3://models/bert-no-dropout"}
EWC = {"continual": {"ewc": {"strength": 1000.0, "examples": 8}}}
GENERAL = [{"uri": "s3://data/general.jsonl", "format": "text"}]


@pytest.fixture
def directory(job_files: Path, tmp_path: Path) -> Path:
    for name in ("models", "data"):
        (tmp_path / name).symlink_to(job_files / name)
    return tmp_path


def sharded(*, files: str = "", data: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    """A job whose weights are spread; `files` names data of another format than conversations."""
    named = {split: [{"uri": f"s3://data/{split}-{files}.jsonl"}] for split in ("train", "validation", "test")}
    changes["training"] = {"extraArguments": {"shardWeights": True}, **changes.get("training", {})}
    return make_job(
        **{"method": {"full": {}}, "model": LLAMA, **changes, "data": {**(named if files else {}), **(data or {})}}
    )


JOBS = [
    pytest.param(
        sharded(
            data={"packing": False},
            training={
                "globalBatchSize": 3,
                "layerwiseLearningRateDecay": 0.9,
                "exponentialMovingAverage": {"decay": 0.9},
                "recomputeActivations": True,
            },
        ),
        id="full, shares of unequal size, averaged, a rate for each layer, activations computed again",
    ),
    pytest.param(
        sharded(method={"partial": {"lastLayers": 1}}, training=EWC, data={"general": GENERAL}),
        id="partial, held by EWC",
    ),
    pytest.param(
        sharded(
            files="labelled",
            task={"sequenceClassification": {}},
            training={
                "gradualUnfreezing": {"layersPerStage": 1, "everySteps": 2},
                "continual": {"startingPoint": {"strength": 10.0}},
                "adversarial": {"fgm": {}},
            },
        ),
        id="a classifier, unfrozen gradually, held by L2-SP, attacked",
    ),
    pytest.param(
        sharded(files="preferences", objective={"reward": {}}, task={"sequenceClassification": {}}), id="a reward model"
    ),
    pytest.param(sharded(files="preferences", objective={"orpo": {}}), id="preferences without a reference"),
    pytest.param(sharded(files="tagged", model=BERT, task={"tokenClassification": {}}), id="tags"),
    pytest.param(
        sharded(files="questions", model=BERT, task={"questionAnswering": {}}, data={"maxSequenceLength": 64}),
        id="questions",
    ),
]


@pytest.mark.parametrize("job", JOBS)
def test_two_sharded_processes_train_as_one(job: RunConfig, directory: Path) -> None:
    both = run_ranks(job, directory)
    alone = run_alone(job, directory)
    assert [ended["code"] for ended in both] == [0, 0]
    assert (both[0]["saved"], both[1]["saved"]) == (alone["saved"], [])
    assert len(both[0]["history"]) == len(alone["history"]) > 0
    for line, expected in zip(both[0]["history"], alone["history"], strict=True):
        assert line == pytest.approx(expected, rel=2e-4, abs=1e-7)
    # Weights and moments, between steps.
    assert max(ended["held"] for ended in both) < 0.6 * alone["held"]


def test_a_killed_run_goes_on_exactly_and_its_model_loads_with_transformers(directory: Path) -> None:
    job = sharded(training={"exponentialMovingAverage": {"decay": 0.9}})
    whole, killed = directory / "whole", directory / "killed"
    for place in (whole, killed):
        place.mkdir()
        for name in ("models", "data"):
            (place / name).symlink_to(directory / name)
    uninterrupted = run_ranks(job, whole)
    lost = run_ranks(job, killed, stops={1: {"kill_at": 11}})
    assert lost[1] == {"signal": signal.SIGKILL}
    assert lost[0]["code"] == ExitCode.PEER_LOST
    assert "Another process of this attempt was lost" in lost[0]["message"]
    assert lost[0]["saved"] == [2]  # the share of the lost process is lost, too: the newest checkpoint counts
    resumed = run_ranks(job, killed, resumes=True)
    assert [ended["code"] for ended in resumed] == [0, 0]
    assert resumed[0]["history"] == uninterrupted[0]["history"]
    published = [load_file(place / "published" / "model.safetensors") for place in (whole, killed)]
    assert all(torch.equal(value, published[1][name]) for name, value in published[0].items())
    model = AutoModelForCausalLM.from_pretrained(killed / "published")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert AutoTokenizer.from_pretrained(killed / "published").pad_token is not None


def test_one_process_resumes_what_two_had_saved(directory: Path) -> None:
    job = sharded()
    uninterrupted = run_alone(job, directory)
    assert run_ranks(job, directory, stops={1: {"term_at": 10}})[0]["code"] == ExitCode.INTERRUPTED
    (directory / "rank-0.checkpoints").rename(directory / "alone.checkpoints")
    resumed = run_alone(job, directory, resumes=True)
    for line, expected in zip(resumed["history"], uninterrupted["history"], strict=True):
        assert line == pytest.approx(expected, rel=2e-4)


def test_what_is_frozen_stays_bit_identical(directory: Path) -> None:
    ended = run_ranks(sharded(method={"partial": {"lastLayers": 1}}), directory)
    assert [one["code"] for one in ended] == [0, 0]
    before, after = (
        load_file(directory / place / "model.safetensors") for place in ("models/llama-no-dropout", "published")
    )
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("model.layers.1.") or name == "model.norm.weight"}


def test_sigterm_on_any_rank_stops_all_at_the_same_step(directory: Path) -> None:
    both = run_ranks(sharded(), directory, stops={1: {"term_at": 8}})
    assert [ended["code"] for ended in both] == [ExitCode.INTERRUPTED, ExitCode.INTERRUPTED]
    assert both[0]["step"] == both[1]["step"] == both[0]["saved"][-1]
