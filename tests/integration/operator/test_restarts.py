"""The operator dies, the API server goes away, a watch breaks: nothing is lost, nothing happens twice."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.integration.operator.conftest import StartOperator, eventually, queued_job
from tests.support.api_proxy import ApiProxy, status
from tests.support.cluster import Api, Manifest
from tests.support.control_plane import ControlPlane

pytestmark = pytest.mark.integration


def jobs(server: Api, namespace: str) -> list[Manifest]:
    found: list[Manifest] = server.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    return found


def owners(server: Api, namespace: str) -> list[str]:
    return sorted(job["metadata"]["ownerReferences"][0]["name"] for job in jobs(server, namespace))


def test_kill_9_in_the_middle_of_a_burst(server: Api, namespace: str, start: StartOperator) -> None:
    operator = start(TRIMTAB_WATCH_NAMESPACES=namespace)
    names = sorted(f"job-{index:02d}" for index in range(40))
    for index, name in enumerate(names):
        server.create(queued_job(namespace, name))
        if index in (10, 20, 30):
            operator.kill(signal.SIGKILL)
            operator.start()

    eventually(lambda: owners(server, namespace) == names, what="exactly one Job each", timeout=90)
    assert [job["metadata"]["name"] for job in jobs(server, namespace)] == [f"{name}-a1" for name in names]


def test_a_restart_writes_nothing_to_what_is_converged(server: Api, namespace: str, start: StartOperator) -> None:
    operator = start(TRIMTAB_WATCH_NAMESPACES=namespace)
    for index in range(10):
        server.create(queued_job(namespace, f"job-{index}"))
    eventually(lambda: len(jobs(server, namespace)) == 10, what="ten Jobs", timeout=60)
    reconciled = 'trimtab_reconcile_duration_seconds_count{kind="FineTuneJob",result="success"}'
    eventually(lambda: _quiet(server, namespace), what="every status knows its Job's state", timeout=60)

    operator.kill(signal.SIGKILL)
    operator.start()
    operator.wait_ready()

    eventually(
        lambda: operator.metrics().get(reconciled, 0) >= 10 and operator.settled(),
        what="all were looked at",
        timeout=60,
    )
    # Events are posted again by nobody; profiles have the status that they had.
    assert {name: count for name, count in operator.writes().items() if count} == {}


def _quiet(server: Api, namespace: str) -> bool:
    items = server.get(f"/apis/trimtab.dev/v1alpha1/namespaces/{namespace}/finetunejobs")["items"]
    return all(item.get("status", {}).get("state") == "Queued" for item in items)


def test_sigterm_ends_it_in_good_order(start: StartOperator) -> None:
    operator = start(TRIMTAB_WATCH_NAMESPACES="default")

    assert operator.kill(signal.SIGTERM) == 0


@pytest.fixture
def proxied(plane: ControlPlane, tmp_path: Path) -> Iterator[tuple[ApiProxy, Path]]:
    """A proxy that can break watches, and the kubeconfig that leads through it."""
    with ApiProxy(plane) as proxy:
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(plane.config(proxy.address)))
        yield proxy, path


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(status(500, "etcdserver: leader changed"), id="an error ends Kopf"),
        pytest.param(status(410, "too old resource version"), id="the history is gone"),
        pytest.param(b'{"type": "MOD', id="half an event"),
        pytest.param(None, id="the connection is cut"),
    ],
)
def test_a_broken_watch_is_replaced(
    server: Api, namespace: str, start: StartOperator, proxied: tuple[ApiProxy, Path], message: bytes | None
) -> None:
    proxy, kubeconfig = proxied
    operator = start(kubeconfig=kubeconfig, TRIMTAB_WATCH_NAMESPACES=namespace)
    eventually(lambda: len(proxy.watches()) == 9, what="nine watches", timeout=30)
    pid = operator.pid

    assert proxy.break_watches(message) == 9
    server.create(queued_job(namespace))

    eventually(lambda: owners(server, namespace) == ["sample"], what="the Job", timeout=30, every=0.05)
    eventually(lambda: len(proxy.watches()) == 9, what="nine watches again", timeout=30)
    assert (operator.pid, operator.exit_code()) == (pid, None), "the same process"


def test_what_was_deleted_while_nobody_watched_is_forgotten(
    server: Api, namespace: str, start: StartOperator, proxied: tuple[ApiProxy, Path]
) -> None:
    proxy, kubeconfig = proxied
    operator = start(kubeconfig=kubeconfig, TRIMTAB_WATCH_NAMESPACES=namespace)
    for name in ("stays", "goes"):
        server.create(queued_job(namespace, name))
    eventually(lambda: owners(server, namespace) == ["goes", "stays"], what="two Jobs", timeout=30)
    states = f'trimtab_jobs{{namespace="{namespace}"'
    eventually(lambda: _count(operator.metrics(), states) == 2, what="two jobs are known", timeout=30)

    proxy.frozen = True
    server.delete(queued_job(namespace, "goes"))
    eventually(lambda: owners(server, namespace) == ["stays"], what="its Job is gone", timeout=60)
    proxy.frozen = False
    proxy.break_watches(status(410, "too old resource version"))

    eventually(lambda: _count(operator.metrics(), states) == 1, what="the sweep found it", timeout=30)


def _count(metrics: dict[str, float], prefix: str) -> int:
    return int(sum(value for name, value in metrics.items() if name.startswith(prefix)))


def test_an_api_server_that_goes_away_and_comes_back(
    plane: ControlPlane, server: Api, namespace: str, start: StartOperator
) -> None:
    operator = start(TRIMTAB_WATCH_NAMESPACES=namespace)
    pid = operator.pid

    plane.stop_api_server()
    plane.start_api_server()
    server.create(queued_job(namespace))

    eventually(lambda: owners(server, namespace) == ["sample"], what="the Job", timeout=60)
    assert (operator.pid, operator.exit_code()) == (pid, None), "the same process"
