"""Every example's job, as it stands and on its own real data: two steps, by a small random model in the place of a large one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.assets import link_assets
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig

EXAMPLES = Path(__file__).parents[3] / "examples"
STAND_INS = {"smollm2-135m-instruct": "tiny-llama", "minilm-l6": "tiny-bert"}
TRAINERS = ("model", "task", "objective", "method", "data", "training", "checkpoints", "evaluation", "output")
"""Fields of a spec that the trainer reads as they are."""
PROMISED = re.compile(r"\b(?:baseline|continual|eval|general|test)_[a-z0-9_]+(?:-[a-z]+)?")


def jobs() -> list[Any]:
    """Those that train from a base model; from a version: test_run.py. What a script does is its own business."""
    return [
        pytest.param(path, manifest["spec"], id=f"{path.parent.name}/{path.stem}")
        for path in sorted(EXAMPLES.rglob("*.yaml"))
        if "gitops" not in path.parts and not path.name.startswith("05-")
        for manifest in yaml.safe_load_all(path.read_text())
        if manifest["kind"] == "FineTuneJob" and "modelversion:" not in manifest["spec"]["model"]["uri"]
    ]


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    """With the assets where the examples look for them."""
    link_assets(tmp_path, stand_ins=STAND_INS)
    storage = MemoryStorage(tmp_path)
    storage.install(monkeypatch)
    return storage


def shortened(spec: dict[str, Any], **more: Any) -> RunConfig:
    """Two steps; answers of six tokens; unsigned, on one pod."""
    chosen = {name: spec[name] for name in TRAINERS if name in spec}
    objective = {
        name: {**settings, "sampling": {"maxNewTokens": 6}} if "sampling" in settings else settings
        for name, settings in spec.get("objective", {"supervised": {}}).items()
    }
    training = {**spec.get("training", {}), "maxSteps": 2, "evaluateEverySteps": 2}
    training.pop("epochs", None)
    output = {name: value for name, value in spec["output"].items() if not name.startswith("sign")}
    document = make_job().to_json()
    return RunConfig.model_validate(
        {**document, **chosen, "objective": objective, "training": training, "output": output, **more}
    )


@pytest.mark.parametrize(("path", "spec"), jobs())
def test_an_example_runs_and_has_what_its_comment_promises(
    path: Path, spec: dict[str, Any], storage: MemoryStorage, tmp_path: Path
) -> None:
    more = {"rewardModel": published_judge(storage, tmp_path)} if path.stem == "rloo" else {}
    ended = run_job(shortened(spec, **more), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    comment = " ".join(line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))
    told = storage.published["metrics"] | dict.fromkeys(json.loads(storage.objects["report.json"])["base"], 0.0)
    assert {name for name in PROMISED.findall(comment) if name not in told} == set()


def published_judge(storage: MemoryStorage, root: Path) -> dict[str, Any]:
    """What the example before it publishes."""
    spec = yaml.safe_load((EXAMPLES / "objectives" / "reward.yaml").read_text())["spec"]
    ended = run_job(shortened(spec), root / "judge")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    storage.published["path"].rename(root / "judge-v1")
    storage.checkpoints.clear()
    return {
        "name": "judge-v1",
        "artifactUri": "s3://judge-v1",
        "manifestSha256": 64 * "7",
        "format": "safetensors",
        "baseModel": spec["model"],
    }
