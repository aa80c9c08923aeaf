"""examples/python/submit.py, as a user runs it: the API server and its schemas are real, the test plays the operator."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.operator.conftest import eventually
from tests.support.cluster import Api, Manifest
from tests.support.control_plane import ControlPlane

pytestmark = pytest.mark.integration
EXAMPLES = Path(__file__).parents[3] / "examples"


def say(server: Api, namespace: str, **status: object) -> None:
    """Give the job a status, as the operator would."""
    path = f"/apis/trimtab.dev/v1alpha1/namespaces/{namespace}/finetunejobs/triage"
    eventually(lambda: server.exists(path), what="the job")
    server.replace_status({**server.get(path), "status": status})


def resting(type_: str, reason: str, message: str) -> list[Manifest]:
    return [
        {
            "type": type_,
            "status": "True",
            "reason": reason,
            "message": message,
            "observedGeneration": 1,
            "lastTransitionTime": "2026-11-22T10:00:00Z",
        }
    ]


@pytest.mark.parametrize(
    ("type_", "code"), [pytest.param("Complete", 0, id="complete"), pytest.param("Failed", 1, id="failed")]
)
def test_it_submits_and_follows_to_the_end(
    type_: str, code: int, plane: ControlPlane, server: Api, namespace: str
) -> None:
    command = [sys.executable, str(EXAMPLES / "python" / "submit.py"), str(EXAMPLES / "01-lora-quickstart.yaml")]
    environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
    with subprocess.Popen(
        [*command, "--namespace", namespace], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        progress = {"step": 12, "totalSteps": 50, "loss": 0.2914}
        say(server, namespace, state="Running", progress=progress)
        printed = [next(line for line in process.stdout if "step" in line)]
        say(server, namespace, state=type_, progress=progress, conditions=resting(type_, "AsTold", "so it is"))
        printed += process.stdout.readlines()
        assert process.wait(timeout=30) == code
    assert printed[0] == "triage Running: step 12 of 50, loss 0.291\n"
    assert printed[-2:] == [f"triage {type_}: step 12 of 50, loss 0.291\n", "AsTold: so it is\n"]


def test_a_field_that_does_not_exist_is_refused(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    text = (EXAMPLES / "01-lora-quickstart.yaml").read_text()
    file = tmp_path / "job.yaml"
    file.write_text(text.replace("learningRate:", "learnRate:"))
    command = [sys.executable, str(EXAMPLES / "python" / "submit.py"), str(file), "--namespace", namespace]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
    )
    assert done.returncode != 0
    assert 'unknown field \\"spec.training.learnRate\\"' in done.stderr
