"""The attempt's headless Service: how the pods of one attempt find pod 0."""

from trimtab_operator import names
from trimtab_operator.plan.fine_tune_job import children
from trimtab_operator.state import Manifest, ObservedJob
from trimtab_trainer.contract import mounts


def headless_service(observed: ObservedJob, attempt: int) -> Manifest:
    """The Service `<job>-a<N>`; only attempts of several pods have one."""
    job = observed.job
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": children.metadata(job, attempt),
        "spec": {
            "clusterIP": "None",
            # The pods must find each other before any of them could be ready.
            "publishNotReadyAddresses": True,
            "selector": {names.JOB_LABEL: job.metadata.name, names.ATTEMPT_LABEL: str(attempt)},
            "ports": [{"name": "rendezvous", "port": mounts.RENDEZVOUS_PORT, "protocol": "TCP"}],
        },
    }


def main_address(job_name: str, attempt: int) -> str:
    """DNS name of pod 0: an Indexed Job gives its pods the hostname `<job>-<index>`."""
    service = names.attempt_job(job_name, attempt)
    return f"{service}-0.{service}"
