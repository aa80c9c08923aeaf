"""The Job of an analysis: `python -m trimtab_trainer.canary`.

It asks canary and stable version the same held-out rows, as any client of the rollout's Service does, side by side, and compares the
answers with the right ones. It imports no torch. The numbers are in the termination message; what goes wrong here says nothing about a model.
"""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from trimtab_trainer import logs, termination
from trimtab_trainer.__main__ import SCRATCH_VARIABLE, use_scratch
from trimtab_trainer.canary.endpoint import Endpoint
from trimtab_trainer.canary.questions import FORMATS_OF_TASK, Question, questions
from trimtab_trainer.canary.scores import score
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.canary import CanaryJobConfig
from trimtab_trainer.contract.exit_codes import ExitCode, TrainerReason
from trimtab_trainer.contract.gates import GateMeasurement
from trimtab_trainer.contract.messages import TerminationMessage
from trimtab_trainer.data.formats import read_examples
from trimtab_trainer.data.splits import check_format, named_files
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.by_uri import fetch_dataset
from trimtab_trainer.store.object_store import ObjectStore

CONFIG_VARIABLE = "TRIMTAB_CANARY_JOB_FILE"
_TOGETHER = 4
"""Requests at once: an analysis must not become the load that it measures."""


def main() -> int:
    """Ask, compare, say it; the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(ExitCode.INTERRUPTED))
    logs.set_up(0)
    try:
        scratch = use_scratch(Path(os.environ.get(SCRATCH_VARIABLE, mounts.SCRATCH_DIRECTORY)))
        config = read_config(Path(os.environ.get(CONFIG_VARIABLE, mounts.CANARY_JOB_FILE)))
        stable = Endpoint(config.stable_endpoint) if config.stable_endpoint else None
        message = measure(config, questions_of(config, scratch), Endpoint(config.endpoint), stable=stable)
    except TrainerError as error:
        message = TerminationMessage(reason=error.reason, message=str(error)[:1024])
    return termination.write(message)


def read_config(path: Path) -> CanaryJobConfig:
    """The one document that says what to do.

    Raises:
        TrainerError: ConfigInvalid.
    """
    try:
        return CanaryJobConfig.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TrainerError(TrainerReason.CONFIG_INVALID, f"CanaryJobConfig cannot be read: {error}") from error


def questions_of(config: CanaryJobConfig, scratch: Path) -> list[Question]:
    """The rows of the data set that are asked.

    Raises:
        TrainerError: DatasetNotFound, DatasetInvalid, ConfigInvalid, or the store's.
    """
    source, task = config.data, config.task.kind
    allowed = FORMATS_OF_TASK.get(task, ())
    check_format(source, allowed=allowed, task=task)
    with ObjectStore.open(config.store) as store:
        fetched = fetch_dataset(source, store=store, directory=scratch / "data", field="provider.job.data.uri")
    return questions(read_examples(named_files(fetched), source, allowed=allowed), config)


def measure(
    config: CanaryJobConfig, asked: list[Question], endpoint: Endpoint, *, stable: Endpoint | None = None
) -> TerminationMessage:
    """Both versions' values.

    Args:
        config: what to measure.
        asked: the rows.
        endpoint: the canary's, and the stable version's where that has none of its own.
        stable: the stable version's.

    Raises:
        TrainerError: a row that the server refuses, or a server that does not answer.
    """
    labels = config.task.kind == "sequenceClassification"
    values: dict[str, float] = {}
    with ThreadPoolExecutor(_TOGETHER, thread_name_prefix="ask") as pool:
        # Both are under way at once: what slows or disturbs the servers meets both.
        under_way = {
            model: pool.map(partial(where.ask, model=model), asked)
            for model, where in ((config.canary, endpoint), (config.stable, stable or endpoint))
        }
        for model, answers in under_way.items():
            pairs = [(question.expected, answer) for question, answer in zip(asked, answers, strict=True)]
            values[model] = score(config.metric, pairs, labels=labels)
    result, champion = values[config.canary], values[config.stable]
    logs.fact("asked", rows=len(asked), metric=config.metric, canary=result, stable=champion)
    return TerminationMessage(
        reason="Succeeded",
        message=f"{config.metric} over {len(asked)} rows.",
        gates=[GateMeasurement(result=repr(result), champion=repr(champion))],
        champion=config.stable,
    )


if __name__ == "__main__":
    sys.exit(main())
