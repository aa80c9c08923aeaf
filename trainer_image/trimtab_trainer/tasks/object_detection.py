"""Task objectDetection: boxes and labels as a set (DETR, Carion et al., 2020, arXiv:2005.12872), by transformers' own loss."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForObjectDetection

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.tasks import ObjectDetection
from trimtab_trainer.data.formats import Example
from trimtab_trainer.data.labels import LabelNumbers
from trimtab_trainer.data.media import AnnotatedImage, Media
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.average_precision import BINS, THRESHOLDS, average_precision, count_detections
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.pictures import check_image, image_tokens, load_image_processor, open_image
from trimtab_trainer.tasks.sequence_classification import choose_labels
from trimtab_trainer.tasks.task import Sums, Task

DETECTIONS = 100
"""The likeliest detections of an image are measured, as COCO has it."""


@dataclass(frozen=True, slots=True)
class SceneInput:
    """A picture, read when its batch is made, and what is in it."""

    image: Media
    boxes: NDArray[np.float32]
    """[boxes, 4]: centre x and y, width and height, as shares of the picture's."""
    classes: NDArray[np.int64]
    """[boxes]"""
    length: int
    size: tuple[int, int]
    """Width and height of the picture in pixels."""

    is_learnable = True  # that nothing is there is worth learning, too
    cut = False

    @property
    def shape(self) -> tuple[int, int]:
        """Pictures of one shape are not padded beside each other."""
        return self.size

    @property
    def targets(self) -> int:
        """Boxes."""
        return len(self.boxes)


@dataclass(frozen=True)
class SceneEncoder:
    """Boxes in pixels to shares of the picture, labels to their numbers."""

    labels: tuple[str, ...]
    tokens: int

    def encode(self, examples: Iterable[Example]) -> list[SceneInput]:
        """All examples in their order.

        Raises:
            TrainerError: DatasetInvalid naming the first row whose image or label cannot be used.
        """
        numbers = LabelNumbers(self.labels)
        return [self._encode(example.place, example.content, numbers) for example in examples]

    def encode_image(self, image: Media, size: tuple[int, int]) -> SceneInput:
        """A picture of which nobody knows what is in it; it was looked at before."""
        return SceneInput(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), self.tokens, size)

    def _encode(self, place: str, content: Any, numbers: LabelNumbers) -> SceneInput:
        width, height = check_image(content.image, place)
        classes = np.asarray([numbers.of(label, place) for label in content.categories], np.int64)
        corners = np.asarray(content.boxes, np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        corners = np.clip(corners / [width, height, width, height], 0, 1)
        sizes = corners[:, 2:] - corners[:, :2]
        boxes = np.concatenate([corners[:, :2] + sizes / 2, sizes], axis=1)
        return SceneInput(content.image, boxes.astype(np.float32), classes, self.tokens, (width, height))


@dataclass(frozen=True)
class SceneBatch:
    """A micro batch."""

    inputs: dict[str, Tensor]
    """`pixel_values` [images, 3, height, width] and `pixel_mask` [images, height, width]."""
    truths: list[dict[str, Tensor]]
    """`class_labels` and `boxes` of each image; shares of the padded picture."""
    shares: Tensor
    """[images, 4]: what part of the padded width, height, width and height each picture takes."""


@dataclass(frozen=True)
class Detected:
    """What a model sees in one picture, likeliest first."""

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    """[detections, 4]: `(x0, y0, x1, y1)` as shares of the picture."""


@dataclass
class Detection:
    """Boxes and labels in pictures."""

    device: torch.device
    processor: Any
    classes: int

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return "padded images"

    def targets(self, example: SceneInput) -> int:
        """Every picture weighs the same."""
        del example
        return 1

    def collate(self, examples: Sequence[SceneInput]) -> SceneBatch:
        """Pictures in their own shape, padded to the largest height and width."""
        images = [self._pixels(example.image) for example in examples]
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        values = torch.zeros(len(images), 3, height, width)
        mask = torch.zeros(len(images), height, width, dtype=torch.long)
        truths, parts = [], []
        for number, (image, example) in enumerate(zip(images, examples, strict=True)):
            own_height, own_width = image.shape[1:]
            values[number, :, :own_height, :own_width] = image
            mask[number, :own_height, :own_width] = 1
            shares = torch.tensor([own_width / width, own_height / height] * 2)
            parts.append(shares)
            truths.append(
                {
                    "class_labels": torch.from_numpy(example.classes).to(self.device),
                    "boxes": (torch.from_numpy(example.boxes) * shares).to(self.device),
                }
            )
        inputs = {"pixel_values": values.to(self.device), "pixel_mask": mask.to(self.device)}
        return SceneBatch(inputs, truths, torch.stack(parts))

    def loss(self, model: TrainableModel, batch: SceneBatch) -> Tensor:
        """The images' count times the loss of the micro batch, which transformers' matcher makes a mean of."""
        return self._output(model, batch).loss.float() * len(batch.truths)

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: SceneBatch) -> Sums:
        """Loss, and for each class: right and wrong detections by overlap and score, and how many boxes there are."""
        output = self._output(model, batch)
        counts = np.zeros((self.classes, 2, len(THRESHOLDS), BINS))
        truths = np.zeros(self.classes)
        for found, truth in zip(_detected(output), batch.truths, strict=True):
            expected, classes = truth["boxes"].cpu().numpy().astype(np.float64), truth["class_labels"].cpu().numpy()
            for label in range(self.classes):
                chosen = found.labels == label
                truths[label] += (classes == label).sum()
                counts[label] += count_detections(
                    found.boxes[chosen], found.scores[chosen], corners(expected[classes == label])
                )
        images = float(len(batch.truths))
        return {"loss": float(output.loss) * images, "targets": images, "counts": counts, "truths": truths}

    @torch.no_grad()
    def answer(self, model: TrainableModel, examples: Sequence[SceneInput]) -> list[Detected]:
        """What is in each picture, boxes as shares of the picture itself."""
        batch = self.collate(examples)
        return [
            replace(found, boxes=(found.boxes / shares).clip(0, 1))
            for found, shares in zip(_detected(self._output(model, batch)), batch.shares.double().numpy(), strict=True)
        ]

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """COCO's mean average precision over the classes that occur: over all overlaps, and from 50 and 75 % on."""
        present = np.flatnonzero(sums["truths"])
        precisions = [average_precision(sums["counts"][label], sums["truths"][label]) for label in present]
        mean = np.mean(precisions, axis=0) if precisions else np.zeros(len(THRESHOLDS))
        return {
            "loss": sums["loss"] / sums["targets"],
            "map": float(mean.mean()),
            "map_50": float(mean[0]),
            "map_75": float(mean[5]),
        }

    def _output(self, model: TrainableModel, batch: SceneBatch) -> Any:
        with model.autocast():
            if self._has_mask(model):
                return model.module(**batch.inputs, labels=batch.truths)
            return model.module(pixel_values=batch.inputs["pixel_values"], labels=batch.truths)

    def _has_mask(self, model: TrainableModel) -> bool:
        return "pixel_mask" in model.base.forward.__code__.co_varnames

    def _pixels(self, image: Media) -> Tensor:
        """[3, height, width], without padding."""
        found = self.processor(images=open_image(image), return_tensors="pt", do_pad=False)["pixel_values"]
        return torch.as_tensor(found[0])


