"""A cluster of one ModelVersion in memory: passes look at it as the operator does, and tests play the Jobs."""

from typing import Any

from tests.support.builders import NOW, SETTINGS, after, make_profile, make_storage, pod_of

from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1 import ModelVersion
from trimtab_operator.names import GROUP
from trimtab_operator.plan.model_version.compose import make_plan
from trimtab_operator.state import Manifest, ObservedVersion, Plan
from trimtab_operator.status.model_version.compose import compute_status
from trimtab_operator.validation.model_version.compose import check
from trimtab_trainer.contract.messages import TerminationMessage


class VersionWorld:
    """One ModelVersion, the Jobs that the plan makes for it, and their pods."""

    def __init__(self, version: ModelVersion, **observed: Any) -> None:
        self.version = version
        self.jobs: dict[str, Manifest] = {}
        self.pods: tuple[Manifest, ...] = ()
        self.plan = Plan()
        self.seconds = 0.0
        self._observed = {"profile": make_profile(), "storage": make_storage(), "rollouts": ()} | observed

    def look(self) -> "VersionWorld":
        """One pass: everything but the API server."""
        observed = ObservedVersion(
            version=self.version, jobs=tuple(self.jobs.values()), pods=self.pods, **self._observed
        )
        problems, now = check(observed, settings=SETTINGS), after(self.seconds)
        self.plan = make_plan(observed, problems, settings=SETTINGS, now=now)
        for ref in self.plan.delete:
            self.jobs.pop(ref.name)
        for job in self.plan.create:
            given = {
                "uid": f"uid-{job['metadata']['name']}",
                "resourceVersion": "1",
                "creationTimestamp": format_time(now),
            }
            self.jobs.setdefault(job["metadata"]["name"], job | {"metadata": job["metadata"] | given, "status": {}})
        outcome = compute_status(observed, problems, self.plan, settings=SETTINGS, now=now)
        status = type(self.version.status).model_validate(outcome.status)
        self.version = self.version.model_copy(update={"status": status})
        return self

    def annotate(self, **values: str) -> "VersionWorld":
        """Ask for a look: `verify` or `evaluate`."""
        annotations = {f"{GROUP}/{key}": value for key, value in values.items()}
        metadata = self.version.metadata.model_copy(update={"annotations": annotations})
        self.version = self.version.model_copy(update={"metadata": metadata})
        return self.look()

    def end(self, *, code: int = 0, words: dict[str, Any] | None = None, complete: bool = True) -> "VersionWorld":
        """The newest Job's pod ends, and the Job with it."""
        job = list(self.jobs.values())[-1]
        pod = pod_of(job | {"metadata": job["metadata"] | {"namespace": "demo"}})
        text = (
            TerminationMessage.model_validate(words).model_dump_json(by_alias=True, exclude_none=True) if words else ""
        )
        state = {"terminated": {"exitCode": code, "message": text, "finishedAt": format_time(NOW)}}
        pod["status"] = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "trainer", "state": state}],
        }
        self.pods = (pod,)
        condition = {
            "type": "Complete" if complete else "Failed",
            "status": "True",
            "lastTransitionTime": format_time(NOW),
        }
        job["status"]["conditions"] = [condition]
        return self.look()

    def said(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        condition = self.version.status.condition(kind)
        assert condition is not None
        return condition.status, condition.reason

    def message(self, kind: str) -> str:
        """Message of a condition."""
        condition = self.version.status.condition(kind)
        assert condition is not None
        return condition.message
