"""What is known of a version's bytes and of its gates: from its record, and from the Job that looked at it last."""

from collections.abc import Sequence
from datetime import datetime

from trimtab_operator import names
from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1 import ModelVersion
from trimtab_operator.api.v1alpha1.gates import GateResult
from trimtab_operator.api.v1alpha1.model_version import (
    Artifact,
    ModelVersionSpec,
    VersionEvaluationResult,
    VersionVerification,
)
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.gates import judge
from trimtab_operator.state import VersionCheck
from trimtab_operator.status.conditions import Fact, fact, shorten

_WORST_FIRST = (
    ("Failed", Reason.GATE_FAILED),
    ("Error", Reason.GATE_ERROR),
    ("Inconclusive", Reason.GATE_INCONCLUSIVE),
)


def answers(
    version: ModelVersion, check: VersionCheck | None, *, now: datetime
) -> tuple[VersionVerification | None, VersionEvaluationResult | None]:
    """What was found, with what the Job that has just ended adds."""
    status = version.status
    if check is None or not check.has_ended:
        return status.verification, status.evaluation
    verification = _verification(check, status.verification, now=now)
    if check.evaluate is None:
        return verification, status.evaluation
    return verification, _evaluation(version, check, now=now)


def imported(version: ModelVersion, check: VersionCheck | None) -> Artifact | None:
    """The bytes of an import, with what the Job that has just ended published."""
    published = check.words.published if check is not None and check.words is not None else None
    if published is None or version.spec.import_from is None:
        return version.status.artifact
    return Artifact(
        uri=published.uri,
        manifest_sha256=published.manifest_sha256,
        size_bytes=published.size_bytes,
        format=published.format,
        files=published.files,
    )


def verified(spec: ModelVersionSpec, last: VersionVerification | None, check: VersionCheck | None) -> Fact:
    """Whether the bytes in the store are those that were published. Servers verify again before they load, in any case."""
    if last is not None and last.holds is not None:
        reason = Reason.BYTES_VERIFIED if last.holds else _reason(last.reason or Reason.DIGEST_MISMATCH.value)
        return fact(
            "Verified", holds=last.holds, reason=reason, message=f"{last.message} (Job {last.job_name}, {last.time})"
        )
    if spec.verified_at and spec.source is not None:
        message = f"The trainer read every byte back from the store and compared digests at {spec.verified_at}."
        if last is not None:
            message += f" The newest try to read them again told nothing: {last.message}"
        return fact("Verified", holds=True, reason=Reason.BYTES_VERIFIED, message=message)
    if last is not None:
        message = f"{last.message} Set the annotation {names.VERIFY_ANNOTATION} to another value to try again."
        return fact("Verified", holds=None, reason=_reason(last.reason), message=message)
    job = f"Job {check.job_name} reads every byte. " if check else ""
    message = f"An imported version, not read back yet. {job}Servers of Trimtab verify before they load in any case."
    return fact("Verified", holds=None, reason=Reason.VERIFYING if check else Reason.NOT_VERIFIED, message=message)


def promotable(version: ModelVersion, last: VersionEvaluationResult | None, check: VersionCheck | None) -> Fact:
    """Whether the gates were passed. The newest measurement counts."""
    evaluation = version.spec.evaluation
    asked = version.metadata.annotations.get(names.EVALUATE_ANNOTATION)
    results = list(last.gates) if last is not None and last.gates else list(version.spec.gates)
    if not results and evaluation is None:
        ignored = (
            f" The annotation {names.EVALUATE_ANNOTATION} does nothing: spec.evaluation is empty." if asked else ""
        )
        return fact("Promotable", holds=True, reason=Reason.PROMOTABLE, message=f"No gates were set.{ignored}")
    if not results:
        return _not_evaluated(last, check)
    return _judged(version, results)


def _judged(version: ModelVersion, results: Sequence[GateResult]) -> Fact:
    holding = [result for result in results if result.holds_back]
    approval = version.metadata.annotations.get(names.APPROVE_ANNOTATION, "")
    if approval and holding and all(result.phase == "Inconclusive" for result in holding):
        message = f"Approved ({approval}) although inconclusive: {_sentences(holding)}"
        return fact("Promotable", holds=True, reason=Reason.APPROVED, message=shorten(message))
    if not holding:
        return fact(
            "Promotable",
            holds=True,
            reason=Reason.PROMOTABLE,
            message=f"No gate stands in the way: {_sentences(results)}",
        )
    reason = next(reason for phase, reason in _WORST_FIRST if any(result.phase == phase for result in holding))
    advice = {
        Reason.GATE_FAILED: "Train a better version; this one stays as it is.",
        Reason.GATE_ERROR: f"Measure it again: set the annotation {names.EVALUATE_ANNOTATION} to a new value.",
        Reason.GATE_INCONCLUSIVE: f"A person decides: set the annotation {names.APPROVE_ANNOTATION} to say who and why.",
    }[reason]
    return fact("Promotable", holds=False, reason=reason, message=f"{_sentences(holding)} {advice}")


def _sentences(results: Sequence[GateResult]) -> str:
    """Gates that hold back come first where the message gets too long."""
    ordered = sorted(results, key=lambda result: (not result.holds_back, result.phase == "Successful"))
    return " ".join(f"{result.phase}: {result.message}" for result in ordered)


def _not_evaluated(last: VersionEvaluationResult | None, check: VersionCheck | None) -> Fact:
    if last is not None:
        message = (
            f"Its gates could not be measured: {last.message} "
            f"Set the annotation {names.EVALUATE_ANNOTATION} to another value to try again."
        )
        return fact("Promotable", holds=False, reason=_reason(last.reason), message=message)
    job = f": Job {check.job_name} measures them" if check else ""
    return fact(
        "Promotable", holds=False, reason=Reason.NOT_EVALUATED, message=f"Its gates have not been measured yet{job}."
    )


def _verification(check: VersionCheck, before: VersionVerification | None, *, now: datetime) -> VersionVerification:
    """A look that found nothing out proves nothing: what was known stays."""
    found = check.words.verification if check.words else None
    if found is None and before is not None and before.holds is not None:
        return before.model_copy(update={"request": check.verify})
    reason, message = _failure(check)
    return VersionVerification(
        request=check.verify,
        job_name=check.job_name,
        time=format_time(now),
        holds=found.holds if found else None,
        reason="" if found and reason != Reason.SIGNATURE_INVALID else reason,
        message=shorten(found.message if found else message),
    )


def _evaluation(version: ModelVersion, check: VersionCheck, *, now: datetime) -> VersionEvaluationResult:
    words, evaluation = check.words, version.spec.evaluation
    measured = words is not None and words.reason == "Succeeded"
    reason, message = ("", "") if measured else _failure(check)
    champion = words.champion if words else ""
    return VersionEvaluationResult(
        request=check.evaluate or "",
        job_name=check.job_name,
        time=format_time(now),
        champion=champion,
        gates=judge(evaluation.gates, words.gates, champion) if measured and words and evaluation else [],
        reason=reason,
        message=shorten(message),
    )


def _failure(check: VersionCheck) -> tuple[str, str]:
    if check.words is not None and check.words.reason != "Succeeded":
        return str(check.words.reason.value), check.words.message
    if check.problem is not None:
        return check.problem.reason.value, check.problem.message
    return Reason.RESULT_LOST.value, f"Job {check.job_name} left no result."


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        return Reason.NOT_VERIFIED
