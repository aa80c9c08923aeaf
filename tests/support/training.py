"""A tiny trainer on a CPU: whole jobs in this process, and the models and data files that they name."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.object_store import make_run_config
from tests.support.rows import chats, labelled, multi_labelled, preferences, prompts, questions, tagged, write_jsonl
from tests.support.tiny_models import write_tiny_bert, write_tiny_llama

from trimtab_trainer import __main__ as program
from trimtab_trainer import termination
from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.messages import TerminationMessage, TrainerReport
from trimtab_trainer.contract.run_config import RunConfig, Store
from trimtab_trainer.interruption import StopSignal
from trimtab_trainer.reporting.progress import Reporter
from trimtab_trainer.world import World


class Killed(BaseException):
    """SIGKILL: nothing more is written."""


class CountedStop(StopSignal):
    """SIGTERM (or SIGKILL) at the n-th time that the loop looks for it; an exact place, unlike a timer."""

    def __init__(self, *, term_at: int | None = None, kill_at: int | None = None, everywhere: bool = False) -> None:
        self.looks = 0
        self._term_at, self._kill_at, self._counts = term_at, kill_at, everywhere
        self._everywhere = everywhere
        super().__init__()

    @contextmanager
    def finish_first(self) -> Iterator[None]:
        """The loop runs inside; looks elsewhere count only with `everywhere`."""
        self._counts = True
        try:
            yield
        finally:
            self._counts = self._everywhere

    @property
    def requested(self) -> bool:
        self.looks += self._counts
        if self._kill_at is not None and self.looks >= self._kill_at:
            raise Killed
        return self._term_at is not None and self.looks >= self._term_at

    @requested.setter
    def requested(self, _value: bool) -> None: ...


@dataclass
class End:
    """How a run ended."""

    code: int
    message: TerminationMessage
    report: TrainerReport
    attempt: Attempt


class Endpoint:
    """An operator that reserves version 1."""

    def post(self, _body: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"name": "tone-v1", "version": 1}


def run_job(config: RunConfig, scratch: Path, *, stop: StopSignal | None = None, world: World | None = None) -> End:
    """One attempt in this process, with `MemoryStorage` installed."""
    scratch.mkdir(parents=True, exist_ok=True)
    attempt = Attempt(
        config=config,
        stop=stop or StopSignal(),
        reporter=Reporter(TrainerReport(attempt=config.attempt, phase="Preparing"), None),
        scratch=scratch,
        world=world or World(),
        version_endpoint=Endpoint(),  # type: ignore[arg-type]
        started=time.monotonic(),
    )
    log = scratch / "termination-log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(termination.FILE_VARIABLE, str(log))
        patch.setattr(program, "leave", lambda _: None)
        code = program.run(attempt)
    return End(code, TerminationMessage.model_validate_json(log.read_bytes()), attempt.reporter.report, attempt)


def make_job(**changes: Any) -> RunConfig:
    """A job on the files of the `job_files` fixture: six steps of four examples."""
    document: dict[str, Any] = {
        "model": {"uri": "s3://models/llama"},
        "data": {
            "train": [{"uri": "s3://data/train.jsonl"}],
            "validation": [{"uri": "s3://data/validation.jsonl"}],
            "test": [{"uri": "s3://data/test.jsonl"}],
            "maxSequenceLength": 128,
        },
        "method": {"lora": {"r": 4, "dropout": 0.2}},
        "training": {"maxSteps": 6, "globalBatchSize": 4, "learningRate": 0.01, "precision": "float32"},
        "checkpoints": {"everySteps": 2},
    }
    for name, change in changes.items():
        is_merged = name in {"data", "training", "checkpoints"}
        document[name] = {**document[name], **change} if is_merged else change
    base = make_run_config(Store(profile="default", bucket="bucket")).to_json()
    return RunConfig.model_validate({**base, **document})


Job = Callable[..., RunConfig]


def job_on(store: Store, **changes: Any) -> RunConfig:
    """The same job with model and data below `in/` of the store's bucket."""
    data = {split: [{"uri": f"s3://{store.bucket}/in/data/{split}.jsonl"}] for split in ("train", "validation", "test")}
    known = {"model": {"uri": f"s3://{store.bucket}/in/models/llama"}}
    document = make_job(**{**known, **changes, "data": data | changes.get("data", {})}).to_json()
    return RunConfig.model_validate({**document, "store": store.to_json()})


def write_job_files(root: Path) -> Path:
    """Models and data that `make_job` names."""
    (root / "models").mkdir(parents=True)
    (root / "data").mkdir()
    write_tiny_llama(root / "models" / "llama", dropout=0.1)
    write_tiny_llama(root / "models" / "llama-no-dropout")
    write_tiny_bert(root / "models" / "bert")
    write_tiny_bert(root / "models" / "bert-no-dropout", dropout=0.0)
    write_jsonl(root / "data" / "train.jsonl", chats(22))
    write_jsonl(root / "data" / "validation.jsonl", chats(5, turns=2))
    write_jsonl(root / "data" / "test.jsonl", [{**row} for row in chats(27)[22:]])
    write_jsonl(
        root / "data" / "general.jsonl",
        [{"text": f"The {number} seas are wide and {number} ships sail."} for number in range(6)],
    )
    for split, count in (("train", 22), ("validation", 6), ("test", 6)):
        for name, rows in (
            ("labelled", labelled),
            ("multi-labelled", multi_labelled),
            ("tagged", tagged),
            ("questions", questions),
        ):
            write_jsonl(root / "data" / f"{split}-{name}.jsonl", rows(count))
        write_jsonl(root / "data" / f"{split}-preferences.jsonl", preferences(count))
        write_jsonl(root / "data" / f"{split}-prompts.jsonl", prompts(count))
        write_jsonl(root / "data" / f"{split}-raw.jsonl", [{"text": f"{split} {'ab ' * n}"} for n in range(count)])
    return root
