"""Whether a ModelVersion is to be looked at by a Job, and what the Job has found.

Versions that a trainer published were read back by it; a Job reads back what was imported, and whatever a new value of the
annotation `trimtab.dev/verify` or `trimtab.dev/evaluate` asks for. Each request has a Job of its own name, so asking twice is one Job.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from trimtab_operator import names
from trimtab_operator.api.v1alpha1.model_version import VersionEvaluationResult, VersionVerification
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.plan.fine_tune_job.evidence import root_cause
from trimtab_operator.plan.fine_tune_job.hang import find_hang, look_again
from trimtab_operator.plan.fine_tune_job.observation import TrainerJob, TrainerPod, parse_job, pods_of
from trimtab_operator.state import Manifest, ObservedVersion, Problem, VersionCheck
from trimtab_trainer.contract.messages import TerminationMessage

SETTLING = timedelta(seconds=20)
"""Jobs and Pods come by two watches: a Job may be seen to end before its pods are."""
MAX_REQUEST = 253
"""Characters of an annotation's value that tell one request from another."""
_SOON = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for and not answered."""

    verify: str
    evaluate: str | None
    """None: only verify."""

    def job_name(self, version: str) -> str:
        """Its Job."""
        return names.version_job(version, f"{self.verify}\n{self.evaluate}")


def request_of(observed: ObservedVersion) -> Request | None:
    """What is due. Measuring reads the bytes back too, so an evaluation answers both."""
    version = observed.version
    spec, status, annotations = version.spec, version.status, version.metadata.annotations
    asked_verify = annotations.get(names.VERIFY_ANNOTATION, "")[:MAX_REQUEST]
    asked_evaluate = annotations.get(names.EVALUATE_ANNOTATION, "")[:MAX_REQUEST]
    was_read_back = bool(spec.verified_at and spec.source is not None)
    # An annotation that was taken away asks for nothing.
    verify = _is_new(asked_verify, status.verification) or (status.verification is None and not was_read_back)
    evaluate = spec.evaluation is not None and (
        _is_new(asked_evaluate, status.evaluation) or (status.evaluation is None and not spec.gates)
    )
    if not verify and not evaluate:
        return None
    return Request(asked_verify, asked_evaluate if evaluate else None)


def _is_new(asked: str, answered: VersionVerification | VersionEvaluationResult | None) -> bool:
    return bool(asked) and (answered is None or asked != answered.request)


def look(observed: ObservedVersion, request: Request, *, now: datetime) -> tuple[VersionCheck, timedelta | None]:
    """What the request's Job says, and when to look again."""
    name = request.job_name(observed.version.metadata.name)
    return follow(observed.jobs, observed.pods, VersionCheck(name, request.verify, request.evaluate), now=now)


def follow(
    jobs: Sequence[Manifest], every_pod: Sequence[Manifest], pending: VersionCheck, *, now: datetime
) -> tuple[VersionCheck, timedelta | None]:
    """What a Job says, and when to look again."""
    job = next((parsed for parsed in map(parse_job, jobs) if parsed.ref.name == pending.job_name), None)
    if job is None or job.is_deleting:
        return pending, None
    pods = pods_of(job, tuple(every_pod))
    if not job.has_ended:
        return _with(pending, problem=find_hang(job, pods, now=now)), look_again(job, pods, now=now)
    words = _last_words(pods)
    if words is not None:
        return _with(pending, has_ended=True, words=words), None
    end = job.fact("Complete", "Failed")
    if end is not None and end.since is not None and now - end.since < SETTLING:
        return pending, _SOON
    return _with(pending, has_ended=True, problem=_without_words(job, pods)), None


def _with(
    check: VersionCheck,
    *,
    has_ended: bool = False,
    words: TerminationMessage | None = None,
    problem: Problem | None = None,
) -> VersionCheck:
    return VersionCheck(check.job_name, check.verify, check.evaluate, has_ended, words, problem)


def _last_words(pods: Sequence[TrainerPod]) -> TerminationMessage | None:
    """Of the newest try that says something."""
    said = [
        (pod.created_at.timestamp() if pod.created_at else 0.0, pod.terminated.message)
        for pod in pods
        if pod.terminated and pod.terminated.message
    ]
    return max(said, key=lambda entry: entry[0])[1] if said else None


def _without_words(job: TrainerJob, pods: Sequence[TrainerPod]) -> Problem:
    if job.fact("Complete"):
        return Problem(
            Reason.RESULT_LOST, f"Job {job.ref.name} ended well, but its pod went before its result was read."
        )
    cause = root_cause(job, pods, is_custom=False)
    return Problem(cause.reason, cause.message)
