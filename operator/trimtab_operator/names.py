"""Every string that the cluster sees: group, labels, annotations, child names."""

import hashlib

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
SERVER_CONFIG_ANNOTATION = f"{GROUP}/server-config"
"""On a server's pods: their ServerConfig, which the pod reads as a file."""

IMAGE_PULL_FAILURES = frozenset({
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable",
    "SignatureValidationFailed",
})  # fmt: skip
"""Reasons of a waiting container whose image the kubelet cannot get."""
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


def model_version(model_name: str, version: int) -> str:
    """Name of a ModelVersion."""
    return f"{model_name}-v{version}"


def server(rollout: str) -> str:
    """Name of a rollout's Deployment and ConfigMap; its Service has the rollout's own name."""
    return child_name(rollout, "server")
