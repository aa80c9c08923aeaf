"""Two replicas: one works, the other takes over, and either of them hears the trainers."""

import asyncio
import json
import signal
import ssl
import time
import urllib.request
from pathlib import Path

import pytest
from tests.integration.operator.conftest import StartOperator, eventually, queued_job
from tests.integration.operator.test_endpoint import pod_of, token
from tests.support.cluster import Api
from tests.support.operator_process import OperatorProcess, free_port

from trimtab_operator.endpoint.certificates import make_self_signed

pytestmark = pytest.mark.integration

LEADER = "trimtab_leader"


@pytest.fixture
def replicas(server: Api, namespace: str, start: StartOperator, tmp_path: Path) -> list[OperatorProcess]:
    """Two of them, on two loopback addresses, with one certificate."""
    asyncio.run(make_self_signed(tmp_path / "tls", "https://localhost"))
    port = free_port()
    settings = {
        "TRIMTAB_LEADER_ELECTION": "true",
        "TRIMTAB_WATCH_NAMESPACES": namespace,
        "TRIMTAB_NAMESPACE": namespace,
        "TRIMTAB_TLS_DIRECTORY": str(tmp_path / "tls"),
        "TRIMTAB_STATUS_PORT": str(port),
        "TRIMTAB_STATUS_URL": f"https://localhost:{port}",
    }
    return [
        start(
            **settings,
            TRIMTAB_POD_NAME=f"replica-{number}",
            TRIMTAB_POD_IP=f"127.0.0.{number}",
            TRIMTAB_BIND_ADDRESS=f"127.0.0.{number}",
        )
        for number in (1, 2)
    ]


def leads(operator: OperatorProcess) -> bool:
    return operator.exit_code() is None and operator.metrics().get(LEADER) == 1


@pytest.mark.parametrize(
    ("number", "within"),
    [
        pytest.param(signal.SIGTERM, 8.0, id="gives the Lease back"),
        pytest.param(signal.SIGKILL, 25.0, id="dies"),
    ],
)
def test_the_other_one_takes_over(
    server: Api, namespace: str, replicas: list[OperatorProcess], number: signal.Signals, within: float
) -> None:
    eventually(lambda: sum(map(leads, replicas)) == 1, what="one leads", timeout=30)
    leader = next(operator for operator in replicas if leads(operator))
    other = next(operator for operator in replicas if operator is not leader)
    assert other.wait_ready() < 5, "a standby is ready too"
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    server.create(queued_job(namespace, "before"))
    eventually(lambda: len(server.get(jobs)["items"]) == 1, what="the first Job", timeout=30)

    leader.kill(number)
    killed = time.monotonic()
    server.create(queued_job(namespace, "after"))

    eventually(lambda: len(server.get(jobs)["items"]) == 2, what="the second Job", timeout=60, every=0.1)
    assert time.monotonic() - killed < within
    assert leads(other)


def test_a_standby_passes_reports_on(
    server: Api, namespace: str, replicas: list[OperatorProcess], tmp_path: Path
) -> None:
    eventually(lambda: sum(map(leads, replicas)) == 1, what="one leads", timeout=30)
    standby = next(operator for operator in replicas if not leads(operator))
    server.create(queued_job(namespace, runPolicy={}))
    bearer = token(server, namespace, pod_of(server, namespace, "sample"))
    body = json.dumps({"trainerStatus": {"progressPercentage": 13}}).encode()
    url = f"https://{standby.host}:{standby.status_port}/v1alpha1/namespaces/{namespace}/finetunejobs/sample/status"
    # Reached by its address as a pod is; the certificate names the Service.
    context = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.crt"))
    context.check_hostname = False

    with urllib.request.urlopen(
        urllib.request.Request(url, data=body, headers={"Authorization": f"Bearer {bearer}"}),
        context=context,
        timeout=10,
    ) as answer:
        assert json.load(answer) == {"trainerStatus": {"progressPercentage": 13, "metrics": [], "lastUpdatedTime": ""}}

    job = f"/apis/trimtab.dev/v1alpha1/namespaces/{namespace}/finetunejobs/sample"
    eventually(
        lambda: server.get(job)["status"].get("progress", {}).get("percent") == 13,
        what="the leader heard it",
        timeout=30,
    )
