"""Tasks on images and recordings: reading, metrics as their reference libraries compute them."""

import io
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tests.support.learning import learn
from tests.support.media_models import RATE, tones, write_media_files, write_wav
from tests.support.training import make_job

from trimtab_trainer.contract.spec import DataSource
from trimtab_trainer.data.formats import read_examples
from trimtab_trainer.data.media import LabelledImage, Media
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.tasks.average_precision import BINS, THRESHOLDS, average_precision, count_detections
from trimtab_trainer.tasks.pictures import Augmentation
from trimtab_trainer.tasks.recordings import read_recording
from trimtab_trainer.tasks.scores import edit_distance


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media_files(tmp_path_factory.mktemp("media"))


def test_average_precision_is_that_of_coco() -> None:
    generator = np.random.default_rng(5)
    truths, found = [], []
    counts, totals = np.zeros((2, 2, len(THRESHOLDS), BINS)), np.zeros(2)
    for image in range(30):
        for label in range(2):
            corner = generator.uniform(0, 60, (generator.integers(0, 4), 2))
            boxes = np.concatenate([corner, corner + generator.uniform(15, 40, corner.shape)], axis=1)
            noisy = np.concatenate([boxes + generator.normal(0, 3, boxes.shape), boxes[:1] + 30])
            scores = generator.permutation(1000)[: len(noisy)] / 1000 + 0.0005
            counts[label] += count_detections(noisy, scores, boxes)
            totals[label] += len(boxes)
            truths += [_annotation(image, label, box, number=len(truths) + n) for n, box in enumerate(boxes, start=1)]
            found += [
                {**_annotation(image, label, box), "score": score} for box, score in zip(noisy, scores, strict=True)
            ]
    expected = _coco(truths, found)
    precisions = np.mean([average_precision(counts[label], totals[label]) for label in range(2)], axis=0)
    assert [precisions.mean(), precisions[0], precisions[5]] == pytest.approx(expected[:3], abs=0.01)


def _annotation(image: int, label: int, box: Any, number: int = 0) -> dict[str, Any]:
    left, top, right, bottom = map(float, box)
    size = [left, top, right - left, bottom - top]
    return {
        "id": number,
        "image_id": image,
        "category_id": label,
        "bbox": size,
        "area": size[2] * size[3],
        "iscrowd": 0,
    }


def _coco(truths: list[Any], found: list[Any]) -> Any:
    reference = COCO()
    reference.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(30)],
        "categories": [{"id": label} for label in range(2)],
        "annotations": truths,
    }
    reference.createIndex()
    measured = COCOeval(reference, reference.loadRes(found), "bbox")
    measured.evaluate()
    measured.accumulate()
    measured.summarize()
    return measured.stats


def test_error_rates_are_those_of_jiwer() -> None:
    generator = np.random.default_rng(2)
    for _ in range(50):
        left, right = (
            " ".join("abc"[n] for n in generator.integers(3, size=generator.integers(1, 9))) for _ in range(2)
        )
        assert edit_distance(left.split(), right.split()) / len(left.split()) == pytest.approx(jiwer.wer(left, right))
        assert edit_distance(left, right) / len(left) == pytest.approx(jiwer.cer(left, right))


def test_our_ctc_loss_is_that_of_transformers(media: Path, tmp_path: Path) -> None:
    config = make_job(model={"uri": "s3://models/wav2vec2"}, task={"speechRecognition": {}}, method={"full": {}})
    learned = learn(config, media / "models" / "wav2vec2", tones(tmp_path / "files", 3), tmp_path, steps=0, rate=1e-3)
    learned.model.module.eval()
    batch = learned.task.collate([learned.encoded[1]])
    learned.model.base.config.ctc_loss_reduction = "sum"
    with torch.no_grad():
        theirs = learned.model.module(**batch.inputs, labels=batch.letters[None]).loss
        ours = learned.task.loss(learned.model, batch)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-4)


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (8000, 1), (44100, 2)])
def test_recordings_of_any_rate_are_heard_alike(rate: int, channels: int, tmp_path: Path) -> None:
    samples = [0.5 * np.sin(2 * np.pi * 440 * place / rate) for place in range(rate // 4)]
    path = write_wav(tmp_path / "a.wav", samples, rate=rate, channels=channels)
    found = read_recording(Media(path=path), rate=RATE, place="row 1")
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE // 4) / RATE)
    assert len(found) == pytest.approx(RATE // 4, abs=1)
    middle = slice(500, 3500)
    assert np.abs(found[middle] - expected[middle]).max() < 0.01


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="row 1: the recording cannot be read"):
        read_recording(Media(content=b"RIFF"), rate=RATE, place="row 1")


def test_changed_images_follow_from_the_seed_and_keep_their_size() -> None:
    images = torch.arange(4 * 3 * 6 * 5, dtype=torch.float32).reshape(4, 3, 6, 5)
    torch.manual_seed(1)
    first = Augmentation(horizontal_flip=True, crop_padding=2).apply(images)
    torch.manual_seed(1)
    again = Augmentation(horizontal_flip=True, crop_padding=2).apply(images)
    assert torch.equal(first, again)
    assert first.shape == images.shape
    assert not torch.equal(first, images)
    flipped = Augmentation(horizontal_flip=True).apply(images)
    assert all(
        torch.equal(one, old) or torch.equal(one, old.flip(-1)) for one, old in zip(flipped, images, strict=True)
    )


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


def read(path: Path, **source: Any) -> list[Any]:
    found = read_examples([(path.name, path)], DataSource(uri="s3://a/b", **source), allowed=("labelledImage",))
    return [example.content for example in found]


def test_an_image_is_named_or_brought_by_its_row(tmp_path: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415 - one test needs it
    from pyarrow import parquet  # noqa: PLC0415

    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.png").write_bytes(png("red"))
    (tmp_path / "a.jsonl").write_text('{"image": "cats/1.png", "label": "cat"}')
    rows = [{"image": {"bytes": png("red"), "path": "1.png"}, "label": "cat"}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    [named], [brought], [filed] = (read(tmp_path / name) for name in ("a.jsonl", "a.parquet", "cats/1.png"))
    assert named.image.sha256 == brought.image.sha256 == filed.image.sha256
    assert [filed.label, named.label] == ["cats", "cat"]
    assert isinstance(filed, LabelledImage)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        pytest.param('{"image": "../x.png", "label": "a"}', "must be a path below the data file's folder", id="out"),
        pytest.param('{"image": "/etc/x.png", "label": "a"}', "must be a path below", id="absolute"),
        pytest.param('{"image": "x.png", "label": "a"}', "'x.png' of column 'image' is not beside the data", id="gone"),
        pytest.param('{"image": 5, "label": "a"}', "column 'image' must be text; got a number", id="a number"),
    ],
)
def test_a_missing_image_is_named_with_its_row(row: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(row)
    with pytest.raises(TrainerError, match=words):
        read(tmp_path / "a.jsonl")
