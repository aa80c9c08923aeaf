"""Trimtab's operator and its peer, as the benchmark sees them."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import kubectl
import kubeflow
from load import Manifest, Work
from tests.support.local_process import LocalProcess
from tests.support.operator_process import REPOSITORY, OperatorProcess

from trimtab_operator.cluster.resources import OURS, resource_of

PROFILE = "bench"


@dataclass(frozen=True, slots=True)
class Contender:
    """A controller and its load."""

    name: str
    version: str
    work: Work
    start: Callable[[Path], AbstractContextManager[LocalProcess]]
    """Runs it, with its log in a file."""


def trimtab(module: str) -> Contender:
    """This checkout's operator."""
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"], check=False, capture_output=True, text=True
    )
    return Contender(
        name="Trimtab",
        version=commit.stdout.strip() or "unknown",
        work=Work(created=resource_of("FineTuneJob").path(), child=resource_of("Job").path(), manifest=fine_tune_job),
        start=lambda log: OperatorProcess(log=log, module=tuple(module.split())),
    )


def kubeflow_trainer(*, suspend: bool) -> Contender:
    """The peer, as its module ships it, with TrainJobs that are suspended or not."""
    program = kubeflow.build()
    return Contender(
        name="Kubeflow Trainer, suspended" if suspend else "Kubeflow Trainer",
        version=kubeflow.VERSION,
        work=Work(
            created="/apis/trainer.kubeflow.org/v1alpha1/trainjobs",
            child="/apis/jobset.x-k8s.io/v1alpha2/jobsets",
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
