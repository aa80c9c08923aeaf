"""Trimtab's operator and its peer, as the benchmark sees them."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import kubectl
import kubeflow
from load import Manifest, Work
from tests.support.operator_process import REPOSITORY, OperatorProcess

from trimtab_operator.cluster.resources import OURS, resource_of

PROFILE = "bench"


class Controller(Protocol):
    """One process or several; what is told of it is as in LocalProcess."""

    def wait_ready(self, timeout: float = 60.0) -> float:
        """Seconds until it was ready."""

    def memory_mib(self) -> tuple[float, float]:
        """Resident memory now and at its highest."""

    def cpu_seconds(self) -> float:
        """Processor time used so far."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A controller and its load."""

    name: str
    version: str
    work: Work
    start: Callable[[Path], AbstractContextManager[Controller]]
    """Runs it, with its log in a file."""


def trimtab(module: str) -> Contender:
    """This checkout's operator."""
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"], check=False, capture_output=True, text=True
    )
    return Contender(
        name="Trimtab",
        version=commit.stdout.strip() or "unknown",
        work=Work(
            created=resource_of("FineTuneJob").path(),
            children={"Job": resource_of("Job").path()},
            manifest=fine_tune_job,
        ),
        start=lambda log: OperatorProcess(log=log, module=tuple(module.split())),
    )


def kubeflow_trainer(*, suspend: bool) -> Contender:
    """The peer, as its modules ship it, with TrainJobs that are suspended, as our Jobs are, or not."""
    program = kubeflow.build()
    return Contender(
        name=f"Kubeflow Trainer and JobSet, {'' if suspend else 'not '}suspended",
        version=f"{kubeflow.VERSION}, {kubeflow.jobset_version()}",
        work=Work(
            created="/apis/trainer.kubeflow.org/v1alpha1/trainjobs",
            children={"JobSet": "/apis/jobset.x-k8s.io/v1alpha2/jobsets", "Job": resource_of("Job").path()},
            manifest=partial(kubeflow.train_job, suspend=suspend),
        ),
        start=lambda log: kubeflow.KubeflowTrainer(program, log=log),
    )


def fine_tune_job(namespace: str, name: str) -> Manifest:
    """A job that waits in a queue that nobody serves: its Job is made and stays suspended."""
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "profile": PROFILE,
            "storage": PROFILE,
            "model": {"uri": "s3://models/smollm2-135m-instruct"},
            "task": {"causalLanguageModeling": {}},
            "method": {"lora": {"r": 16, "alpha": 32}},
            "data": {"train": [{"uri": "s3://data/train.jsonl", "format": "messages"}]},
            "training": {"epochs": 1, "globalBatchSize": 16},
            "output": {"modelName": name},
            "runPolicy": {"queueName": "nobody"},
        },
    }


def install_trimtab() -> None:
    """The CRDs, generated from the models, and the profiles of every run."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'operator'}:{REPOSITORY / 'trainer_image'}"}
    crds = subprocess.run(
        [sys.executable, "-m", "trimtab_operator", "crds"], env=environment, check=True, capture_output=True
    ).stdout
    kubectl.apply_text(crds)
    kubectl.until_established(*(f"{resource.plural}.{resource.group}" for resource in OURS))
    api = {"apiVersion": "trimtab.dev/v1alpha1", "metadata": {"name": PROFILE}}
    training = {"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}}
    storage = {"bucket": "models", "credentials": {"secretName": "store"}}
    kubectl.apply(
        {**api, "kind": "TrainingProfile", "spec": training}, {**api, "kind": "StorageProfile", "spec": storage}
    )
