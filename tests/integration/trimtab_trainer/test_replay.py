"""General data beside the training split, in a whole run."""

from pathlib import Path

from tests.support.memory_storage import MemoryStorage
from tests.support.rows import chats, write_jsonl
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode


def test_a_run_with_replay_and_ewc_reports_forgetting_and_resumes(storage: MemoryStorage, tmp_path: Path) -> None:
    (storage.root / "more").mkdir()
    write_jsonl(storage.root / "more" / "general.jsonl", chats(60, turns=2)[40:])
    config = make_job(
        data={"general": [{"uri": "s3://more/general.jsonl"}], "mixFraction": 0.4},
        training={"continual": {"ewc": {"strength": 100, "examples": 4}}},
    )
    ended = run_job(config, tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    assert [summary.split for summary in ended.report.data] == ["train", "validation", "test", "general", "replay"]
    assert "continual_forgetting" in storage.published["metrics"]
    assert all(line["anchor_penalty"] >= 0 for line in storage.history if "learning_rate" in line)
    expected, state = storage.history, storage.checkpoints[6]
    del storage.checkpoints[4], storage.checkpoints[6]
    assert run_job(config, tmp_path / "resumed").code == ExitCode.SUCCEEDED
    assert (storage.history, storage.checkpoints[6][1]) == (expected, state[1])
