"""Every string that the cluster sees: group, labels, annotations, child names."""

import hashlib
import re

GROUP = "trimtab.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "trimtab-operator"
MANAGED_BY = f"{GROUP}/operator"
"""Value of `spec.managedBy` that is ours; jobs with another one are left alone."""
CATEGORY = "trimtab"

MANAGED_LABEL = f"{GROUP}/managed"
"""`true` on every child; the watches of Jobs and Pods select on it."""
JOB_LABEL = f"{GROUP}/fine-tune-job"
ROLLOUT_LABEL = f"{GROUP}/model-rollout"
MODEL_LABEL = f"{GROUP}/model-name"
VERSION_LABEL = f"{GROUP}/model-version"
ATTEMPT_LABEL = f"{GROUP}/attempt"
COMPONENT_LABEL = "app.kubernetes.io/component"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
CONFIG_HASH_ANNOTATION = f"{GROUP}/config-sha256"
VERIFY_ANNOTATION = f"{GROUP}/verify"
"""On a ModelVersion: any new value has its bytes read back."""
EVALUATE_ANNOTATION = f"{GROUP}/evaluate"
"""On a ModelVersion: any new value has its gates measured again."""
RECLAIM_ANNOTATION = f"{GROUP}/reclaim"
"""On a ModelVersion: `Delete` or `Retain` outranks `spec.reclaimPolicy`. Behind a space, `:`, `@` or `#` anything may follow."""
RECLAIM_FINALIZER = f"{GROUP}/reclaim"
"""On a ModelVersion whose bytes go with it: the object stays until they are gone."""
APPROVE_ANNOTATION = f"{GROUP}/approve"
"""On a ModelVersion: a person lets its inconclusive gates pass, and says who and why."""
VERSION_JOB_ANNOTATION = f"{GROUP}/version-job"
"""On the pods of a version's Job: their VersionJobConfig, which the pod reads as a file."""
CANARY_JOB_ANNOTATION = f"{GROUP}/canary-job"
"""On the pods of an analysis' Job: their CanaryJobConfig, which the pod reads as a file."""
SERVER_CONFIG_ANNOTATION = f"{GROUP}/server-config"
"""On a server's pods: the key of their ServerConfig in the rollout's ConfigMap."""
INFERENCE_ROLLOUT_ANNOTATION = f"{GROUP}/model-rollout"
"""On an InferenceService: the rollout that writes its model."""
REPLACED_REVISION_ANNOTATION = f"{GROUP}/replaced-revision"
"""On an InferenceService: the newest revision when its model was last changed. Its status speaks of the new model once there is another one."""
ACTION_ANNOTATION = f"rollouts.{GROUP}/action"
"""On a ModelRollout: what a person or a tool wants done once."""

IMAGE_PULL_FAILURES = frozenset({
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable",
    "SignatureValidationFailed",
})  # fmt: skip
"""Reasons of a waiting container whose image the kubelet cannot get."""
VLLM_CONTAINER = "vllm"
"""Of a server pod; the other container is the router, `server`."""
CONTAINER_CREATE_FAILURES = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
"""Reasons of a waiting container that the kubelet cannot make."""

MAX_NAME = 63
_FIRST_WORD = re.compile(r"[\s:@#]")


def first_word(value: str) -> str:
    """What an annotation asks for. Whatever follows a space, `:`, `@` or `#` only makes it another value."""
    return _FIRST_WORD.split(value.strip(), maxsplit=1)[0]


def child_name(owner: str, suffix: str) -> str:
    """`<owner>-<suffix>`, shortened with a hash of the owner's name where 63 characters do not suffice."""
    name = f"{owner}-{suffix}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(owner.encode()).hexdigest()[:8]
    return f"{owner[: MAX_NAME - len(suffix) - 10].rstrip('-.')}-{digest}-{suffix}"


def attempt_job(job: str, attempt: int) -> str:
    """Name of an attempt's Job, its ConfigMap and its headless Service."""
    return child_name(job, f"a{attempt}")


def version_job(version: str, request: str) -> str:
    """Name of the Job that looks at a ModelVersion: another one for each request."""
    return child_name(version, f"check-{hashlib.sha256(request.encode()).hexdigest()[:8]}")


def reclaim_job(version: str, request: str) -> str:
    """Name of the Job that deletes a ModelVersion's bytes."""
    return child_name(version, f"reclaim-{hashlib.sha256(request.encode()).hexdigest()[:8]}")


def model_version(model_name: str, version: int) -> str:
    """Name of a ModelVersion."""
    return f"{model_name}-v{version}"


def analysis_job(rollout: str, measurement: str) -> str:
    """Name of the Job that asks a canary: another one for each measurement."""
    return child_name(rollout, f"ask-{hashlib.sha256(measurement.encode()).hexdigest()[:8]}")


def server(rollout: str, version: int | None = None) -> str:
    """Name of a rollout's Deployment and ConfigMap; its Service has the rollout's own name. Of the servers of one version: their Service too."""
    return child_name(rollout, "server" if version is None else f"server-v{version}")
