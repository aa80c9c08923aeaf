"""Tiny models of images and recordings learn."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.learning import learn
from tests.support.media_models import coloured_images, scenes, tones, write_media_files
from tests.support.training import make_job


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media_files(tmp_path_factory.mktemp("media"))


@pytest.mark.parametrize(
    ("task", "model", "rows", "expected"),
    [
        pytest.param({"imageClassification": {}}, "vit", coloured_images, {"accuracy": 1.0}, id="ViT"),
        pytest.param(
            {"imageClassification": {"horizontalFlip": True}}, "resnet", coloured_images, {"f1": 1.0}, id="ResNet"
        ),
        pytest.param(
            {"imageTextMatching": {"zeroShotPrompt": "it is {}"}},
            "clip",
            coloured_images,
            {"recall_at_1": 1.0, "zero_shot_accuracy": 1.0},
            id="CLIP",
        ),
        pytest.param({"objectDetection": {}}, "yolos", scenes, {"map_50": 0.15}, id="YOLOS"),
        pytest.param({"speechRecognition": {}}, "wav2vec2", tones, {}, id="wav2vec2"),
    ],
)
def test_a_tiny_model_learns(
    task: dict[str, Any], model: str, rows: Any, expected: dict[str, float], media: Path, tmp_path: Path
) -> None:
    config = make_job(model={"uri": f"s3://models/{model}"}, task=task, method={"full": {}})
    steps, rate = {"yolos": (250, 3e-3), "wav2vec2": (150, 2e-3)}.get(model, (30, 5e-3))
    learned = learn(config, media / "models" / model, rows(tmp_path / "files", 12), tmp_path, steps=steps, rate=rate)
    assert learned.after["loss"] < 0.6 * learned.before["loss"], (learned.before, learned.after)
    for name, at_least in expected.items():
        assert learned.after[name] >= at_least, learned.after
    if model == "wav2vec2":
        assert learned.after["word_error_rate"] <= 0.2, learned.after
