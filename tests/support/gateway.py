"""Whole models behind a Gateway: Deployments, Services and an HTTPRoute, with the controllers that follow them."""

import copy
from dataclasses import replace
from typing import Any

from tests.support.kserve import whole
from tests.support.rollout_world import RolloutWorld

from trimtab_operator import names
from trimtab_operator.plan.model_rollout.http_route import API_VERSION
from trimtab_operator.state import Manifest, ObservedRollout, ObservedRoute, Problem, ServerNews
from trimtab_trainer.contract.serving import ServerReport, VersionState, config_digest

GATEWAY = {"parentRefs": [{"name": "public"}], "hostnames": ["tone.example.com"]}
SERVING = {"vllm": {"image": "vllm:1", "gateway": GATEWAY}}
BAD_IMAGE = "vllm:no-such-tag"


def parents(route: Manifest, *, refusal: str = "") -> list[Manifest]:
    """What a Gateway's controller writes after a look at a route."""
    generation = route["metadata"].get("generation", 1)
    verdicts = {"Accepted": not refusal, "ResolvedRefs": True}
    conditions = [
        {
            "type": kind,
            "status": str(good),
            "reason": kind if good else "NotAllowedByListeners",
            "message": "" if good else refusal,
            "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, good in verdicts.items()
    ]
    named = route["spec"]["parentRefs"]
    return [{"parentRef": each, "controllerName": "example.com/gateway", "conditions": conditions} for each in named]


def shares(route: Manifest) -> dict[str, int]:
    """Which Service answers how many percent of the requests."""
    (rule,) = route["spec"]["rules"]
    return {each["name"]: each["weight"] for each in rule["backendRefs"] if each["weight"]}


class GatewayWorld(RolloutWorld):
    """A rollout of whole models, one server for each version, and a Gateway."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(**{"serving": SERVING} | spec)
        self.versions = {number: whole(number) for number in (1, 2, 3, 4)}
        self.there: dict[tuple[str, str], Manifest] = {}
        """Deployments and Services, by kind and name."""
        self.reported: dict[str, ServerReport] = {}
        """By Deployment."""
        self.route: Manifest | None = None
        self.problem: Problem | None = None
        self.refusal = ""
        """Why the Gateway does not take the route."""
        self.is_away = False
        """The Gateway's controller looks at nothing; what it knew goes on."""
        self.slow: set[int] = set()
        """Versions whose servers never become ready."""
        self.silent: set[int] = set()
        """Versions whose servers are ready and do not report."""
        self.followed: dict[str, int] = {}
        self.seen: list[dict[int, int]] = []
        """Who answered, one after the other."""
        self.lost: list[str] = []
        """Servers that requests were sent to though they were not there."""

    @property
    def observed(self) -> ObservedRollout:
        """What a pass sees."""
        deployments = tuple(self._live(each) for (kind, _), each in self.there.items() if kind == "Deployment")
        body = copy.deepcopy(self.route) if self.problem is None else None
        return replace(
            super().observed,
            deployments=deployments,
            services=tuple(each for (kind, _), each in self.there.items() if kind == "Service"),
            pods=tuple(self._pod(each) for each in deployments),
            reports=tuple(ServerNews(f"{name}-1", f"{name}-1", self.now, each) for name, each in self.reported.items()),
            route=ObservedRoute(body, self.problem),
        )

    @property
    def answers(self) -> dict[int, int]:
        """Shares by version, as the Gateway has them."""
        return {int(name.rpartition("-v")[2]): share for name, share in self.followed.items()}

    @property
    def servers(self) -> list[int]:
        """Versions that have a Deployment."""
        return sorted(int(name.rpartition("-v")[2]) for kind, name in self.there if kind == "Deployment")

    @property
    def ports(self) -> list[int]:
        """Versions that have a Service."""
        return sorted(int(name.rpartition("-v")[2]) for kind, name in self.there if kind == "Service")

    def one_pass(self) -> bool:
        """As ever; a route that was written is looked at again, as the operator does."""
        before = copy.deepcopy(self.route)
        return super().one_pass() or before != self.route

    def follow(self) -> bool:
        """Servers load what they were made for, the Gateway takes the route. True: something is new."""
        before = (dict(self.reported), copy.deepcopy(self.route))
        for (kind, name), each in self.there.items():
            annotations = each["spec"].get("template", {}).get("metadata", {}).get("annotations", {})
            config = self.plan.configs.get(annotations.get(names.SERVER_CONFIG_ANNOTATION, ""))
            if kind != "Deployment" or config is None or not self._runs(each):
                continue
            (served,) = config.versions
            if served.version in self.silent:
                continue
            reason = self.refused.get(served.version)
            state = VersionState(name=served.name, state="Refused" if reason else "Ready", reason=reason)
            digest = config_digest(config)
            self.reported[name] = ServerReport(instance="a", digest=digest, heard=digest, versions=[state])
        if self.route is not None and not self.is_away:
            self.route["status"] = {"parents": parents(self.route, refusal=self.refusal)}
            if not self.refusal:
                self.followed = shares(self.route)
        self._look()
        return before != (self.reported, self.route)

    def _look(self) -> None:
        if not self.seen or self.seen[-1] != self.answers:
            self.seen.append(self.answers)
        if self.status.stable_version is not None:
            self.lost += [name for name in self.followed if not self._is_up(name)]

    def _runs(self, deployment: Manifest) -> bool:
        containers = deployment["spec"]["template"]["spec"]["containers"]
        version = int(deployment["metadata"]["name"].rpartition("-v")[2])
        return version not in self.slow and all(each["image"] != BAD_IMAGE for each in containers)

    def _is_up(self, name: str) -> bool:
        report = self.reported.get(name)
        there = ("Deployment", name) in self.there and ("Service", name) in self.there
        loaded = report is not None and all(each.state == "Ready" for each in report.versions)
        return there and (loaded or int(name.rpartition("-v")[2]) in self.silent)

    def _live(self, deployment: Manifest) -> Manifest:
        up = int(self._is_up(deployment["metadata"]["name"]))
        # The rolling update keeps what answers until the new image does.
        new = int(bool(up) and self._runs(deployment))
        total = 1 if new or not up else 2
        counts = {"replicas": total, "updatedReplicas": 1, "readyReplicas": up, "availableReplicas": up}
        return {**deployment, "status": counts | {"observedGeneration": 1}}

    def _pod(self, deployment: Manifest) -> Manifest:
        name, template = f"{deployment['metadata']['name']}-1", deployment["spec"]["template"]["metadata"]
        ready = self._runs(deployment) and self._is_up(deployment["metadata"]["name"])
        waits = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
        bad = any(each["image"] == BAD_IMAGE for each in deployment["spec"]["template"]["spec"]["containers"])
        return {
            "metadata": {"name": name, "uid": name, **template},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": str(ready)}],
                "containerStatuses": [{"name": "vllm", "restartCount": 0, **(waits if bad else {})}],
            },
        }

    def _apply(self) -> None:
        for ref in self.plan.delete:
            self.jobs.pop(ref.name, None)
            self.there.pop((ref.kind, ref.name), None)
            if ref.kind == "Deployment":
                self.reported.pop(ref.name, None)
        for job in self.plan.create:
            self.jobs.setdefault(job["metadata"]["name"], {**job, "status": {}})
        for manifest in self.plan.apply:
            kind, name = manifest["kind"], manifest["metadata"]["name"]
            given = {"generation": 1, "uid": name}
            if kind in ("Deployment", "Service"):
                self.there[kind, name] = {**manifest, "metadata": manifest["metadata"] | given}
            elif kind == "HTTPRoute":
                self._apply_route(manifest)

    def _apply_route(self, manifest: Manifest) -> None:
        assert manifest["apiVersion"] == API_VERSION
        before = self.route
        if before is None or before["spec"] != manifest["spec"]:
            generation = before["metadata"]["generation"] + 1 if before else 1
            status = {"status": before["status"]} if before and "status" in before else {}
            self.route = {**manifest, "metadata": manifest["metadata"] | {"generation": generation}, **status}