def _detected(output: Any) -> list[Detected]:
    probabilities = output.logits.float().softmax(-1)[..., :-1]  # the last output: nothing
    scores, labels = (found.cpu().numpy() for found in probabilities.max(-1))
    boxes = output.pred_boxes.float().cpu().numpy().astype(np.float64)
    found = []
    for number, score in enumerate(scores):
        likeliest = np.argsort(-score, kind="stable")[:DETECTIONS]
        box = corners(boxes[number][likeliest])
        found.append(Detected(score[likeliest].astype(np.float64), labels[number][likeliest], box))
    return found


def corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres and sizes to `(x0, y0, x1, y1)`."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


class SceneDetection(TaskDefinition):
    """Boxes and labels in pictures."""

    metric_names = ("loss", "map", "map_50", "map_75")
    formats = ("annotatedImage",)
    auto_model = AutoModelForObjectDetection
    auto_processor = "AutoImageProcessor"
    processor_name = "processor"
    pipeline_tag = "object-detection"
    has_labels = True

    def labels(self, config: RunConfig, examples: Sequence[Example]) -> tuple[str, ...]:
        """As the user states them, or the sorted categories of the training split; one is enough."""
        settings = config.task.object_detection or ObjectDetection()
        found = {name for one in examples if isinstance(one.content, AnnotatedImage) for name in one.content.categories}
        names = tuple(settings.labels) or tuple(sorted(found))
        return names if len(names) == 1 else choose_labels(names, found)

    def load_processor(self, directory: Path) -> Any:
        """The image processor."""
        return load_image_processor(directory)

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> SceneEncoder:
        """Boxes to shares of the picture."""
        del config
        return SceneEncoder(labels, image_tokens(processor, directory))

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Any]) -> tuple[Task, str]:
        """Padded images."""
        del config, train
        return Detection(model.device, model.tokenizer, len(model.labels)), ""

    def show(self, example: SceneInput, processor: Any) -> list[tuple[bool, str]]:
        """What there is to say in words."""
        del processor
        return [(False, "an image"), (True, f"{len(example.boxes)} boxes")]
