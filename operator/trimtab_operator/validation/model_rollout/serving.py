"""Rules about what serves, and whether it can serve this version."""

from pydantic import ValidationError

from trimtab_operator.api.v1alpha1.model_version import BaseModel
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedRollout, Problem, fit_on_one_server
from trimtab_trainer.contract.methods import ADAPTER_FORMATS
from trimtab_trainer.contract.spec import ModelSource, Task

SERVED_FORMATS = {
    "builtin": (*ADAPTER_FORMATS, "safetensors"),
    "vllm": ("peftAdapter", "safetensors"),
    "kserve": ("safetensors",),
}
_EVERY_TASK = tuple(field.alias or name for name, field in Task.model_fields.items())
SERVED_TASKS = {"builtin": _EVERY_TASK, "vllm": ("causalLanguageModeling",)}
_SERVERS = {"builtin": "built-in server", "vllm": "router before vLLM"}
_VERSION_SCHEME = "modelversion://"


def version_can_be_served(observed: ObservedRollout) -> Problem | None:
    """Imports may say less, or something else, than a FineTuneJob does."""
    version, kind = observed.wanted, observed.rollout.spec.serving.kind
    if version is None or version.artifact is None:
        return None
    lacks = _what_it_lacks(kind, version.published.format, version.spec.task)
    if not lacks and observed.rollout.spec.serving.servers is not None:
        lacks = _what_its_base_lacks(version.spec.base_model)
    if not lacks:
        return None
    return Problem(
        Reason.SPEC_INVALID,
        f"ModelVersion '{version.metadata.name}' cannot be served by serving.{kind}: {lacks}. "
        "Its spec is immutable: import it again as a new version, and set spec.version to that.",
    )


def versions_fit_together(observed: ObservedRollout) -> Problem | None:
    """Steps weigh adapters of one base model against each other on the same servers."""
    stable, wanted, serving = observed.stable, observed.wanted, observed.rollout.spec.serving
    if serving.servers is None or serving.gateway is not None:
        return None
    if stable is None or wanted is None or not observed.rollout.spec.strategy.canary.steps:
        return None
    if fit_on_one_server(stable, wanted):
        return None
    return Problem(
        Reason.NOT_COMPATIBLE,
        f"{wanted.metadata.name} has another base model, task or store than {stable.metadata.name}, so that no server can weigh "
        "them against each other: remove spec.strategy.canary.steps to replace the servers at once, or set spec.version to a version "
        "of the same base model.",
    )


def _what_it_lacks(serving: str, artifact_format: str, task: Task | None) -> str:
    formats, tasks = SERVED_FORMATS[serving], SERVED_TASKS.get(serving)
    if artifact_format not in formats:
        return f"spec.artifact.format must be {' or '.join(formats)}, not {artifact_format}"
    if tasks is None:
        return ""  # What its runtime can do, KServe says.
    if task is None:
        return "spec.task must say what its head predicts"
    if task.kind not in tasks:
        return f"the {_SERVERS[serving]} has no endpoint for the task {task.kind}; it has them for {', '.join(tasks)}"
    return ""


def _what_its_base_lacks(base: BaseModel) -> str:
    if base.uri.startswith(_VERSION_SCHEME):
        return "spec.baseModel.uri must name the model itself, not a ModelVersion"
    try:
        ModelSource(uri=base.uri, digest=base.digest, revision=base.revision)
    except ValidationError as error:
        first = error.errors()[0]
        return f"spec.baseModel.{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return ""
