"""Whole jobs on tiny models: what a run leaves behind, and that a resumed run equals an uninterrupted one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file
from tests.support.memory_storage import MemoryStorage
from tests.support.training import CountedStop, Killed, make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode

LABELLED: dict[str, Any] = {
    "model": {"uri": "s3://models/bert"},
    "task": {"sequenceClassification": {}},
    "data": {
        "train": [{"uri": "s3://data/train-labelled.jsonl"}],
        "validation": [{"uri": "s3://data/validation-labelled.jsonl"}],
        "test": [{"uri": "s3://data/test-labelled.jsonl"}],
    },
}


def reset(storage: MemoryStorage) -> None:
    storage.checkpoints.clear()
    storage.objects.clear()
    storage.saved_steps.clear()


RAW: dict[str, Any] = {
    "objective": {"continuedPretraining": {}},
    "data": {split: [{"uri": f"s3://data/{split}-raw.jsonl"}] for split in ("train", "validation", "test")}
    | {"maxSequenceLength": 32},
}
WEIGHTED: dict[str, Any] = {
    "data": {
        "train": [
            {"uri": "s3://data/train.jsonl", "weight": 0.5},
            {"uri": "s3://data/validation.jsonl", "weight": 2},
        ]
    }
}
PREFERENCES: dict[str, Any] = {
    "data": {split: [{"uri": f"s3://data/{split}-preferences.jsonl"}] for split in ("train", "validation", "test")}
}
PROMPTS: dict[str, Any] = {
    "data": {split: [{"uri": f"s3://data/{split}-prompts.jsonl"}] for split in ("train", "validation", "test")}
}


def sampling(name: str, **settings: Any) -> dict[str, Any]:
    """An objective with two rewards, and short answers."""
    rewards = [{"regularExpression": {"pattern": "[aeiou]"}}, {"wordOverlap": {"weight": 0.5}}]
    return {
        **PROMPTS,
        "objective": {name: {"rewards": rewards, "samplesPerPrompt": 3, "sampling": {"maxNewTokens": 5}, **settings}},
    }


JOBS = [
    pytest.param({"method": {"lora": {"r": 4, "dropout": 0.2}}}, id="lora, packed"),
    pytest.param(
        {"method": {"full": {}}, "data": {"packing": False}, "training": {"microBatchSize": 2}}, id="full, accumulated"
    ),
    pytest.param({"method": {"headOnly": {}}, "training": {"microBatchSize": 1}}, id="headOnly, packed, accumulated"),
    pytest.param({**LABELLED, "method": {"lora": {"r": 2}}, "training": {"microBatchSize": 2}}, id="classifier, lora"),
    pytest.param({**LABELLED, "method": {"headOnly": {}}}, id="classifier, headOnly"),
    pytest.param(
        {
            "training": {
                "schedule": {"cosineWithRestarts": {"cycles": 2, "minimumRatio": 0.1}},
                "exponentialMovingAverage": {"decay": 0.9},
                "dropout": 0.2,
                "labelSmoothing": 0.1,
                "embeddingNoiseAlpha": 5,
                "adversarial": {"freeLb": {"steps": 2}},
            }
        },
        id="lora, packed: average, noise, FreeLB",
    ),
    pytest.param(
        {
            **LABELLED,
            "method": {"full": {}},
            "training": {
                "maxSteps": 6,
                "exponentialMovingAverage": {},
                "classWeights": {"balanced": {}},
                "balancedSampling": True,
                "divergence": {"onSpike": "Skip", "spikeFactor": 1.01, "window": 2},
                "adversarial": {"pgd": {"steps": 2}},
                "selectBestBy": {"metric": "eval_adversarial_loss"},
            },
        },
        id="classifier, full: weights, skipped spikes, PGD",
    ),
    pytest.param(
        {
            "data": {"packing": False},
            "training": {"curriculum": {}, "adversarial": {"fgm": {}}, "schedule": {"inverseSquareRoot": {}}},
        },
        id="lora, padded: curriculum, FGM",
    ),
    pytest.param(
        {
            "data": {"general": [{"uri": "s3://data/validation.jsonl"}]},
            "training": {"continual": {"ewc": {"strength": 100, "examples": 4}}},
        },
        id="lora: EWC",
    ),
    pytest.param(WEIGHTED, id="weighted mixture"),
    pytest.param(RAW, id="continued pre-training"),
    pytest.param(
        {**PREFERENCES, "objective": {"reward": {"centering": 0.01}}, "task": {"sequenceClassification": {}}},
        id="reward",
    ),
    pytest.param({**PREFERENCES, "objective": {"dpo": {}}, "training": {"microBatchSize": 2}}, id="dpo, lora"),
    pytest.param({**PREFERENCES, "objective": {"dpo": {"lossType": "ipo"}}, "method": {"full": {}}}, id="ipo, full"),
    pytest.param({**PREFERENCES, "objective": {"orpo": {}}}, id="orpo"),
    pytest.param(
        {**LABELLED, "objective": {"fewShot": {}}, "method": {"full": {}}, "training": {"microBatchSize": 2}},
        id="few-shot, full",
    ),
    pytest.param({**LABELLED, "objective": {"fewShot": {"head": "prototypes"}}}, id="few-shot, prototypes, lora"),
    pytest.param({**sampling("grpo"), "training": {"microBatchSize": 2}}, id="grpo, lora"),
    pytest.param({**sampling("rloo", beta=0), "method": {"full": {}}}, id="rloo, full"),
    pytest.param({**sampling("tao", rounds=2, keepBest=2), "checkpoints": {"everySteps": 1}}, id="tao, lora"),
]


@pytest.mark.parametrize("changes", JOBS)
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
    changes: dict[str, Any], storage: MemoryStorage, tmp_path: Path
) -> None:
    config = make_job(**changes)
    whole_stop = CountedStop()
    whole = run_job(config, tmp_path / "whole", stop=whole_stop)
    assert whole.code == ExitCode.SUCCEEDED, whole.message.message
    expected_history, (_, expected_state) = storage.history, storage.checkpoints[6]
    for place in range(2, whole_stop.looks, max(whole_stop.looks // 3, 1)):
        reset(storage)
        with pytest.raises(Killed):
            run_job(config, tmp_path / f"killed-{place}", stop=CountedStop(kill_at=place))
        stopped = run_job(config, tmp_path / f"stopped-{place}", stop=CountedStop(term_at=7))
        assert stopped.code in {ExitCode.INTERRUPTED, ExitCode.SUCCEEDED}
        resumed = run_job(config, tmp_path / f"resumed-{place}")
        assert resumed.code == ExitCode.SUCCEEDED, resumed.message.message
        assert storage.history == expected_history
        assert storage.checkpoints[6][1] == expected_state  # every byte of weights, moments and best weights
        assert resumed.message.published == whole.message.published


def test_sigterm_saves_the_last_finished_step_before_it_exits(storage: MemoryStorage, tmp_path: Path) -> None:
    config = make_job(checkpoints={"everySteps": None}, training={"evaluateEverySteps": 2})
    stop = CountedStop()
    run_job(config, tmp_path / "whole", stop=stop)
    saved_at = set()
    for looks in range(8, stop.looks, 9):
        reset(storage)
        ended = run_job(config, tmp_path / f"run-{looks}", stop=CountedStop(term_at=looks))
        assert ended.code == ExitCode.INTERRUPTED
        assert ended.message.last_checkpoint is not None
        assert ended.message.last_checkpoint.step == ended.message.step == storage.saved_steps[-1]
        assert "will be repeated" not in ended.message.message
        saved_at.add(ended.message.step)
    assert len(saved_at) > 1


def test_sigterm_before_the_first_step_has_nothing_to_save(storage: MemoryStorage, tmp_path: Path) -> None:
    ended = run_job(make_job(), tmp_path / "run", stop=CountedStop(term_at=1, everywhere=True))
    assert (ended.code, storage.checkpoints, storage.objects) == (ExitCode.INTERRUPTED, {}, {})
    assert "nothing to save" in ended.message.message


def test_a_finished_run_that_is_resumed_trains_no_step_more(storage: MemoryStorage, tmp_path: Path) -> None:
    config = make_job()
    run_job(config, tmp_path / "first")
    history, saved = storage.history, list(storage.saved_steps)
    again = run_job(config.model_copy(update={"attempt": 2}), tmp_path / "second")
    assert (again.code, again.report.resumed_from_step) == (0, 6)
    assert (storage.history, storage.saved_steps) == (history, saved)


def test_the_published_adapter_loads_with_plain_peft_and_gives_the_reported_loss(
    storage: MemoryStorage, tmp_path: Path, job_files: Path
) -> None:
    from peft import PeftModel  # noqa: PLC0415 - what a user writes
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    ended = run_job(make_job(data={"packing": True}), tmp_path / "run")
    path = storage.published["path"]
    assert json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"] == "s3://models/llama"
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(job_files / "models" / "llama"), path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    loss = count = 0.0
    for line in (job_files / "data" / "test.jsonl").read_text().splitlines():
        messages = json.loads(line)["messages"]
        prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(
            prompt + messages[-1]["content"] + "<|im_end|>", return_tensors="pt", add_special_tokens=False
        ).input_ids
        start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
        with torch.no_grad():
            logits = model(ids).logits[0, start - 1 : -1]
        loss += float(torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum"))
        count += ids.shape[1] - start
    assert loss / count == pytest.approx(storage.published["metrics"]["test_loss"], rel=1e-5)
    assert {value.name for value in ended.message.metrics} >= {"test_loss", "test_exact_match", "eval_loss"}


@pytest.mark.parametrize("method", ["full", "headOnly"])
def test_a_published_model_loads_with_plain_transformers(
    method: str, storage: MemoryStorage, tmp_path: Path, job_files: Path
) -> None:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - what a user writes

    ended = run_job(make_job(method={method: {}}), tmp_path / "run")
    assert ended.code == 0, ended.message.message
    loaded = AutoModelForCausalLM.from_pretrained(storage.published["path"])
    base = AutoModelForCausalLM.from_pretrained(job_files / "models" / "llama")
    trained = ended.attempt.published
    assert trained is not None
    assert trained.format == "safetensors"
    head_moved = not torch.equal(loaded.lm_head.weight, base.lm_head.weight)
    trunk_moved = any(
        not torch.equal(value, dict(base.model.named_parameters())[name])
        for name, value in loaded.model.named_parameters()
    )
    assert (head_moved, trunk_moved) == (True, method == "full")


def test_a_published_classifier_adapter_has_its_head(storage: MemoryStorage, tmp_path: Path) -> None:
    run_job(make_job(**LABELLED, method={"lora": {"r": 2}}), tmp_path / "run")
    path = storage.published["path"]
    assert any("classifier" in name for name in load_file(path / "adapter_model.safetensors"))
    assert json.loads((path / "labels.json").read_text()) == ["no", "yes"]
    assert storage.published["metrics"]["test_accuracy"] >= 0.5


def test_the_best_step_is_published(storage: MemoryStorage, tmp_path: Path) -> None:
    config = make_job(
        training={"learningRate": 1.0, "selectBestBy": {"metric": "eval_loss", "mode": "min"}, "evaluateEverySteps": 1}
    )
    ended = run_job(config, tmp_path / "run")
    losses = {line["step"]: line["eval_loss"] for line in storage.history if "eval_loss" in line and line["step"]}
    assert storage.published["step"] == min(losses, key=losses.__getitem__)
    assert ended.code == 0


def test_training_stops_early_when_the_metric_gets_no_better(storage: MemoryStorage, tmp_path: Path) -> None:
    settings = {
        "learningRate": 1e-12,
        "evaluateEverySteps": 1,
        "earlyStopping": {"metric": "eval_exact_match", "patience": 2},
    }
    ended = run_job(make_job(training=settings), tmp_path / "run")
    assert (ended.code, ended.message.step) == (0, 3)
    assert run_job(make_job(training=settings), tmp_path / "again").message.step == 3


def test_the_report_shows_what_a_reader_asks(storage: MemoryStorage, tmp_path: Path) -> None:
    run_job(make_job().model_copy(update={"watts": 100.0, "carbon_intensity": 400.0}), tmp_path / "run")
    text = storage.objects["report.md"].decode()
    for words in (
        "## Base against tuned",
        "test_exact_match",
        "[LOSS]",
        "[context]",
        "energy (Wh",
        "PeftModel.from_pretrained",
        "| reference |",
        "What training changed most",
        "## Data quality",
        "## What moved",
        "by the TrainingProfile's watts",
    ):
        assert words in text
    assert storage.objects["loss.png"].startswith(b"\x89PNG")
    assert storage.objects["drift.png"].startswith(b"\x89PNG")
    assert json.loads(storage.objects["report.json"])["publishedStep"] == storage.published["step"]


@pytest.mark.parametrize(
    ("first", "second", "start"),
    [
        pytest.param({"lora": {"r": 4}}, {"lora": {"r": 4}}, "peftAdapter", id="an adapter is trained on"),
        pytest.param(
            {"lora": {"r": 4}}, {"full": {}}, "peftAdapter", id="an adapter is folded in and all weights move"
        ),
        pytest.param({"full": {}}, {"lora": {"r": 2}}, "safetensors", id="an adapter on a whole model"),
    ],
)
def test_training_goes_on_from_a_published_version(
    first: Any, second: Any, start: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    ended = run_job(make_job(method=first), tmp_path / "first")
    before = storage.published["metrics"]["test_loss"]
    assert (ended.code, storage.published["format"]) == (0, start)
    publish_as_version(storage, tmp_path)
    reset(storage)
    config = make_job(model={"uri": "modelversion://tone-v1"}, model_version=version(start), method=second)
    again = run_job(config, tmp_path / "second")
    assert again.code == 0, again.message.message
    assert storage.published["metrics"]["baseline_test_loss"] == pytest.approx(before, rel=1e-4)


def publish_as_version(storage: MemoryStorage, root: Path) -> None:
    (root / "versions").mkdir()
    storage.published["path"].rename(root / "versions" / "1")


def version(kind: str) -> dict[str, Any]:
    base = {"uri": "s3://models/llama"}
    return {
        "name": "tone-v1",
        "artifactUri": "s3://versions/1",
        "manifestSha256": "",
        "format": kind,
        "baseModel": base,
    }


def test_an_adapter_of_another_rank_cannot_be_trained_on(storage: MemoryStorage, tmp_path: Path) -> None:
    run_job(make_job(), tmp_path / "first")
    publish_as_version(storage, tmp_path)
    reset(storage)
    config = make_job(
        model={"uri": "modelversion://tone-v1"}, model_version=version("peftAdapter"), method={"lora": {"r": 8}}
    )
    ended = run_job(config, tmp_path / "second")
    assert (ended.code, "r 4 and alpha 32; got 8" in ended.message.message) == (ExitCode.CONFIG_INVALID, True)


def test_a_run_that_diverges_stops_at_once_and_publishes_nothing(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_trainer.train.learning_rate", lambda step, **_: 1e38 if step == 3 else 1e-3)
    ended = run_job(make_job(method={"full": {}}), tmp_path / "run")
    assert ended.code == ExitCode.LOSS_DIVERGED
    assert ended.message.step < 6
    assert storage.published == {}
    assert all(torch.isfinite(tensor).all() for tensor in load(storage.checkpoints[2][1]).values())
