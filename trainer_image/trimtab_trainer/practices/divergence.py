"""The watch over divergence: what is wrong with a step, and whether to stop or to leave it out.

A number that is not finite never enters a mean, a history or a checkpoint: a diverged step is counted, not averaged.
"""

import math

from trimtab_trainer import logs
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.practices import Divergence
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.state import LoopState


def what_is_wrong(loop: LoopState, settings: Divergence, *, loss: float, norm: float) -> str:
    """Why a step with this mean loss and gradient norm must not move the weights; "" where it may."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return f"has loss {loss:g} and gradient norm {norm:g}"
    recent = loop.recent_losses
    if settings.spike_factor is None or len(recent) < settings.window:
        return ""
    usual = sum(recent) / len(recent)
    if loss > settings.spike_factor * usual:
        return f"has loss {loss:.4g}, more than {settings.spike_factor:g} times the recent mean of {usual:.4g}"
    return ""


def note_step(loop: LoopState, settings: Divergence, *, loss: float) -> None:
    """A step was taken."""
    loop.skipped_in_a_row = 0
    if settings.spike_factor is not None:
        loop.recent_losses = [*loop.recent_losses, loss][-settings.window :]


def skip_or_stop(loop: LoopState, settings: Divergence, *, what: str, rate: float) -> None:
    """Count the step as skipped, or end the run.

    Raises:
        TrainerError: LossDiverged with what to change.
    """
    step = f"Step {loop.step + 1} {what} at learning rate {rate:.3g} ({last_losses(loop)})."
    if settings.on_spike == "Stop":
        raise TrainerError(
            TrainerReason.LOSS_DIVERGED,
            f"{step} Lower `training.learningRate`, lengthen the warm-up, or look at the data around this step.",
        )
    loop.skipped_steps += 1
    loop.skipped_in_a_row += 1
    logs.warning("step_skipped", step=loop.step + 1, what=what)
    if loop.skipped_in_a_row > settings.max_skipped_in_a_row:
        raise TrainerError(
            TrainerReason.LOSS_DIVERGED,
            f"{step} That makes {loop.skipped_in_a_row} skipped steps in a row, more than `training.divergence.maxSkippedInARow` "
            f"({settings.max_skipped_in_a_row}). Lower `training.learningRate`, or start from an earlier checkpoint.",
        )


def last_losses(loop: LoopState) -> str:
    """For messages: `the losses before were 2.1, 2.3, 9.7`."""
    losses = [f"{line['loss']:.4g}" for line in loop.history if "loss" in line][-3:]
    return f"the losses before were {', '.join(losses)}" if losses else "at the very start"
