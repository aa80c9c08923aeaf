"""The page for people, of a real operator."""

import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

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


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium: apt-get install chromium")
def test_a_browser_shows_it_and_objects_to_nothing(
    server: Api, namespace: str, start: StartOperator, tmp_path: Path
) -> None:
    shown = start(TRIMTAB_WATCH_NAMESPACES=namespace, TRIMTAB_CONSOLE="true")
    server.create(queued_job(namespace))
    eventually(lambda: "Queued" in fetch(shown.metrics_port, "/console")[1], what="the job on the page", timeout=30)
    picture = tmp_path / "page.png"
    command = [
        *(
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
        ),
        *(f"--user-data-dir={tmp_path / 'browser'}", f"--screenshot={picture}", "--window-size=1000,700", "--dump-dom"),
    ]

    for path in ("/console", f"/console/jobs/{namespace}/sample"):
        address = f"http://127.0.0.1:{shown.metrics_port}{path}"
        done = subprocess.run([*command, address], capture_output=True, text=True, timeout=60, check=True)

        assert "Queued" in done.stdout
        # What its Content-Security-Policy forbids, and what cannot be loaded, Chromium tells in its console.
        assert "CONSOLE" not in done.stderr, done.stderr
        assert picture.read_bytes().startswith(b"\x89PNG")
