"""The status of a ModelVersion: whether its bytes are proved, whether it may be promoted, who uses it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelVersion
from trimtab_operator.api.v1alpha1.model_version import (
    Artifact,
    ModelVersionStatus,
    VersionVerification,
)
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.settings import Settings
from trimtab_operator.state import EventNote, ObservedVersion, Outcome, Plan, Problem, Reclaim, VersionCheck, uses
from trimtab_operator.status.conditions import Fact, fact, merge
from trimtab_operator.status.model_version.judgement import answers, imported, promotable, verified
from trimtab_operator.status.model_version.reclaim import event, reclaimed, told
from trimtab_operator.status.wire import to_wire

MAX_ROLLOUTS = 64


def compute_status(
    observed: ObservedVersion, problems: Sequence[Problem], plan: Plan, *, settings: Settings, now: datetime
) -> Outcome:
    """What is true now."""
    del settings
    version, stored = observed.version, observed.version.status
    generation = version.metadata.generation
    check = _with_refusal(plan.check, observed)
    if plan.reclaim is not None and plan.reclaim.problem is not None and version.metadata.deletion_timestamp is None:
        problems = [*problems, plan.reclaim.problem]
    verification, evaluation = answers(version, check, now=now)
    artifact = imported(version, check)
    proof = verified(version.spec, verification, check)
    said = [
        proof,
        _unsigned(observed) or promotable(version, evaluation, check),
        *_trio([*problems, *_not_imported(version, artifact, verification, check), *_changed(proof)], check),
    ]
    deletion = _with_refused_job(plan.reclaim, observed)
    reclaim = reclaimed(version, deletion, now=now)
    said = told(said, version, deletion, reclaim)
    status = ModelVersionStatus(
        observed_generation=generation,
        conditions=merge(stored.conditions, said, generation=generation, now=now),
        rollouts=sorted(rollout.metadata.name for rollout in observed.rollouts if uses(rollout, version))[
            :MAX_ROLLOUTS
        ],
        artifact=artifact,
        verification=verification,
        evaluation=evaluation,
        reclaim=reclaim,
    )
    return Outcome(to_wire(status), tuple(_events(stored, status)))


def _with_refusal(check: VersionCheck | None, observed: ObservedVersion) -> VersionCheck | None:
    """The API server does not let the Job be made."""
    refused = observed.rejected
    if check is None or check.has_ended or check.problem is not None or refused is None:
        return check
    return replace(check, problem=Problem(refused.reason, refused.message))


def _with_refused_job(reclaim: Reclaim | None, observed: ObservedVersion) -> Reclaim | None:
    return None if reclaim is None else replace(reclaim, check=_with_refusal(reclaim.check, observed))


def _unsigned(observed: ObservedVersion) -> Fact | None:
    """A signature that the profile demands and the version lacks. Whether one holds, servers find out before they load."""
    profile = observed.profile
    if profile is None or not profile.spec.signing.required or observed.version.spec.signature is not None:
        return None
    message = f"TrainingProfile '{profile.metadata.name}' demands a signature, and this version has none: publish again with output.sign: true."
    return fact("Promotable", holds=False, reason=Reason.SIGNATURE_MISSING, message=message)


def _not_imported(
    version: ModelVersion, artifact: Artifact | None, last: VersionVerification | None, check: VersionCheck | None
) -> Iterator[Problem]:
    """An import without bytes cannot be used."""
    source = version.spec.import_from
    if source is None or artifact is not None:
        return
    if last is None or (check is not None and not check.has_ended):
        if check is None or check.problem is None:
            yield Problem(Reason.IMPORTING, f"A Job publishes a copy of {source.uri}.")
        return
    yield Problem(
        Reason.NOT_AVAILABLE,
        f"{source.uri} could not be imported: {last.message} Mend it and set the annotation {names.VERIFY_ANNOTATION} to a new "
        "value to try again, or delete this version.",
    )


def _changed(proof: Fact) -> Iterator[Problem]:
    """Bytes that are not those that were published: nobody may use them, and they do not mend themselves."""
    if proof.status == "False":
        yield Problem(proof.reason, proof.message)


def _trio(problems: Sequence[Problem], check: VersionCheck | None) -> list[Fact]:
    """For GitOps. A version does not move, but a Job may be looking at it."""
    waits = check is not None and not check.has_ended
    if not problems and waits and check is not None and check.problem is not None:
        problems = (check.problem,)
    if problems:
        reason, message = problems[0].reason, " ".join(problem.message for problem in problems)
        stuck = f"The platform must act: {message}" if problems[0].who == "platform" else message
    else:
        reason, message = Reason.AVAILABLE, "The version may be served, if it is promotable."
        stuck = "Nobody has to do anything."
    moving = (reason, message)
    importing = bool(problems) and problems[0].reason is Reason.IMPORTING
    if importing:
        stuck = "Nobody has to do anything."
    if waits and not problems and check is not None:
        doing = Reason.VERIFYING if check.evaluate is None else Reason.EVALUATING
        moving = (doing, f"Job {check.job_name} looks at this version.")
    return [
        fact("Ready", holds=not problems, reason=reason, message=message),
        fact("Reconciling", holds=importing or (waits and not problems), reason=moving[0], message=moving[1]),
        fact("Stalled", holds=bool(problems) and not importing, reason=reason, message=stuck),
    ]


def _events(before: ModelVersionStatus, after: ModelVersionStatus) -> Iterator[EventNote]:
    if note := event(before, after):
        yield note
    if after.reclaim is not None:
        return
    warned: set[str] = set()
    for kind in ("Ready", "Verified", "Promotable"):
        old, new = before.condition(kind), after.condition(kind)
        if new is None or (old is not None and old.status == new.status):
            continue
        if new.status == "True" and (kind == "Ready" or old is not None):
            yield EventNote("Normal", Reason(new.reason), new.message)
        elif new.status == "False" and new.reason not in warned:
            warned.add(new.reason)
            yield EventNote("Warning", Reason(new.reason), new.message)
