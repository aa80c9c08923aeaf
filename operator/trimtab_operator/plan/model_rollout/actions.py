"""What a person or a tool wants done once: the annotation `rollouts.trimtab.dev/action`.

The value is the action, and whatever follows it after a space, `:`, `@` or `#` makes it another value, so that the same
action can be asked for again: `skip-step:2`. A value that the status has recorded is not carried out a second time.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from trimtab_operator import names
from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.api.v1alpha1.model_rollout import CanaryStatus, HandledAction, Rollback
from trimtab_operator.api.v1alpha1.reasons import Reason

ACTIONS = ("abort", "retry", "promote", "promote-full", "skip-step", "pause", "resume")
_SPOKEN = re.compile(r"^([a-z-]+)(?:[\s:@#].*)?$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Acted:
    """The canary after an action."""

    canary: CanaryStatus
    step: int
    result: str
    """What was done, or why nothing was."""
    fresh_analysis: bool = False
    """What was measured before counts no more."""


def asked(rollout: ModelRollout) -> str:
    """The value that has not been carried out yet; empty without one."""
    value = rollout.metadata.annotations.get(names.ACTION_ANNOTATION, "").strip()[:256]
    handled = rollout.status.action
    return value if handled is None or handled.value != value else ""


def handled(value: str, result: str, *, now: datetime) -> HandledAction:
    """The record of an action."""
    return HandledAction(value=value, at=format_time(now), result=result[:256])


def act(value: str, canary: CanaryStatus | None, *, step: int, steps: int, now: datetime) -> Acted | str:
    """Carry out an action on the canary; a text says why there is nothing to do."""
    match = _SPOKEN.match(value)
    action = match.group(1) if match else ""
    if action not in ACTIONS:
        return f"Ignored: an action is one of {', '.join(ACTIONS)}."
    if canary is None:
        return "Ignored: no version is on its way in."
    if canary.rollback is not None:
        return _on_rolled_back(action, canary, now=now)
    return _on_moving(action, canary, step=step, steps=steps, now=now)


def restarted(canary: CanaryStatus) -> CanaryStatus:
    """The same version from the first step."""
    cleared = {"rollback": None, "held": False, "waits_for": "", "step_started_at": "", "loaded": False}
    return canary.model_copy(update=cleared)


def _on_rolled_back(action: str, canary: CanaryStatus, *, now: datetime) -> Acted | str:
    if action != "retry":
        return f"Ignored: version {canary.version} was rolled back; retry, or set spec.version."
    if canary.rollback is not None and canary.rollback.by_spec:
        return "Ignored: spec.abort is true; set it to false."
    again = restarted(canary).model_copy(update={"started_at": format_time(now)})
    return Acted(again, 0, f"Version {canary.version} begins anew.", fresh_analysis=True)


def _on_moving(action: str, canary: CanaryStatus, *, step: int, steps: int, now: datetime) -> Acted:
    time = format_time(now)
    onwards = canary.model_copy(
        update={"held": False, "waits_for": "", "step_started_at": time if canary.loaded else ""}
    )
    match action:
        case "abort":
            rollback = Rollback(at=time, reason=Reason.ABORTED.value, message="The action abort was asked for.")
            acted = Acted(canary.model_copy(update={"rollback": rollback}), step, "Aborted.")
        case "pause":
            acted = Acted(canary.model_copy(update={"held": True}), step, f"Paused at step {step}.")
        case "retry":
            acted = Acted(onwards, step, f"Step {step} begins anew.", fresh_analysis=True)
        case "promote-full":
            acted = Acted(onwards, steps, "All steps are skipped.")
        case "resume" if canary.held and not canary.waits_for:
            acted = Acted(canary.model_copy(update={"held": False}), step, f"Goes on at step {step}.")
        case _ if step >= steps:
            acted = Acted(onwards, step, "No step is left; the rest of the traffic moves.")
        case _:
            acted = Acted(onwards, step + 1, f"Step {step} is over.")
    return acted
