"""Every example can be run: what it names is made by the set-up step, and its comment says how."""

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "dev" / "demo"))

import assets  # noqa: E402

USED = re.compile(r"s3://trimtab/assets/(models|data)/([a-z0-9-]+)(?:/([a-z.-]*))?")
EXAMPLES = [path for path in sorted((ROOT / "examples").rglob("*.yaml")) if USED.search(path.read_text())]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_what_an_example_names_is_made_by_the_set_up_step(example: Path) -> None:
    for kind, name, _file in USED.findall(example.read_text()):
        assert assets.CATALOGUE[name].kind == kind


@pytest.mark.parametrize(
    "example", [path for path in EXAMPLES if "gitops" not in path.parts], ids=lambda path: path.stem
)
def test_its_comment_says_how_to_get_it(example: Path) -> None:
    text = example.read_text()
    (told,) = re.findall(r"python dev/demo/upload\.py ([a-z0-9 -]+)", text)
    assert set(told.split()) == {name for _, name, _ in USED.findall(text)}


def test_every_member_of_every_axis_has_an_example() -> None:
    """The lists of members are those of the API server's schema."""
    schema = yaml.safe_load((ROOT / "crds" / "finetunejobs.trimtab.dev.yaml").read_text())
    spec = schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    jobs = [
        manifest["spec"]
        for path in EXAMPLES
        for manifest in yaml.safe_load_all(path.read_text())
        if manifest["kind"] == "FineTuneJob"
    ]
    for axis, default in (("task", ""), ("objective", "supervised"), ("method", "")):
        shown = {member for job in jobs for member in job.get(axis, {default: {}})}
        assert set(spec[axis]["properties"]) - shown == set(), axis
