"""The page for people, of a real operator."""

import urllib.error
import urllib.request

import pytest
from tests.integration.operator.conftest import StartOperator, eventually, queued_job
from tests.support.cluster import Api

pytestmark = pytest.mark.integration


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_the_page_is_there_for_who_wants_it(server: Api, namespace: str, start: StartOperator) -> None:
    shown = start(TRIMTAB_WATCH_NAMESPACES=namespace, TRIMTAB_CONSOLE="true")
    hidden = start(TRIMTAB_WATCH_NAMESPACES="nowhere")
    server.create(queued_job(namespace))

    page = eventually(
        lambda: found if "Queued" in (found := fetch(shown.metrics_port, "/console")[1]) else None,
        what="the job on the page",
        timeout=30,
    )

    assert f"/console/jobs/{namespace}/sample" in page
    assert fetch(shown.metrics_port, f"/console/jobs/{namespace}/sample")[0] == 200
    assert fetch(shown.metrics_port, "/metrics")[0] == 200
    assert fetch(hidden.metrics_port, "/console")[0] == 404
