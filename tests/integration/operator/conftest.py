"""The operator as a process of this machine, against a control plane of its own: no other Trimtab looks at these objects."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from tests.support import kube
from tests.support.cluster import Api, Manifest, collection, proxy
from tests.support.control_plane import MANY_JOBS, ControlPlane, missing
from tests.support.manifests import smallest
from tests.support.operator_process import OperatorProcess

from trimtab_operator.api.crd import custom_resource_definition
from trimtab_operator.api.v1alpha1 import KINDS

StartOperator = Callable[..., OperatorProcess]
T = TypeVar("T")


def eventually(look: Callable[[], T | None], *, what: str, timeout: float = 60, every: float = 0.1) -> T:
    """The first true value of `look`; this operator answers in milliseconds."""
    return kube.eventually(look, what=what, timeout=timeout, every=every)


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """etcd, API server, Job and garbage controllers; nobody schedules pods."""
    if why := missing():
        pytest.skip(why)
    with ControlPlane(controllers=MANY_JOBS) as plane:
        yield plane


@pytest.fixture(scope="session")
def server(plane: ControlPlane) -> Iterator[Api]:
    """Its API, with our CRDs and default profiles."""
    with proxy(str(plane.kubeconfig)) as server:
        for crd in map(custom_resource_definition, KINDS):
            server.apply(crd)
        for crd in map(custom_resource_definition, KINDS):
            eventually(
                lambda crd=crd: _established(server, crd), what=f"{crd['metadata']['name']} is established", timeout=60
            )
        for kind in ("TrainingProfile", "StorageProfile"):
            profile = smallest(kind)
            profile["metadata"]["name"], profile["spec"]["default"] = "default", True
            server.apply(profile)
        yield server


def _established(server: Api, crd: Manifest) -> bool:
    conditions = server.get(f"{collection(crd)}/{crd['metadata']['name']}").get("status", {}).get("conditions", [])
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)


@pytest.fixture
def namespace(server: Api) -> str:
    """A namespace of its own, with the service account that pods need."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    eventually(lambda: server.exists(account), what="the default service account", timeout=60, every=0.05)
    return name


@pytest.fixture
def start(plane: ControlPlane, server: Api, tmp_path: Path) -> Iterator[StartOperator]:
    """Starts operators; all of them end with the test."""
    started: list[OperatorProcess] = []

    def start_one(*, kubeconfig: Path | None = None, **settings: str) -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        environment = {
            "KUBECONFIG": str(kubeconfig or plane.kubeconfig),
            "TRIMTAB_PROGRESS_INTERVAL_SECONDS": "0",
            **settings,
        }
        operator = OperatorProcess(log=log, settings=environment)
        started.append(operator)
        operator.start()
        operator.wait_ready()
        return operator

    yield start_one
    for operator in started:
        operator.stop()
        print(f"--- {operator.log.name}\n{operator.log.read_text()[-6000:]}")


def queued_job(namespace: str, name: str = "sample", **spec: object) -> Manifest:
    """A job whose Job is made and stays suspended: nobody serves its queue."""
    job = smallest("FineTuneJob", namespace=namespace)
    job["metadata"]["name"] = name
    job["spec"] |= {"runPolicy": {"queueName": "nobody"}, **spec}
    return job
