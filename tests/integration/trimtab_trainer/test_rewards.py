"""Whole jobs that learn from rewards, on tiny models: the held-out reward rises, and what judges is what was named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.support.memory_storage import DIGEST, MemoryStorage
from tests.support.rows import prompts, write_jsonl
from tests.support.training import make_job, run_job
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig

FILES = {split: [{"uri": f"s3://data/{split}-prompts.jsonl"}] for split in ("train", "validation", "test")}
VOWELS: dict[str, Any] = {"regularExpression": {"pattern": "[aeiou]"}}


def rewarded(objective: dict[str, Any], *, data: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    name, settings = next(iter(objective.items()))
    known = {"rewards": [VOWELS], "samplesPerPrompt": 8, "sampling": {"maxNewTokens": 5}}
    return make_job(objective={name: {**known, **settings}}, data={**FILES, **(data or {})}, **changes)


@pytest.mark.parametrize("objective", [{"grpo": {}}, {"rloo": {"beta": 0.01}}, {"tao": {"rounds": 4}}], ids=str)
def test_the_held_out_reward_rises(objective: dict[str, Any], storage: MemoryStorage, tmp_path: Path) -> None:
    training = {
        "maxSteps": 24,
        "globalBatchSize": 8,
        "microBatchSize": 8,
        "learningRate": 0.01,
        "schedule": {"constant": {}},
        "evaluateEverySteps": 24,
    }
    config = rewarded(objective, method={"full": {}}, training=training, checkpoints={"everySteps": 24})
    ended = run_job(config, tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    metrics = storage.published["metrics"]
    assert metrics["test_reward"] >= metrics["baseline_test_reward"] + 0.4
    assert metrics["eval_loss"] == -metrics["eval_reward"]
    told = [line for line in storage.history if "samples" in line]
    assert len(told) == (4 if "tao" in objective else 24)  # tao tells of its answers when a round begins
    window = len(told) // 4
    early, late = (sum(line["reward"] for line in part) / window for part in (told[:window], told[-window:]))
    assert late > early + 0.3
    assert sum(line["samples"] for line in told) == (4 * 22 * 8 if "tao" in objective else 24 // 3 * 22 * 8)
    report = json.loads(storage.objects["report.json"])
    rewards = [one["reward"] for one in report["scored"]]
    assert rewards == sorted(rewards, reverse=True)
    assert len(rewards) == 6
    assert [one["reference"] for one in report["samples"]] == [str(number) for number in range(5)]
    text = storage.objects["report.md"].decode()
    assert "## Answers and their rewards" in text
    assert "regular_expression 1" in text


def test_a_reward_model_that_trimtab_published_judges(storage: MemoryStorage, tmp_path: Path) -> None:
    preferences = {split: [{"uri": f"s3://data/{split}-preferences.jsonl"}] for split in FILES}
    judge = make_job(
        objective={"reward": {}}, task={"sequenceClassification": {}}, data=preferences, training={"maxSteps": 2}
    )
    assert run_job(judge, tmp_path / "judge").code == ExitCode.SUCCEEDED
    artifact = storage.published["path"].rename(tmp_path / "judge-v1")
    storage.checkpoints.clear()
    version = {
        "name": "judge-v1",
        "artifactUri": "s3://judge-v1",
        "manifestSha256": 64 * "7",
        "format": "peftAdapter",
        "baseModel": {"uri": "s3://models/llama"},
    }
    objective = {"grpo": {"rewards": [{"rewardModel": {"uri": "modelversion://judge-v1"}}], "samplesPerPrompt": 2}}
    config = rewarded(objective, training={"maxSteps": 2}, rewardModel=version)
    ended = run_job(config, tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    document = json.loads(storage.checkpoints[2][0])
    assert document["judge"] == "sha256:" + 64 * "7"
    scored = json.loads(storage.objects["report.json"])["scored"][0]
    assert scored["terms"]["reward_model"] == pytest.approx(_score(artifact, tmp_path, scored), rel=1e-4)

    # The same run judged by another model is not the same run.
    document["judge"] = DIGEST
    storage.checkpoints[2] = (json.dumps(document), storage.checkpoints[2][1])
    assert run_job(config, tmp_path / "again").code == ExitCode.DIGEST_MISMATCH


def _score(artifact: Path, root: Path, scored: dict[str, Any]) -> float:
    """By peft and transformers alone, as the version's model card says."""
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    base = AutoModelForSequenceClassification.from_pretrained(root / "models" / "llama", num_labels=1)
    model = PeftModel.from_pretrained(base, artifact).eval()
    turns = [{"role": "user", "content": scored["prompt"]}, {"role": "assistant", "content": scored["answer"]}]
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        return float(model(**ids).logits[0, 0])


def test_a_classifier_is_no_reward_model(storage: MemoryStorage, tmp_path: Path) -> None:
    objective = {"grpo": {"rewards": [{"rewardModel": {"uri": "s3://models/llama"}}]}}
    ended = run_job(rewarded(objective), tmp_path / "run")
    assert ended.code == ExitCode.MODEL_INVALID
    assert "reward model s3://models/llama: it has no head with one output" in ended.message.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": {"adversarial": {"fgm": {}}}}, "`training.adversarial` does not go with `objective.grpo`"),
        ({"training": {"embeddingNoiseAlpha": 5}}, "`training.embeddingNoiseAlpha` does not go"),
        ({"training": {"divergence": {"spikeFactor": 3}}}, "watch the reward"),
        ({"training": {"labelSmoothing": 0.1}}, "labelSmoothing` has no meaning"),
        (
            {"training": {"continual": {"ewc": {}}}, "data": {"general": FILES["test"]}},
            "`training.continual.ewc` does not go",
        ),
        (
            {"data": {"maxSequenceLength": 8}, "objective": {"grpo": {"sampling": {"maxNewTokens": 8}}}},
            "must leave room",
        ),
        (
            {"objective": {"grpo": {"rewards": [{"regularExpression": {"pattern": "("}}]}}},
            "must be a regular expression",
        ),
    ],
    ids=str,
)
def test_what_does_not_go_with_answers_of_the_model_itself_is_refused(
    changes: dict[str, Any], words: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    config = rewarded(changes.pop("objective", {"grpo": {}}), **changes)
    ended = run_job(config, tmp_path / "run")
    assert ended.code == ExitCode.CONFIG_INVALID
    assert words in ended.message.message


def test_rows_without_what_a_reward_needs_are_refused(storage: MemoryStorage, tmp_path: Path) -> None:
    ended = run_job(rewarded({"grpo": {"rewards": [{"exactMatch": {"column": "answer"}}]}}), tmp_path / "run")
    assert ended.code == ExitCode.DATASET_INVALID
    assert "line 1: a reward compares answers with the column 'answer'" in ended.message.message


def test_prompts_without_room_for_an_answer_are_left_out_and_counted(storage: MemoryStorage, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write_jsonl(tmp_path / "more" / "rows.jsonl", [*prompts(4), {"prompt": "long " * 40, "reference": "1"}])
    data = {"train": [{"uri": "s3://more/rows.jsonl"}], "validation": [], "test": []}
    ended = run_job(rewarded({"rloo": {"samplesPerPrompt": 2}}, data=data, training={"maxSteps": 1}), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    assert [(one.examples, one.unsupervised) for one in ended.report.data] == [(4, 1)]
