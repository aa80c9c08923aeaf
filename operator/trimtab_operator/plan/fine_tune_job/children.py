"""What every child of an attempt has in common: its name, its labels, its owner."""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import FineTuneJob
from trimtab_operator.state import Manifest


def labels(job: FineTuneJob, attempt: int) -> dict[str, str]:
    """Labels of the attempt's children and pods. They route events; ownership is by uid."""
    return {
        names.MANAGED_LABEL: "true",
        names.JOB_LABEL: job.metadata.name,
        names.ATTEMPT_LABEL: str(attempt),
        names.COMPONENT_LABEL: "trainer",
        "app.kubernetes.io/name": "trimtab",
        "app.kubernetes.io/instance": job.metadata.name,
        "app.kubernetes.io/managed-by": names.FIELD_MANAGER,
    }


def metadata(job: FineTuneJob, attempt: int) -> Manifest:
    """Metadata of a child: the same for the same attempt, always."""
    return {
        "name": names.attempt_job(job.metadata.name, attempt),
        "namespace": job.metadata.namespace,
        "labels": labels(job, attempt),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": job.resource.kind,
                "name": job.metadata.name,
                "uid": job.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
