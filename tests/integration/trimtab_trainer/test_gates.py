"""The numbers that gates are judged by: candidate, base model and champion on the same data, in one pod."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.training import CountedStop, make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.gates import GateMeasurement
from trimtab_trainer.contract.messages import TerminationMessage

GATES: dict[str, Any] = {
    "gates": [
        {"metric": "perplexity", "source": "general", "successCondition": "result <= baseline * 1.05"},
        {"metric": "test_loss", "successCondition": "result < champion"},
        {"metric": "eval_loss", "source": "validation", "successCondition": "result < baseline"},
    ]
}
GENERAL: dict[str, Any] = {"general": [{"uri": "s3://data/general.jsonl"}]}


def champion(kind: str = "peftAdapter") -> dict[str, Any]:
    return {
        "name": "tone-v1",
        "artifactUri": "s3://versions/1",
        "manifestSha256": "",
        "format": kind,
        "baseModel": {"uri": "s3://models/llama"},
    }


def publish_as_version(storage: MemoryStorage, root: Path) -> None:
    (root / "versions").mkdir()
    shutil.move(storage.published["path"], root / "versions" / "1")
    storage.checkpoints.clear()


def numbers(measured: list[GateMeasurement], field: str) -> list[float]:
    return [float(getattr(gate, field) or "nan") for gate in measured]


@pytest.mark.parametrize("method", [{"lora": {"r": 4}}, {"full": {}}], ids=["an adapter", "a whole model"])
def test_candidate_base_and_champion_are_measured_on_the_same_data(
    method: dict[str, Any], storage: MemoryStorage, tmp_path: Path
) -> None:
    first = run_job(make_job(method=method, data=GENERAL, evaluation=GATES), tmp_path / "first")
    assert first.code == ExitCode.SUCCEEDED, first.message.message
    metrics = storage.published["metrics"]
    assert first.message.champion == ""
    assert numbers(first.message.gates, "result") == [
        metrics["general_perplexity"], metrics["test_loss"], metrics["eval_loss"],
    ]  # fmt: skip
    assert numbers(first.message.gates, "baseline") == [
        metrics[f"baseline_{name}"] for name in ("general_perplexity", "test_loss", "eval_loss")
    ]
    assert all(gate.champion is None for gate in first.message.gates)

    publish_as_version(storage, tmp_path)
    rival = champion("peftAdapter" if "lora" in method else "safetensors")
    config = make_job(data=GENERAL, evaluation=GATES, champion=rival, training={"maxSteps": 2})
    second = run_job(config, tmp_path / "second")
    assert second.code == ExitCode.SUCCEEDED, second.message.message
    assert second.message.champion == "tone-v1"
    measured = numbers(second.message.gates, "champion")
    assert measured == pytest.approx(numbers(first.message.gates, "result"), rel=1e-4), (
        "as it was when it was published"
    )
    assert measured != pytest.approx(numbers(second.message.gates, "result"), rel=1e-4)


def test_what_was_measured_before_training_survives_a_restart(storage: MemoryStorage, tmp_path: Path) -> None:
    run_job(make_job(), tmp_path / "first")
    publish_as_version(storage, tmp_path)
    config = make_job(data=GENERAL, evaluation=GATES, champion=champion())
    whole = run_job(config, tmp_path / "whole")
    storage.checkpoints.clear()
    stopped = run_job(config, tmp_path / "stopped", stop=CountedStop(term_at=12))
    assert stopped.code == ExitCode.INTERRUPTED
    shutil.rmtree(tmp_path / "versions")
    resumed = run_job(config, tmp_path / "resumed")
    assert resumed.code == ExitCode.SUCCEEDED, resumed.message.message
    assert resumed.message.gates == whole.message.gates


@pytest.mark.parametrize("kind", ["safetensors", "peftAdapter"])
def test_a_champion_that_cannot_be_loaded_is_no_number_and_no_failure(
    kind: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    folder = tmp_path / "versions" / "1"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.bin").write_bytes(b"a pickle")
    ended = run_job(make_job(data=GENERAL, evaluation=GATES, champion=champion(kind)), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    assert ended.message.champion == "tone-v1"
    assert all(gate.champion is None and gate.result for gate in ended.message.gates)
    assert "tone-v1 could not be measured" in ended.attempt.warnings[0]


def test_a_gate_on_a_metric_that_the_task_does_not_have_is_refused_before_training(
    storage: MemoryStorage, tmp_path: Path
) -> None:
    gates = {"gates": [{"metric": "bleu", "successCondition": "result > 1"}]}
    ended = run_job(make_job(evaluation=gates), tmp_path / "run")
    assert ended.code == ExitCode.CONFIG_INVALID
    assert "evaluation.gates[0].metric: bleu" in ended.message.message
    assert storage.saved_steps == []


def test_general_data_is_reported_like_the_test_split(storage: MemoryStorage, tmp_path: Path) -> None:
    run_job(make_job(data=GENERAL), tmp_path / "run")
    report = json.loads(storage.objects["report.json"])
    assert report["tuned"]["general_perplexity"] != report["base"]["general_perplexity"]
    assert "general" in [split["split"] for split in report["data"]]


def test_sixteen_gates_fit_into_the_termination_message(storage: MemoryStorage, tmp_path: Path) -> None:
    from trimtab_trainer.termination import encode  # noqa: PLC0415 - after the storage took its places

    ended = run_job(make_job(), tmp_path / "run")
    long = GateMeasurement(result="0.12345678901234567", baseline="0.12345678901234567", champion="0.12345678901234567")
    full = ended.message.model_copy(update={"gates": [long] * 16, "champion": "c" * 60, "message": "m" * 1024})
    data = encode(full)
    assert len(data) <= 4096
    assert TerminationMessage.model_validate_json(data).gates == full.gates
    assert TerminationMessage.model_validate_json(data).published == full.published
