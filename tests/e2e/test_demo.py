"""The demo as a newcomer runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import kube

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "demo-output"

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def printed(platform: None) -> str:
    """What a run of the demo printed."""
    for file in OUTPUT.glob("*"):
        file.unlink()
    done = subprocess.run(
        [sys.executable, str(ROOT / "dev" / "demo" / "run.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{kube.story('demo')}"
    return done.stdout


def test_the_tuned_model_is_better_on_questions_that_it_never_saw(printed: str) -> None:
    report = json.loads((OUTPUT / "report.json").read_text())
    assert report["base"]["test_exact_match"] <= 0.1
    assert report["tuned"]["test_exact_match"] >= 0.75
    assert "exactly the right JSON" in printed
    assert "Gate successful: learned: exact_match on test" in printed
    assert "Gate successful: not-forgotten: perplexity on general" in printed


def test_it_leaves_a_loss_curve_and_a_report(printed: str) -> None:
    assert (OUTPUT / "loss.png").read_bytes().startswith(b"\x89PNG")
    report = (OUTPUT / "report.md").read_text()
    assert "Base against tuned" in report
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", report)
    assert not [name for name in pictures if not (OUTPUT / name).is_file()]
    assert str(OUTPUT / "loss.png") in printed


def test_the_newest_version_serves(printed: str) -> None:
    newest = max(version["spec"]["version"] for version in kube.items("mdv", "demo"))
    rollout = kube.get("mro", "triage", "demo")
    assert rollout is not None
    assert rollout["status"]["stableVersion"] == newest
    assert f"triage-v{newest}" in printed


def test_its_web_page_shows_the_run(printed: str) -> None:
    """The way that the demo prints, through the API server instead of a port."""
    assert "http://127.0.0.1:9090/console" in printed
    operator = "/api/v1/namespaces/trimtab-system/services/trimtab-metrics:metrics/proxy"
    newest = max(version["spec"]["version"] for version in kube.items("mdv", "demo"))
    for path, shown in {
        "/console": f'/console/versions/demo/triage-v{newest}"',
        "/console/jobs/demo/triage": "<polyline",
        f"/console/versions/demo/triage-v{newest}": "BytesVerified",
        "/console/rollouts/demo/triage": "Promoted",
    }.items():
        assert shown in kube.kubectl("get", "--raw", operator + path), path
