"""KServe in Knative mode as its documentation and controller have it: revisions, traffic, the state of the model."""

import copy
from dataclasses import replace
from typing import Any

from tests.support.rollout_world import RolloutWorld
from tests.support.rollouts import make_version

from trimtab_operator.state import Manifest, ObservedInference, ObservedRollout, Problem

NAME = "tone"
SERVING = {"kserve": {"inferenceService": NAME}}


def uri_of(number: int) -> str:
    return f"s3://bucket/demo/models/support-tone/{number}"


def inference_service(*, mode: str = "Knative", namespace: str = "demo") -> Manifest:
    """As a user makes it: everything but the model."""
    metadata = {"name": NAME, "namespace": namespace, "annotations": {"serving.kserve.io/deploymentMode": mode}}
    model = {"modelFormat": {"name": "huggingface"}, "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": {"minReplicas": 1, "model": model}},
    }


class KServe:
    """Its controller: `status` is one look at the object."""

    def __init__(self, mode: str = "Knative") -> None:
        self.mode = mode
        self.bad: set[str] = set()
        """Models that cannot be loaded."""
        self.slow = False
        """Models stay on their way."""
        self.revisions: list[str] = []
        """Models by revision, oldest first."""
        self.rolled_out = 0
        """The newest revision that had all of the traffic; 0: none."""
        self.ready = 0
        """The newest revision that is ready."""

    def status(self, spec: Manifest) -> Manifest:
        """What the status says after one more look."""
        predictor = spec["predictor"]
        uri = predictor["model"].get("storageUri", "")
        if not self.revisions or self.revisions[-1] != uri:
            self.revisions.append(uri)
            return self._status("InProgress", predictor)
        if uri in self.bad or not uri:
            return self._status("BlockedByFailedLoad", predictor)
        if self.slow:
            return self._status("InProgress", predictor)
        self.ready = len(self.revisions)
        return self._status("UpToDate", predictor)

    def _status(self, transition: str, predictor: Manifest) -> Manifest:
        is_standard = self.mode == "Standard"
        percent = 100 if is_standard else predictor.get("canaryTrafficPercent", 100)
        traffic: list[Manifest] = []
        if self.ready:
            share = percent if self.rolled_out else 100
            traffic.append({"latestRevision": True, "revisionName": self._name(self.ready), "percent": share})
            if share < 100:
                before = {"latestRevision": False, "revisionName": self._name(self.rolled_out), "tag": "prev"}
                traffic.append({**before, "percent": 100 - share})
            if share == 100 and self.ready == len(self.revisions):
                self.rolled_out = self.ready
        created = self._name(len(self.revisions))
        component = {
            "latestCreatedRevision": created,
            "latestReadyRevision": self._name(self.ready),
            "traffic": traffic,
        }
        model: Manifest = {"transitionStatus": transition}
        if is_standard:
            # A Deployment has a generation and no revisions; it moves its traffic itself.
            component = {}
        if transition == "BlockedByFailedLoad":
            model["lastFailureInfo"] = {"reason": "ModelLoadFailed", "message": "config.json is missing", "exitCode": 1}
        ready = "True" if self.ready else "False"
        latest = "True" if transition == "UpToDate" else "False"
        return {
            "deploymentMode": self.mode,
            **({"observedGeneration": len(self.revisions)} if is_standard else {}),
            "url": "http://tone.demo.example",
            "components": {"predictor": {key: value for key, value in component.items() if value}},
            "modelStatus": model,
            "conditions": [{"type": "Ready", "status": ready}, {"type": "PredictorReady", "status": latest}],
        }

    def answers(self, status: Manifest) -> dict[str, int]:
        """Which model answers how many percent of the requests."""
        shares: dict[str, int] = {}
        for each in status.get("components", {}).get("predictor", {}).get("traffic", ()):
            uri = self.revisions[int(each["revisionName"].rpartition("-")[2]) - 1]
            shares[uri] = shares.get(uri, 0) + each["percent"]
        return {uri: share for uri, share in shares.items() if share}

    def _name(self, revision: int) -> str:
        return f"tone-predictor-{revision}" if revision else ""


class KServeWorld(RolloutWorld):
    """A rollout on KServe, and KServe."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(serving=SERVING, **spec)
        self.versions = {number: whole(number) for number in (1, 2, 3, 4)}
        self.kserve = KServe()
        self.body: Manifest | None = inference_service()
        self.body["metadata"]["uid"] = "isvc-1"
        self.problem: Problem | None = None
        self.seen: list[dict[str, int]] = []
        """Who answered, one after the other."""

    @property
    def observed(self) -> ObservedRollout:
        """What a pass sees."""
        body = copy.deepcopy(self.body) if self.problem is None else None
        return replace(super().observed, inference=ObservedInference(NAME, body, self.problem))

    @property
    def answers(self) -> dict[int, int]:
        """Shares by version."""
        assert self.body is not None
        shares = self.kserve.answers(self.body.get("status", {}))
        return {int(uri.rpartition("/")[2]): share for uri, share in shares.items() if uri}

    def follow(self) -> bool:
        """KServe looks once. True: its status is another one."""
        assert self.body is not None
        before = self.body.get("status")
        self.body["status"] = self.kserve.status(self.body["spec"])
        if not self.seen or self.seen[-1] != self.answers:
            self.seen.append(self.answers)
        return before != self.body["status"]

    def _apply(self) -> None:
        for manifest in self.plan.merge:
            assert self.body is not None
            self.body = merged(self.body, manifest)


def whole(number: int, **changes: Any) -> Any:
    """A version that is a whole model."""
    artifact = {"spec.artifact.format": "safetensors", "spec.artifact.uri": uri_of(number)}
    return make_version(number, artifact | changes)


def merged(live: Any, wanted: Any) -> Any:
    """As server-side apply merges objects."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        return {key: merged(live.get(key), wanted[key]) if key in wanted else live[key] for key in {**live, **wanted}}
    return wanted
