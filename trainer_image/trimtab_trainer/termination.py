"""How an attempt ends: one exception, one reason, one termination message of at most 4096 bytes."""

import os
from pathlib import Path
from typing import Any

from trimtab_trainer import logs
from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import EXIT_CODE_OF, ExitCode, TrainerReason
from trimtab_trainer.contract.messages import MAX_TERMINATION_BYTES, TerminationMessage
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.interruption import Interruption

FILE_VARIABLE = "TRIMTAB_TERMINATION_MESSAGE_FILE"
MESSAGE_CHARACTERS = 1024
METRICS = 8
LEADING_METRICS = (
    "test_loss", "test_exact_match", "test_accuracy", "test_f1", "general_loss", "eval_loss", "eval_accuracy", "loss",
)  # fmt: skip
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def success(attempt: Attempt) -> TerminationMessage:
    """The model is published, or this is a process that had nothing to publish."""
    return _message(attempt, "Succeeded", "")


def failure(attempt: Attempt, error: BaseException) -> TerminationMessage:
    """Why the attempt ended."""
    if isinstance(error, Interruption):
        return interruption(attempt)
    if isinstance(error, TrainerError):
        return _message(attempt, error.reason, str(error))
    if is_out_of_memory(error):
        return _message(
            attempt,
            TrainerReason.OUT_OF_MEMORY,
            f"No memory was left ({_first_line(error)}). Choose a smaller `training.microBatchSize` or `data.maxSequenceLength`, "
            "or a profile with more memory.",
        )
    return _message(attempt, TrainerReason.TRAINER_ERROR, f"{type(error).__name__}: {_first_line(error)}")


def interruption(attempt: Attempt) -> TerminationMessage:
    """SIGTERM: where the next attempt will go on."""
    saved = attempt.last_checkpoint
    where = f"The checkpoint of step {saved.step} is committed." if saved else "There was nothing to save yet."
    lost = attempt.step - (saved.step if saved else 0)
    repeated = f" {lost} step{'s' if lost != 1 else ''} will be repeated." if lost else ""
    return _message(attempt, TrainerReason.INTERRUPTED, f"SIGTERM at step {attempt.step}. {where}{repeated}")


def reason_of(error: BaseException) -> TrainerReason:
    """The reason of whatever ended a process."""
    if isinstance(error, Interruption):
        return TrainerReason.INTERRUPTED
    if isinstance(error, TrainerError):
        return error.reason
    return TrainerReason.OUT_OF_MEMORY if is_out_of_memory(error) else TrainerReason.TRAINER_ERROR


def is_out_of_memory(error: BaseException) -> bool:
    """Python's, PyTorch's or CUDA's way to say it."""
    is_their_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return is_their_type or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)
    )


def write(message: TerminationMessage, path: Path | None = None) -> int:
    """Write the message where the kubelet reads it; the exit code that belongs to it."""
    path = path or Path(os.environ.get(FILE_VARIABLE, mounts.TERMINATION_MESSAGE_FILE))
    try:
        path.write_bytes(encode(message))
    except OSError as error:
        logs.warning("termination_message_failed", error=str(error))
    logs.fact("ended", reason=message.reason, step=message.step, message=message.message or None)
    return int(ExitCode.SUCCEEDED if message.reason == "Succeeded" else EXIT_CODE_OF[message.reason])


def encode(message: TerminationMessage) -> bytes:
    """JSON within the kubelet's limit; what must go goes in this order: text, metrics, checkpoint's metrics, report, checkpoint, text."""
    checkpoint = message.last_checkpoint
    cuts: tuple[dict[str, Any], ...] = (
        {},
        {"message": message.message[:256]},
        {"metrics": []},
        {"last_checkpoint": checkpoint and checkpoint.model_copy(update={"metrics": {}})},
        {"report_uri": ""},
        {"last_checkpoint": None},
        {"message": ""},
    )
    for shorter in cuts:
        message = message.model_copy(update=shorter)
        data = message.model_dump_json(by_alias=True, exclude_none=True).encode()
        if len(data) <= MAX_TERMINATION_BYTES:
            break
    return data


def _message(attempt: Attempt, reason: "TrainerReason | str", text: str) -> TerminationMessage:
    first = [value for value in attempt.metric_values(64) if value.name in LEADING_METRICS]
    others = [value for value in attempt.metric_values(64) if value.name not in LEADING_METRICS]
    return TerminationMessage.model_validate(
        {
            "reason": reason,
            "message": text[:MESSAGE_CHARACTERS],
            "step": attempt.step,
            "metrics": [*first, *others][:METRICS],
            "last_checkpoint": attempt.last_checkpoint,
            "published": attempt.published,
            "report_uri": attempt.report_uri,
            "gates": attempt.gates,
            "champion": attempt.champion,
        }
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
