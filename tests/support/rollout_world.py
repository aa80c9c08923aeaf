"""A cluster of one ModelRollout in memory: passes run over it as the operator runs them, and tests play Deployment controller and servers."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Self

from tests.support.builders import pod_of
from tests.support.rollouts import SETTINGS, make_profile, make_rollout, make_storage, make_version
from tests.support.times import NOW

from trimtab_operator import names
from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion
from trimtab_operator.api.v1alpha1.model_rollout import ModelRolloutStatus
from trimtab_operator.plan.model_rollout.analysis import due
from trimtab_operator.plan.model_rollout.analysis_job import with_answers
from trimtab_operator.plan.model_rollout.compose import make_plan
from trimtab_operator.state import EventNote, Manifest, ObservedRollout, Plan, Sample, ServerNews
from trimtab_operator.status.model_rollout.compose import compute_status
from trimtab_operator.validation.model_rollout.compose import check
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import TerminationMessage
from trimtab_trainer.contract.serving import ServerReport, VersionState, config_digest

MAX_PASSES = 12


class RolloutWorld:
    """What the API server holds, and one server pod."""

    def __init__(self, **spec: Any) -> None:
        self.spec: Manifest = make_rollout().spec.to_json() | spec
        self.annotations: dict[str, str] = {}
        self.generation = 1
        self.wire: Manifest = {}
        self.versions: dict[int, ModelVersion] = {number: make_version(number) for number in (1, 2, 3, 4)}
        self.profile, self.storage = make_profile(), make_storage()
        self.now: datetime = NOW
        self.plan = Plan()
        self.deployment: Manifest | None = None
        self.report: ServerReport | None = None
        self.refused: dict[int, TrainerReason] = {}
        self.following = True
        """The server does what it is told at once."""
        self.listening_since: datetime | None = None
        self.samples: dict[str, Sample] = {}
        self.jobs: dict[str, Manifest] = {}
        self.job_pods: list[Manifest] = []
        self.measured: list[str] = []
        self.events: list[EventNote] = []
        self.revisions: list[dict[int, int]] = []
        """What the servers were told, one after the other."""

    @property
    def rollout(self) -> ModelRollout:
        """The object as it is stored."""
        body = make_rollout({"metadata.generation": self.generation}).to_json()
        body["metadata"]["annotations"] = self.annotations
        return ModelRollout.parse({**body, "spec": self.spec, "status": self.wire})

    @property
    def status(self) -> ModelRolloutStatus:
        """The stored status."""
        return self.rollout.status

    @property
    def told(self) -> dict[int, int]:
        """Weights that the servers are told, by version."""
        return {each.version: each.weight for each in self.status.routing.versions}

    @property
    def ready(self) -> tuple[str, str]:
        """Status and reason of the condition Ready."""
        condition = self.status.condition("Ready")
        return (condition.status, condition.reason) if condition else ("", "")

    @property
    def message(self) -> str:
        """Message of the condition Ready."""
        condition = self.status.condition("Ready")
        return condition.message if condition else ""

    def reasons(self) -> list[str]:
        """Of the Events, oldest first."""
        return [event.reason.value for event in self.events]

    def outcomes(self) -> list[tuple[int, str]]:
        """Of the history, newest first."""
        return [(passage.version, passage.outcome) for passage in self.status.history]

    # ── the operator ──

    @property
    def observed(self) -> ObservedRollout:
        """What a pass sees."""
        rollout = self.rollout
        news = () if self.report is None else (ServerNews("server-1", "pod-1", self.now, self.report),)
        return ObservedRollout(
            rollout=rollout,
            versions=tuple(self.versions.values()),
            profile=self.profile,
            storage=self.storage,
            stable_profile=self.profile,
            stable_storage=self.storage,
            deployment=self._live_deployment(),
            service=None,
            pods=self._pods(),
            reports=news,
            listening_since=self.listening_since,
            jobs=tuple(self.jobs.values()),
            job_pods=tuple(self.job_pods),
        )

    def one_pass(self) -> bool:
        """Observe, measure, check, plan, apply, status. True: something was written."""
        observed = self.observed
        wanted = due(observed, now=self.now)
        self.measured += [each.metric.name for each in wanted]
        samples = {each.metric.name: self.samples[each.metric.name] for each in wanted if not each.metric.provider.job}
        observed = with_answers(replace(observed, samples=samples), wanted, now=self.now)
        problems = check(observed, settings=SETTINGS)
        self.plan = make_plan(observed, problems, settings=SETTINGS, now=self.now)
        self._apply()
        outcome = compute_status(observed, problems, self.plan, settings=SETTINGS, now=self.now)
        wrote = outcome.status != self.wire
        self.wire = outcome.status
        if wrote:
            self.events += outcome.events
        if self.told and (not self.revisions or self.revisions[-1] != self.told):
            self.revisions.append(self.told)
        return wrote

    def settle(self) -> Self:
        """Run passes until nothing changes any more; the server follows in between."""
        for _ in range(MAX_PASSES):
            wrote = self.one_pass()
            if not (self.follow() if self.following else False) and not wrote:
                return self
        raise AssertionError(f"the rollout never comes to rest: {self.wire}")

    def advance(self, seconds: float) -> Self:
        """Let time pass, then settle."""
        self.now += timedelta(seconds=seconds)
        return self.settle()

    # ── the user, the Deployment controller, the servers ──

    def change(self, **spec: Any) -> Self:
        """Edit the spec, as the user does."""
        self.spec = self.spec | spec
        self.generation += 1
        return self.settle()

    def act(self, action: str) -> Self:
        """Annotate, as the user does."""
        self.annotations = {names.ACTION_ANNOTATION: action}
        return self.settle()

    def follow(self) -> bool:
        """The server loads what it is told and reports it. True: it says something new."""
        key = self._key()
        config = self.plan.configs.get(key)
        if config is None:
            return False
        states = [
            VersionState(name=served.name, state="Refused", reason=self.refused[served.version], message="bad")
            if served.version in self.refused
            else VersionState(name=served.name, state="Ready")
            for served in config.versions
        ]
        digest = config_digest(config)
        before, self.report = (
            self.report,
            ServerReport(instance="a", digest=digest, heard=digest, versions=states),
        )
        return before != self.report

    def _key(self) -> str:
        if self.deployment is None:
            return ""
        metadata = self.deployment["spec"]["template"]["metadata"]
        return str(metadata["annotations"][names.SERVER_CONFIG_ANNOTATION])

    def _pods(self) -> tuple[Manifest, ...]:
        if self.deployment is None:
            return ()
        template = self.deployment["spec"]["template"]["metadata"]
        metadata = {"name": "server-1", "uid": "pod-1", **template}
        conditions = [{"type": "Ready", "status": str(self._is_ready())}]
        return ({"metadata": metadata, "status": {"phase": "Running", "conditions": conditions}},)

    def _is_ready(self) -> bool:
        return self.report is not None and any(version.state == "Ready" for version in self.report.versions)

    def _live_deployment(self) -> Manifest | None:
        if self.deployment is None:
            return None
        ready = int(self._is_ready())
        counts = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": ready, "availableReplicas": ready}
        return {**self.deployment, "status": counts | {"observedGeneration": 1}}

    def end_job(self, words: dict[str, Any] | None = None, *, code: int = 0) -> Self:
        """The newest Job's pod ends, and the Job with it."""
        job, time = list(self.jobs.values())[-1], format_time(self.now)
        text = TerminationMessage.model_validate(words).model_dump_json(by_alias=True) if words else ""
        state = {"terminated": {"exitCode": code, "message": text, "finishedAt": time}}
        pod = pod_of(job)
        pod["status"] = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "trainer", "state": state}],
        }
        self.job_pods.append(pod)
        ended = {"type": "Failed" if code else "Complete", "status": "True", "lastTransitionTime": time}
        job["status"] = {"conditions": [ended]}
        return self.settle()

    def _apply(self) -> None:
        for ref in self.plan.delete:
            self.jobs.pop(ref.name)
        for job in self.plan.create:
            given = {"uid": f"uid-{len(self.jobs)}", "resourceVersion": "1", "creationTimestamp": format_time(self.now)}
            self.jobs.setdefault(job["metadata"]["name"], {**job, "metadata": job["metadata"] | given, "status": {}})
        for manifest in self.plan.apply:
            if manifest["kind"] == "Deployment":
                self.deployment = {**manifest, "metadata": manifest["metadata"] | {"generation": 1}}


def serving(version: int = 1, **spec: Any) -> RolloutWorld:
    """A rollout whose version serves."""
    world = RolloutWorld(version=version, **spec).settle()
    assert world.status.stable_version == version, world.wire
    return world


def stepping(*steps: Manifest, **spec: Any) -> RolloutWorld:
    """A rollout of version 1 with these steps, told to move to version 2."""
    return serving(strategy={"canary": {"steps": list(steps)}}, **spec).change(version=2)
