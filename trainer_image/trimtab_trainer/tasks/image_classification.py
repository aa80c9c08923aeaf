"""Task imageClassification: one label for a picture; the same loss and metrics as for texts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageClassification

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.tasks import ImageClassification
from trimtab_trainer.data.formats import Example
from trimtab_trainer.data.labels import LabelNumbers
from trimtab_trainer.data.media import LabelledImage, Media
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.classes import class_weights
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.pictures import Augmentation, check_image, image_tokens, load_image_processor, pixels
from trimtab_trainer.tasks.sequence_classification import LabelledBatch, SequenceClassification, choose_labels
from trimtab_trainer.tasks.task import Task


@dataclass(frozen=True, slots=True)
class ImageInput:
    """A picture, read when its batch is made, and its label."""

    image: Media
    label: int
    length: int
    """Positions of the model that it takes."""

    targets = 0
    is_learnable = True
    cut = False


@dataclass(frozen=True)
class ImageEncoder:
    """Labels to their numbers; every picture is looked at, so that a broken one is named before training."""

    labels: tuple[str, ...]
    tokens: int

    def encode(self, examples: Iterable[Example]) -> list[ImageInput]:
        """All examples in their order.

        Raises:
            TrainerError: DatasetInvalid naming the first row whose image or label cannot be used.
        """
        numbers = LabelNumbers(self.labels)
        return [self._encode(example.place, example.content, numbers) for example in examples]

    def encode_image(self, image: Media) -> ImageInput:
        """A picture whose label nobody knows yet; it was looked at before."""
        return ImageInput(image, 0, self.tokens)

    def _encode(self, place: str, content: Any, numbers: LabelNumbers) -> ImageInput:
        check_image(content.image, place)
        return ImageInput(content.image, numbers.of(content.label, place), self.tokens)


@dataclass
class PictureClassification(SequenceClassification):
    """One label for a picture."""

    processor: Any = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return "images of one size"

    def collate(self, examples: Sequence[Any]) -> LabelledBatch:
        """Decoded, resized and normalised."""
        inputs = {"pixel_values": pixels(self.processor, [example.image for example in examples], self.device)}
        return LabelledBatch(inputs, torch.tensor([example.label for example in examples], device=self.device))

    def collate_without_inputs(self, examples: Sequence[Any]) -> LabelledBatch:
        """Labels; no picture is opened."""
        inputs = {"pixel_values": torch.zeros(len(examples), 3, 1, 1, device=self.device)}
        return LabelledBatch(inputs, torch.tensor([example.label for example in examples], device=self.device))

    def loss(self, model: TrainableModel, batch: LabelledBatch) -> Tensor:
        """Sum of the cross-entropies of randomly changed pictures."""
        changed = {"pixel_values": self.augmentation.apply(batch.inputs["pixel_values"])}
        return super().loss(model, LabelledBatch(changed, batch.labels))


class PictureLabelling(TaskDefinition):
    """One label for a picture."""

    metric_names = ("loss", "accuracy", "precision", "recall", "f1", "roc_auc")
    formats = ("labelledImage",)
    auto_model = AutoModelForImageClassification
    auto_processor = "AutoImageProcessor"
    processor_name = "processor"
    pipeline_tag = "image-classification"
    has_fixed_inputs = True
    has_labels = True
    smooths_labels = True
    weighs_classes = True

    def labels(self, config: RunConfig, examples: Sequence[Example]) -> tuple[str, ...]:
        """As the user states them, or the sorted labels of the training split."""
        found = {one.content.label for one in examples if isinstance(one.content, LabelledImage)}
        return choose_labels(_settings(config).labels, found)

    def changing_inputs(self, config: RunConfig) -> str:
        """Pictures that are mirrored or cut out."""
        settings = _settings(config)
        fields = {"horizontalFlip": settings.horizontal_flip, "cropPadding": settings.crop_padding}
        return next((f"task.imageClassification.{field}" for field, value in fields.items() if value), "")

    def load_processor(self, directory: Path) -> Any:
        """The image processor."""
        return load_image_processor(directory)

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> ImageEncoder:
        """Labels to numbers."""
        del config
        return ImageEncoder(labels, image_tokens(processor, directory))

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Any]) -> tuple[Task, str]:
        """Images of one size, randomly changed while training."""
        settings = _settings(config)
        task = PictureClassification(
            model.device,
            pad_id=0,
            label_smoothing=config.training.label_smoothing,
            class_weights=class_weights(config, model, train),
            processor=model.tokenizer,
            augmentation=Augmentation(settings.horizontal_flip, settings.crop_padding),
        )
        return task, ""

    def show(self, example: ImageInput, processor: Any) -> list[tuple[bool, str]]:
        """What there is to say in words."""
        del processor
        return [(False, f"an image of {example.length} positions"), (True, f"label {example.label}")]


def _settings(config: RunConfig) -> ImageClassification:
    return config.task.image_classification or ImageClassification()
