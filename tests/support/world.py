"""A cluster of one FineTuneJob in memory: passes run over it as the operator runs them, and tests play the kubelet."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tests.support.builders import NOW, SETTINGS, make_job, make_profile, make_storage, pod_of

from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1 import FineTuneJob, ModelVersion, Reason, StorageProfile, TrainingProfile
from trimtab_operator.plan.fine_tune_job.compose import make_plan
from trimtab_operator.plan.fine_tune_job.version import next_version
from trimtab_operator.state import EventNote, Manifest, ObservedJob, Plan, RejectedWrite, Report
from trimtab_operator.status.fine_tune_job.compose import compute_status
from trimtab_operator.validation.fine_tune_job.compose import check
from trimtab_trainer.contract.messages import KubeflowTrainerStatus, TerminationMessage, TrainerReport

MAX_PASSES = 20


def to_stored(job: FineTuneJob) -> Manifest:
    """The status of a job that a test begins with, as it would be stored."""
    wire: Manifest = job.status.to_json() if job.status.attempts or job.status.conditions else {}
    return wire


class World:
    """What the API server holds."""

    def __init__(
        self,
        job: FineTuneJob | None = None,
        *,
        profile: TrainingProfile | None = None,
        storage: StorageProfile | None = None,
        base_version: ModelVersion | None = None,
    ) -> None:
        self.job = job or make_job()
        self.profile: TrainingProfile | None = profile or make_profile()
        self.storage: StorageProfile | None = storage or make_storage()
        self.base_version = base_version
        self.now: datetime = NOW
        self.jobs: dict[str, Manifest] = {}
        self.pods: dict[str, Manifest] = {}
        self.created: list[Manifest] = []
        self.versions: dict[str, ModelVersion] = {}
        self.report: Report | None = None
        self.wire: Manifest = to_stored(self.job)
        self.refuse: dict[str, tuple[Reason, str]] = {}
        """Kinds that the API server refuses."""
        self.writes = 0
        """Status writes."""
        self.events: list[EventNote] = []
        self.plan = Plan()
        self.deleted = False

    # ── the operator ──

    @property
    def status(self) -> Any:
        """The stored status, parsed."""
        return self.job.status

    @property
    def observed(self) -> ObservedJob:
        """What a pass sees."""
        newest = self.status.attempts[-1].number if self.status.attempts else 0
        return ObservedJob(
            job=self.job,
            profile=self.profile,
            storage=self.storage,
            base_version=self.base_version,
            trainer_jobs=tuple(self.jobs.values()),
            pods=tuple(self.pods.values()),
            report=self.report if self.report and self.report.attempt == newest else None,
            version=self.versions.get(self.status.model_version),
        )

    def one_pass(self) -> bool:
        """Observe, check, plan, apply, status. True: something was written."""
        observed = self.observed
        problems = check(observed, settings=SETTINGS)
        self.plan = make_plan(observed, problems, settings=SETTINGS, now=self.now)
        wrote, rejected = self._apply(self.plan)
        if wrote and rejected is None:
            return True
        observed = replace(observed, rejected=rejected)
        outcome = compute_status(observed, problems, self.plan, settings=SETTINGS, now=self.now)
        if outcome.status == self.wire:
            return False
        self.wire = outcome.status
        self.job = FineTuneJob.parse(self._body() | {"status": outcome.status})
        self.writes += 1
        self.events.extend(outcome.events)
        return True

    def settle(self) -> "World":
        """Run passes until nothing changes any more."""
        for _ in range(MAX_PASSES):
            if not self.one_pass():
                return self
        raise AssertionError(f"the job never comes to rest: {self.wire}")

    def advance(self, seconds: float) -> "World":
        """Let time pass, then settle."""
        self.now += timedelta(seconds=seconds)
        return self.settle()

    # ── the user, the kubelet, the Job controller ──

    def change(self, **spec: Any) -> "World":
        """Edit the spec, as the user does."""
        body = self._body() | {"status": self.wire}
        body["spec"] = self.job.spec.to_json() | spec
        body["metadata"]["generation"] = self.job.metadata.generation + 1
        self.job = FineTuneJob.parse(body)
        return self.settle()

    def newest_job(self) -> Manifest:
        """The Job of the newest attempt."""
        return self.jobs[self.status.attempts[-1].job_name]

    def schedule(self, count: int = 1) -> "World":
        """The Job controller makes the pods."""
        for index in range(count):
            pod = pod_of(self.newest_job(), index=index)
            pod["metadata"]["creationTimestamp"] = format_time(self.now)
            self.pods[pod["metadata"]["name"]] = pod
        return self.settle()

    def run(self, count: int = 1) -> "World":
        """Every pod runs."""
        self.schedule(count)
        for pod in self._newest_pods():
            pod["spec"]["nodeName"] = "node-1"
            pod["status"]["phase"] = "Running"
            state = {"running": {"startedAt": format_time(self.now)}}
            pod["status"]["containerStatuses"] = [{"name": "trainer", "state": state, "imageID": "registry@sha256:1"}]
        return self.settle()

    def say(self, trainer: TrainerReport | None = None, kubeflow: KubeflowTrainerStatus | None = None) -> "World":
        """The trainer reports."""
        attempt = self.status.attempts[-1].number
        self.report = Report(attempt=attempt, received_at=self.now, trainer=trainer, kubeflow=kubeflow)
        return self.settle()

    def reserve(self) -> str:
        """The trainer asks for a version."""
        number = next_version(self.job.spec.output.model_name, self.versions.values(), [self.job], ())
        name = f"{self.job.spec.output.model_name}-v{number}"
        self.wire = self.wire | {"modelVersion": name}
        self.job = FineTuneJob.parse(self._body() | {"status": self.wire})
        self.writes += 1
        return name

    def end_pod(self, code: int, *, index: int = 0, message: str = "", reason: str = "", **status: Any) -> "World":
        """A container ends."""
        pod = self._newest_pods()[index]
        running = pod["status"].get("containerStatuses", [{}])[0].get("state", {}).get("running", {})
        terminated = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "message": message,
            "startedAt": running.get("startedAt", format_time(self.now)),
            "finishedAt": format_time(self.now),
        }
        pod["status"] |= {"phase": "Succeeded" if code == 0 else "Failed"} | status
        pod["status"]["containerStatuses"] = [{"name": "trainer", "state": {"terminated": terminated}}]
        return self

    def end_job(self, *, message: str = "") -> "World":
        """The Job controller notes how its pods ended."""
        job = self.newest_job()
        failed = any(pod["status"]["phase"] == "Failed" for pod in self._newest_pods()) or bool(message)
        job["status"]["conditions"] = [
            {
                "type": "Failed" if failed else "Complete",
                "status": "True",
                "reason": "PodFailurePolicy" if failed else "CompletionsReached",
                "message": message,
                "lastTransitionTime": format_time(self.now),
            }
        ]
        return self.settle()

    def fail(self, code: int, **how: Any) -> "World":
        """The pod ends with this code, and the Job with it."""
        return self.end_pod(code, **how).end_job()

    def succeed(self, words: TerminationMessage | None = None) -> "World":
        """The pod succeeds, and the Job with it."""
        return self.end_pod(0, message=words.model_dump_json(by_alias=True) if words else "").end_job()

    def remove_job(self) -> "World":
        """The garbage collector is done with a Job that is being deleted."""
        name = self.status.attempts[-1].job_name
        self.pods = {
            key: pod for key, pod in self.pods.items() if pod["metadata"]["ownerReferences"][0]["name"] != name
        }
        del self.jobs[name]
        return self.settle()

    # ── inside ──

    def _newest_pods(self) -> list[Manifest]:
        name = self.status.attempts[-1].job_name
        return [pod for pod in self.pods.values() if pod["metadata"]["ownerReferences"][0]["name"] == name]

    def _body(self) -> Manifest:
        body: Manifest = self.job.to_json()
        body.pop("status", None)
        return body

    def _apply(self, plan: Plan) -> tuple[bool, RejectedWrite | None]:
        wrote = False
        for manifest in plan.create:
            kind = manifest["kind"]
            if kind in self.refuse:
                return wrote, RejectedWrite(*self.refuse[kind], kind=kind, at=NOW)
            wrote |= self._create(manifest)
        for ref in plan.delete:
            self.jobs[ref.name]["metadata"]["deletionTimestamp"] = format_time(self.now)
            wrote = True
        self.deleted |= plan.delete_owner
        return wrote, None

    def _create(self, manifest: Manifest) -> bool:
        """Created once: an object of the same name is the one that an earlier pass made."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if any((made["kind"], made["metadata"]["name"]) == (kind, name) for made in self.created):
            return False
        self.created.append(manifest)
        if kind == "Job":
            given = {"uid": f"uid-{name}", "resourceVersion": "7", "creationTimestamp": format_time(self.now)}
            self.jobs[name] = manifest | {"metadata": manifest["metadata"] | given, "status": {}}
        elif kind == "ModelVersion":
            self.versions[name] = ModelVersion.parse(manifest)
        return True
