"""Two processes over gloo: the same run as one process, stopped together, and noticing when one is gone."""

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.support.ranks import run_alone, run_ranks
from tests.support.training import make_job

from trimtab_trainer.contract.exit_codes import ExitCode


@pytest.fixture
def directory(job_files: Path, tmp_path: Path) -> Path:
    for name in ("models", "data"):
        (tmp_path / name).symlink_to(job_files / name)
    return tmp_path


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": {"lora": {"r": 4}}}, id="lora, packed"),
        pytest.param(
            {"method": {"full": {}}, "data": {"packing": False}, "training": {"globalBatchSize": 3}},
            id="full, shares of unequal size",
        ),
        pytest.param(
            {
                "method": {"headOnly": {}},
                "task": {"sequenceClassification": {}},
                "data": {
                    split: [{"uri": f"s3://data/{split}-labelled.jsonl"}] for split in ("train", "validation", "test")
                },
                "training": {"globalBatchSize": 8, "maxSteps": 9},  # three epochs: more than processes
            },
            id="headOnly from kept features",
        ),
    ],
)
def test_two_processes_train_as_one(changes: dict[str, Any], directory: Path) -> None:
    config = make_job(**changes, model={"uri": "s3://models/llama-no-dropout"})
    both = run_ranks(config, directory)
    alone = run_alone(config, directory)
    assert [ended["code"] for ended in both] == [0, 0]
    assert (both[0]["saved"], both[1]["saved"]) == (alone["saved"], [])
    assert len(both[0]["history"]) == len(alone["history"]) > 0
    for line, expected in zip(both[0]["history"], alone["history"], strict=True):
        assert line == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("name", ["grpo", "tao"])
def test_processes_share_the_drawing_of_answers(name: str, directory: Path) -> None:
    rewards = [{"regularExpression": {"pattern": "[a-m]"}}, {"wordOverlap": {}}]
    settings = {"rewards": rewards, "samplesPerPrompt": 3, "sampling": {"maxNewTokens": 4}}
    data = {split: [{"uri": f"s3://data/{split}-prompts.jsonl"}] for split in ("train", "validation", "test")}
    both = run_ranks(make_job(objective={name: settings}, data=data, training={"maxSteps": 4}), directory)
    assert [ended["code"] for ended in both] == [0, 0]
    told = [line["samples"] for line in both[0]["history"] if "samples" in line]
    assert told == ([3 * 4] * 4 if name == "grpo" else [3 * 8, 3 * 8])


def test_sigterm_on_any_rank_stops_all_at_the_same_step(directory: Path) -> None:
    both = run_ranks(make_job(), directory, stops={1: {"term_at": 8}})
    assert [ended["code"] for ended in both] == [ExitCode.INTERRUPTED, ExitCode.INTERRUPTED]
    assert both[0]["step"] == both[1]["step"] == both[0]["saved"][-1]


def test_a_lost_peer_ends_the_attempt_and_the_last_step_is_saved(directory: Path) -> None:
    both = run_ranks(
        make_job(checkpoints={"everySteps": None, "everySeconds": None}), directory, stops={1: {"kill_at": 8}}
    )
    assert both[1] == {"signal": signal.SIGKILL}
    assert both[0]["code"] == ExitCode.PEER_LOST
    assert "Another process of this attempt was lost" in both[0]["message"]
    assert both[0]["saved"] == [both[0]["step"]]
