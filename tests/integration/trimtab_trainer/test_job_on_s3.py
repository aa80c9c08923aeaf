"""One whole job with the real store, fetching, checkpoints and publishing, against moto."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.object_store import admin_client
from tests.support.training import CountedStop, Job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode


def test_a_job_is_stopped_resumed_and_published(job: Job, tmp_path: Path, s3_endpoint: str) -> None:
    stopped = run_job(job(checkpoints={"everySteps": 1}), tmp_path / "first", stop=CountedStop(term_at=8))
    assert (stopped.code, stopped.message.last_checkpoint is not None) == (ExitCode.INTERRUPTED, True), (
        stopped.message.message
    )
    ended = run_job(job(checkpoints={"everySteps": 1}).model_copy(update={"attempt": 2}), tmp_path / "second")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    assert stopped.message.last_checkpoint is not None
    assert ended.report.resumed_from_step == stopped.message.last_checkpoint.step == stopped.message.step
    assert ended.message.published is not None
    assert ended.message.published.files > 3
    assert ended.message.last_checkpoint is not None
    assert ended.message.last_checkpoint.step == 6
    client = admin_client(s3_endpoint)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="trimtab", Prefix="runs/")["Contents"]]
    lines = (
        client.get_object(Bucket="trimtab", Key="runs/team/tone/uid-1/reports/metrics.jsonl")["Body"]
        .read()
        .splitlines()
    )
    client.close()
    assert {key.rpartition("/")[2] for key in keys} >= {
        "metrics.jsonl",
        "loss.png",
        "report.md",
        "report.json",
        "manifest.json",
        "adapter_model.safetensors",
    }
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        pytest.param(
            {"data": {"train": [{"uri": "s3://trimtab/in/data/none.jsonl"}]}},
            ExitCode.DATASET_NOT_FOUND,
            "none.jsonl",
            id="no such data set",
        ),
        pytest.param(
            {"model": {"uri": "s3://trimtab/in/models/none"}},
            ExitCode.MODEL_NOT_FOUND,
            "models/none",
            id="no such model",
        ),
        pytest.param(
            {"data": {"train": [{"uri": "s3://trimtab/in/broken.jsonl"}]}},
            ExitCode.DATASET_INVALID,
            "s3://trimtab/in/broken.jsonl line 17: not valid JSON",
            id="a broken line",
        ),
    ],
)
def test_bad_input_ends_with_its_own_code(
    changes: dict[str, Any], code: ExitCode, words: str, job: Job, tmp_path: Path, s3_endpoint: str
) -> None:
    client = admin_client(s3_endpoint)
    client.put_object(Bucket="trimtab", Key="in/broken.jsonl", Body=16 * b'{"text": "x"}\n' + b'{"text": \n')
    client.close()
    ended = run_job(job(**changes), tmp_path / "run")
    assert (ended.code, words in ended.message.message) == (code, True), ended.message.message
