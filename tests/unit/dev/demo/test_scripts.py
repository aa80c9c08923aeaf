from pathlib import Path
from typing import Any

import following
import install
import kube
import pytest


@pytest.mark.parametrize(
    ("reference", "repository", "tag", "digest"),
    [
        pytest.param("localhost/trimtab-operator:3f2a", "localhost/trimtab-operator", "3f2a", "", id="tag"),
        pytest.param("registry:5000/team/trimtab", "registry:5000/team/trimtab", "", "", id="port, no tag"),
        pytest.param("registry:5000/t/o:1@sha256:ab", "registry:5000/t/o", "1", "sha256:ab", id="port, tag, digest"),
    ],
)
def test_image_reference_becomes_chart_values(reference: str, repository: str, tag: str, digest: str) -> None:
    assert install._values("image", reference) == [
        f"--set-string=image.repository={repository}",
        f"--set-string=image.tag={tag}",
        f"--set-string=image.digest={digest}",
    ]


@pytest.mark.parametrize(
    ("status", "line"),
    [
        pytest.param({}, "Pending    ", id="not seen yet"),
        pytest.param({"state": "Starting"}, "Starting   ", id="no progress yet"),
        pytest.param(
            {
                "state": "Running",
                "progress": {"step": 12, "totalSteps": 50, "loss": 0.2914, "tokensPerSecond": 163.4, "eta": "1m20s"},
                "lastCheckpoint": {"step": 10},
            },
            "Running      step 12 of 50  loss 0.291  163 tokens/s  1m20s to go  checkpoint of step 10 committed",
            id="in the middle",
        ),
    ],
)
def test_progress_line(status: dict[str, Any], line: str) -> None:
    assert following._line({"status": status}) == line


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        pytest.param(2, True, id="about this generation"),
        pytest.param(1, False, id="about an older generation"),
        pytest.param(None, True, id="says nothing about generations"),
    ],
)
def test_condition_counts_only_for_the_present_generation(observed: int | None, *, expected: bool) -> None:
    ready: dict[str, Any] = {"type": "Ready", "status": "True"}
    if observed is not None:
        ready["observedGeneration"] = observed
    thing = {"metadata": {"generation": 2}, "status": {"conditions": [ready]}}
    assert kube.is_true(thing, "Ready") is expected


def test_examples_are_read_with_the_users_bucket(tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text("kind: A\nuri: s3://trimtab/x\n---\nkind: B\n---\n")
    assert kube.load(file, {"s3://trimtab/": "s3://mine/"}) == {
        "A": {"kind": "A", "uri": "s3://mine/x"},
        "B": {"kind": "B"},
    }
