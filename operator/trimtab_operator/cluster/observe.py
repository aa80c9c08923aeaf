"""Everything that matters to one object, as the Store shows it."""

from collections.abc import Collection
from typing import TypeVar

from trimtab_operator import names
from trimtab_operator.api.common import ApiObject
from trimtab_operator.api.v1alpha1 import FineTuneJob, ModelRollout, ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.cluster import trim
from trimtab_operator.cluster.dependents import dependents
from trimtab_operator.cluster.rejections import Rejections
from trimtab_operator.cluster.reports import Reports
from trimtab_operator.cluster.servers import Servers
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.gates import names_champion
from trimtab_operator.state import (
    Key,
    Manifest,
    ObservedJob,
    ObservedProfile,
    ObservedRollout,
    ObservedStorage,
    ObservedVersion,
)

_Kind = TypeVar("_Kind", bound=ApiObject)
_Profile = TypeVar("_Profile", TrainingProfile, StorageProfile)
_CACHE = 256


class Observer:
    """Reads the Store. Never talks to the API server."""

    def __init__(self, store: Store, reports: Reports, servers: Servers, rejections: Rejections) -> None:
        self._store = store
        self._reports = reports
        self._servers = servers
        self._rejections = rejections
        self._parsed: dict[str, tuple[int, ApiObject]] = {}

    def job(self, stored: Stored) -> ObservedJob:
        """A FineTuneJob with its Jobs, pods, profiles and version."""
        job = FineTuneJob.parse(stored.body())
        namespace, resolved = stored.namespace, job.status.resolved
        jobs = sorted(self._store.owned(stored.uid, "Job"), key=_attempt)
        attempt = job.status.attempts[-1].number if job.status.attempts else 0
        uri = job.spec.model.uri
        base = uri.removeprefix("modelversion://") if uri.startswith("modelversion://") else ""
        compares = not job.status.is_finished and names_champion(job.spec.evaluation.gates)
        return ObservedJob(
            job=job,
            profile=self._profile(TrainingProfile, job.spec.profile or resolved.profile_name),
            storage=self._profile(StorageProfile, job.spec.storage or resolved.storage_name),
            base_version=self._named(ModelVersion, namespace, base),
            trainer_jobs=tuple(found.body() for found in jobs),
            pods=tuple(pod.body() for found in jobs for pod in self._store.owned(found.uid, "Pod")),
            report=self._reports.of(stored.uid, attempt),
            version=self._named(ModelVersion, namespace, job.status.model_version),
            rejected=self._rejections.of(stored),
            rivals=self._versions(namespace, job.spec.output.model_name) if compares else (),
            rollouts=self._rollouts(namespace, job.spec.output.model_name) if compares else (),
            reward_version=self._named(ModelVersion, namespace, job.spec.objective.reward_version),
        )

    def version(self, stored: Stored) -> ObservedVersion:
        """A ModelVersion, the rollouts of its model, and the Jobs that look at it."""
        version = ModelVersion.parse(stored.body())
        evaluation, jobs = version.spec.evaluation, self._store.owned(stored.uid, "Job")
        compares = evaluation is not None and names_champion(evaluation.gates)
        return ObservedVersion(
            version=version,
            storage=self._named(StorageProfile, "", version.spec.storage),
            rollouts=self._rollouts(stored.namespace, version.spec.model_name),
            profile=self._profile(TrainingProfile, version.spec.profile),
            siblings=self._versions(stored.namespace, version.spec.model_name) if compares else (),
            reward_version=self._named(
                ModelVersion, stored.namespace, evaluation.objective.reward_version if evaluation else ""
            ),
            jobs=tuple(found.body() for found in jobs),
            pods=tuple(pod.body() for found in jobs for pod in self._store.owned(found.uid, "Pod")),
            rejected=self._rejections.of(stored),
            dependents=tuple(dependents(self._store, version)) if stored.deleting else (),
        )

    def rollout(self, stored: Stored) -> ObservedRollout:
        """A ModelRollout, the versions of its model, and its server."""
        rollout = ModelRollout.parse(stored.body())
        versions = self._versions(stored.namespace, rollout.spec.model_name)
        wanted = next((version for version in versions if version.spec.version == rollout.spec.version), None)
        stable = next((version for version in versions if version.spec.version == rollout.status.stable_version), None)
        deployments, services = (
            tuple(found.body() for found in self._store.owned(stored.uid, child)) for child in ("Deployment", "Service")
        )
        jobs = self._store.owned(stored.uid, "Job")
        return ObservedRollout(
            rollout=rollout,
            versions=versions,
            profile=self._server_profile(rollout, wanted),
            storage=self._named(StorageProfile, "", wanted.spec.storage) if wanted else None,
            stable_profile=self._server_profile(rollout, stable),
            stable_storage=self._named(StorageProfile, "", stable.spec.storage) if stable else None,
            reports=self._servers.reports(stored.uid),
            listening_since=self._servers.listening_since,
            deployment=next(iter(deployments), None),
            service=next(iter(services), None),
            deployments=deployments,
            services=services,
            pods=self._server_pods(stored, [deployment["metadata"]["name"] for deployment in deployments]),
            jobs=tuple(found.body() for found in jobs),
            job_pods=tuple(pod.body() for found in jobs for pod in self._store.owned(found.uid, "Pod")),
            rejected=self._rejections.of(stored),
        )

    def storage(self, stored: Stored) -> ObservedStorage:
        """A StorageProfile and what a trainer found out about it."""
        return ObservedStorage(profile=StorageProfile.parse(stored.body()), report=self._reports.probe(stored.name))

    def profile(self, stored: Stored) -> ObservedProfile:
        """A TrainingProfile."""
        return ObservedProfile(profile=TrainingProfile.parse(stored.body()))

    def stored(self, key: Key) -> Stored | None:
        """The object of a key."""
        return self._store.get(*key)

    def _versions(self, namespace: str, model: str) -> tuple[ModelVersion, ...]:
        found = self._store.having(trim.versions_of_model(namespace, model))
        return tuple(self._parse(ModelVersion, version) for version in found)

    def _rollouts(self, namespace: str, model: str) -> tuple[ModelRollout, ...]:
        found = self._store.having(trim.rollouts_of_model(namespace, model))
        return tuple(ModelRollout.parse(rollout.body()) for rollout in found)

    def _server_profile(self, rollout: ModelRollout, version: ModelVersion | None) -> TrainingProfile | None:
        """The rollout's, the one that trained the version, or the default."""
        servers = rollout.spec.serving.servers
        named = (servers.profile if servers else None) or (version.spec.profile if version else "")
        return self._profile(TrainingProfile, named)

    def _server_pods(self, rollout: Stored, deployments: Collection[str]) -> tuple[Manifest, ...]:
        if not deployments:
            return ()
        pods = (pod.body() for pod in self._store.having(trim.pods_of_rollout(rollout.namespace, rollout.name)))
        return tuple(pod for pod in pods if is_server(pod, deployments))

    def _named(self, kind: type[_Kind], namespace: str, name: str) -> _Kind | None:
        stored = self._store.get(kind.resource.kind, namespace, name) if name else None
        return None if stored is None else self._parse(kind, stored)

    def _profile(self, kind: type[_Profile], name: str) -> _Profile | None:
        """The profile of that name; without a name the oldest default one."""
        if name:
            return self._named(kind, "", name)
        parsed = (self._parse(kind, stored) for stored in self._store.all(kind.resource.kind))
        defaults = sorted(
            (profile for profile in parsed if profile.spec.default),
            key=lambda profile: (profile.metadata.creation_timestamp, profile.metadata.name),
        )
        return defaults[0] if defaults else None

    def _parse(self, kind: type[_Kind], stored: Stored) -> _Kind:
        """Parse what many jobs share only once."""
        known = self._parsed.get(stored.uid)
        if known is not None and known[0] == stored.version and isinstance(known[1], kind):
            return known[1]
        parsed = kind.parse(stored.body())
        if len(self._parsed) >= _CACHE:
            self._parsed.clear()
        self._parsed[stored.uid] = (stored.version, parsed)
        return parsed


def _attempt(job: Stored) -> tuple[int, str]:
    label = (job.body()["metadata"].get("labels") or {}).get(names.ATTEMPT_LABEL, "")
    return (int(label) if label.isdigit() else 0, job.name)


def is_server(pod: Manifest, deployments: Collection[str]) -> bool:
    """A pod's label is anybody's claim; its controller is the API server's word."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(
        owner.get("controller")
        and owner.get("kind") == "ReplicaSet"
        and owner["name"].rpartition("-")[0] in deployments
        for owner in owners
    )
