"""KServe's InferenceService as typed values: parsed once, here, then trusted."""

from dataclasses import dataclass
from typing import Any, Self

from trimtab_operator import names

Manifest = dict[str, Any]
_SPLITTING_MODES = ("Knative", "Serverless")
_MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
_FAILED = ("BlockedByFailedLoad", "InvalidSpec")
_RUNTIME_FAILURES = ("RuntimeUnhealthy", "RuntimeDisabled")


@dataclass(frozen=True, slots=True)
class InferenceService:
    """What matters of it."""

    name: str
    uid: str
    mode: str
    """Knative or Standard; empty before KServe has looked at it."""
    uri: str
    """Where its model comes from."""
    percent: int | None
    """Share of the traffic that the newest revision shall have."""
    replaced_revision: str
    """The newest revision when the model was last changed."""
    newest_revision: str
    """The newest one now. In Standard mode the generation of the Deployment."""
    newest_percent: int
    """Share of the traffic that the newest revision has."""
    is_ready: bool
    """Requests are answered, by whichever revision."""
    is_loaded: bool
    """The model that it was given last can answer."""
    failure: str
    """Why that model cannot be loaded; empty when nothing says so."""
    is_runtime_failure: bool
    """The runtime is at fault, not the model."""
    waits_for: str
    """What its predictor waits for."""
    url: str

    @property
    def splits(self) -> bool:
        """Whether it divides traffic between two revisions: KServe's Standard mode ignores `canaryTrafficPercent`."""
        return self.mode in _SPLITTING_MODES

    @classmethod
    def parse(cls, body: Manifest) -> Self:
        """Read an object of the API server; what KServe has not written yet is empty."""
        metadata, status = body["metadata"], body.get("status") or {}
        annotations = metadata.get("annotations") or {}
        predictor = (body.get("spec") or {}).get("predictor") or {}
        component = (status.get("components") or {}).get("predictor") or {}
        conditions = {each["type"]: each for each in status.get("conditions") or ()}
        replaced = str(annotations.get(names.REPLACED_REVISION_ANNOTATION, ""))
        newest = str(component.get("latestCreatedRevision") or status.get("observedGeneration") or "")
        model = status.get("modelStatus") or {}
        has_moved = bool(newest) and newest != replaced
        is_current = component.get("latestCreatedRevision") == component.get("latestReadyRevision")
        transition = model.get("transitionStatus", "")
        ready = conditions.get("PredictorReady", {})
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            mode=str(status.get("deploymentMode") or annotations.get(_MODE_ANNOTATION) or ""),
            uri=str((predictor.get("model") or {}).get("storageUri") or ""),
            percent=predictor.get("canaryTrafficPercent"),
            replaced_revision=replaced,
            newest_revision=newest,
            newest_percent=_newest_percent(component),
            is_ready=conditions.get("Ready", {}).get("status") == "True",
            is_loaded=has_moved and is_current and transition == "UpToDate" and ready.get("status") == "True",
            failure=_failure(model) if has_moved or transition == "InvalidSpec" else "",
            is_runtime_failure=(model.get("lastFailureInfo") or {}).get("reason") in _RUNTIME_FAILURES,
            waits_for=str(ready.get("message") or ready.get("reason") or transition),
            url=str(status.get("url") or ""),
        )


def _newest_percent(component: Manifest) -> int:
    return sum(int(each.get("percent") or 0) for each in component.get("traffic") or () if each.get("latestRevision"))


def _failure(model: Manifest) -> str:
    transition, info = model.get("transitionStatus", ""), model.get("lastFailureInfo") or {}
    if transition not in _FAILED:
        return ""
    said = [str(info[key]) for key in ("reason", "message") if info.get(key)]
    code = [f"exit code {info['exitCode']}"] if info.get("exitCode") else []
    return ": ".join([*(said or [transition]), *code])[:600]
