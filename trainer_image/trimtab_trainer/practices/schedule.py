"""The learning rate of each step."""

import math

from trimtab_trainer.contract.practices import Decay, LearningRateSchedule, Warmup


def learning_rate(step: int, *, total_steps: int, schedule: LearningRateSchedule, peak: float) -> float:
    """The rate of optimizer step `step` (the first is 0).

    `warmup` steps rise on a line that would meet 0 one step before the first and the peak one step after the last, so
    that no step is wasted at 0; then the schedule falls towards its floor, which it would meet one step after the last.
    """
    chosen = member(schedule)
    warmup = round(chosen.warmup_ratio * total_steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    share = _share_of_peak(schedule, done=step - warmup, left=max(total_steps - warmup, 1), warmup=warmup)
    floor = chosen.minimum_ratio if isinstance(chosen, Decay) else 0.0
    return peak * (floor + (1 - floor) * share)


def member(schedule: LearningRateSchedule) -> Warmup:
    """The union's member that is set."""
    found = (getattr(schedule, name) for name in type(schedule).model_fields)
    return next(one for one in found if one is not None)


def _share_of_peak(schedule: LearningRateSchedule, *, done: int, left: int, warmup: int) -> float:
    """1 at the peak, 0 at the floor; `done` of `left` steps after the warm-up are behind."""
    progress = min(done / left, 1.0)
    if schedule.cosine is not None:
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule.linear is not None:
        return 1 - progress
    if schedule.inverse_square_root is not None:
        timescale = max(warmup, 1)
        return math.sqrt(timescale / (timescale + done))
    if schedule.cosine_with_restarts is not None:
        return 0.5 * (1 + math.cos(math.pi * (progress * schedule.cosine_with_restarts.cycles % 1.0)))
    return 1.0
