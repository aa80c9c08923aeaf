"""Task imageTextMatching: images and texts in one space, by contrast (CLIP, Radford et al., 2021, arXiv:2103.00020).

Pairs of a batch that share a text are all right for each other (UniCL, Yang et al., 2022, arXiv:2204.03610): a batch of
captions from a small set would otherwise teach that a caption does not belong to its own image.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModel, AutoProcessor

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.tasks import ImageTextMatching
from trimtab_trainer.data.formats import Example
from trimtab_trainer.data.media import Media
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.padding import padded
from trimtab_trainer.tasks.pictures import check_image, image_tokens, pixels
from trimtab_trainer.tasks.task import Sums, Task

TEXTS_AT_ONCE = 256
"""Texts embedded in one pass when a split is measured."""


@dataclass(frozen=True, slots=True)
class PairInput:
    """An image and the text that belongs to it."""

    image: Media
    ids: NDArray[np.int32]
    """Tokens of the text."""
    prompt: NDArray[np.int32]
    """Tokens of the sentence that names its class; those of the text where it has no class."""
    length: int
    cut: bool

    is_learnable = True

    @property
    def targets(self) -> int:
        """Tokens of the text."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class ChoiceInput:
    """An image, and texts of which one may belong to it."""

    image: Media
    texts: tuple[NDArray[np.int32], ...]
    """Tokens of each."""
    length: int


@dataclass(frozen=True)
class PairEncoder:
    """Texts to tokens."""

    tokenizer: Any
    max_length: int
    tokens: int
    """Positions that an image takes."""
    prompt: str

    def encode(self, examples: Iterable[Example]) -> list[PairInput]:
        """All examples in their order.

        Raises:
            TrainerError: DatasetInvalid naming the first row whose image cannot be read.
        """
        return [self._encode(example.place, example.content) for example in examples]

    def encode_choice(self, image: Media, texts: Sequence[str]) -> ChoiceInput:
        """An image, looked at before, and what it may be."""
        ids = tuple(self._ids(text) for text in texts)
        return ChoiceInput(image, ids, self.tokens + sum(map(len, ids)))

    def _encode(self, place: str, content: Any) -> PairInput:
        check_image(content.image, place)
        whole = len(self.tokenizer(content.text).input_ids)
        ids = self._ids(content.text)
        prompt = self._ids(self.prompt.replace("{}", content.label)) if content.label else ids
        return PairInput(content.image, ids, prompt, self.tokens + len(ids), cut=whole > len(ids))

    def _ids(self, text: str) -> NDArray[np.int32]:
        return np.asarray(self.tokenizer(text, truncation=True, max_length=self.max_length).input_ids, np.int32)


@dataclass(frozen=True)
class PairBatch:
    """A micro batch."""

    inputs: dict[str, Tensor]
    same: Tensor
    """[pairs, pairs]: whether the text of one pair is that of the other."""
    examples: tuple[PairInput, ...]


@dataclass
class Contrast:
    """Images beside texts."""

    device: torch.device
    pad_id: int
    processor: Any
    _texts: dict[bytes, int] = field(default_factory=dict)
    """Row of each distinct text of the split that is measured, by its tokens."""
    _text_states: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    """[texts, width], of length 1."""
    _prompts: dict[bytes, int] = field(default_factory=dict)
    _prompt_states: Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return "pairs; the others of the same micro batch are what each is told apart from"

    def targets(self, example: PairInput) -> int:
        """Every pair weighs the same."""
        del example
        return 1

    def collate(self, examples: Sequence[PairInput]) -> PairBatch:
        """Images of one size, texts padded to the longest."""
        inputs = self._padded([example.ids for example in examples])
        inputs["pixel_values"] = pixels(self.processor.image_processor, [one.image for one in examples], self.device)
        keys = [example.ids.tobytes() for example in examples]
        same = torch.tensor([[left == right for right in keys] for left in keys], device=self.device)
        return PairBatch(inputs, same, tuple(examples))

    def loss(self, model: TrainableModel, batch: PairBatch) -> Tensor:
        """Sum over the pairs of the mean of both directions' cross-entropies."""
        with model.autocast():
            output = model.module(**batch.inputs)
        logits = output.logits_per_image.float()  # [images, texts]
        truths = batch.same / batch.same.sum(-1, keepdim=True)
        to_texts = nn.functional.cross_entropy(logits, truths, reduction="sum")
        return (to_texts + nn.functional.cross_entropy(logits.T, truths, reduction="sum")) / 2

    @torch.no_grad()
    def begin_measuring(self, model: TrainableModel, examples: Sequence[PairInput]) -> None:
        """Embed every distinct text of the split, and every prompt of its classes."""
        self._texts, self._text_states = self._embedded(model, [example.ids for example in examples])
        self._prompts, self._prompt_states = self._embedded(model, [example.prompt for example in examples])

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: PairBatch) -> Sums:
        """For each image: whether its own text comes first among all texts of the split, and its class among all classes."""
        with model.autocast():
            output = model.module(**batch.inputs)
        states = nn.functional.normalize(output.image_embeds.float(), dim=-1)
        logits = _logits(model, states, self._text_states)
        own = torch.tensor([self._texts[one.ids.tobytes()] for one in batch.examples], device=self.device)
        classes = torch.tensor([self._prompts[one.prompt.tobytes()] for one in batch.examples], device=self.device)
        # Those that are at least as near, its own text among them.
        rank = (logits >= logits.gather(1, own[:, None])).sum(-1)
        guessed = (states @ self._prompt_states.T).argmax(-1)
        return {
            "loss": float(nn.functional.cross_entropy(logits, own, reduction="sum")),
            "targets": float(len(own)),
            "first": float((rank <= 1).sum()),
            "among_five": float((rank <= 5).sum()),  # noqa: PLR2004 - recall at 5
            "zero_shot": float((guessed == classes).sum()),
        }

    @torch.no_grad()
    def answer(self, model: TrainableModel, examples: Sequence[ChoiceInput]) -> list[list[float]]:
        """The probability of each text, among those that its image may be."""
        texts, text_states = self._embedded(model, [text for one in examples for text in one.texts])
        values = pixels(self.processor.image_processor, [one.image for one in examples], self.device)
        with model.autocast():
            found = model.base.get_image_features(pixel_values=values)
        states = nn.functional.normalize(getattr(found, "pooler_output", found).float(), dim=-1)
        logits = _logits(model, states, text_states)
        return [
            row[[texts[text.tobytes()] for text in example.texts]].softmax(-1).tolist()
            for example, row in zip(examples, logits, strict=True)
        ]

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Means over the images of a split."""
        return {
            "loss": sums["loss"] / sums["targets"],
            "recall_at_1": sums["first"] / sums["targets"],
            "recall_at_5": sums["among_five"] / sums["targets"],
            "zero_shot_accuracy": sums["zero_shot"] / sums["targets"],
        }

    def _embedded(self, model: TrainableModel, texts: Sequence[NDArray[np.int32]]) -> tuple[dict[bytes, int], Tensor]:
        distinct = list({text.tobytes(): text for text in texts}.values())
        states = []
        for start in range(0, len(distinct), TEXTS_AT_ONCE):
            with model.autocast():
                found = model.base.get_text_features(**self._padded(distinct[start : start + TEXTS_AT_ONCE]))
            pooled = getattr(found, "pooler_output", found)
            states.append(nn.functional.normalize(pooled.float(), dim=-1))
        return {text.tobytes(): number for number, text in enumerate(distinct)}, torch.cat(states)

    def _padded(self, texts: Sequence[NDArray[np.int32]]) -> dict[str, Tensor]:
        return padded(texts, pad_id=self.pad_id, device=self.device)


def _logits(model: TrainableModel, images: Tensor, texts: Tensor) -> Tensor:
    """[images, texts] of states of length 1."""
    return model.base.logit_scale.exp().float() * images @ texts.T


class ImageTextContrast(TaskDefinition):
    """Which text belongs to which image."""

    metric_names = ("loss", "recall_at_1", "recall_at_5", "zero_shot_accuracy")
    formats = ("imageText",)
    auto_model = AutoModel
    auto_processor = "AutoProcessor"
    processor_name = "processor"
    pipeline_tag = "zero-shot-image-classification"
    has_new_head = False

    def load_processor(self, directory: Path) -> Any:
        """Image processor and tokenizer."""
        try:
            return AutoProcessor.from_pretrained(
                directory, backend="pil", local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise TrainerError(
                TrainerReason.MODEL_INVALID, f"The model's processor cannot be loaded: {error}"
            ) from error

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> PairEncoder:
        """Texts cut to what the model can read."""
        del labels
        settings = config.task.image_text_matching or ImageTextMatching()
        if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
            raise TrainerError(
                TrainerReason.MODEL_INVALID, "imageTextMatching needs a model of images and texts, for example CLIP."
            )
        length = min(config.data.max_sequence_length, processor.tokenizer.model_max_length)
        tokens = image_tokens(processor.image_processor, directory)
        return PairEncoder(processor.tokenizer, length, tokens, settings.zero_shot_prompt)

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Any]) -> tuple[Task, str]:
        """Pairs; small micro batches have few texts to tell an image apart from."""
        del train
        if not all(hasattr(model.base, name) for name in ("get_text_features", "logit_scale")):
            raise TrainerError(
                TrainerReason.MODEL_INVALID,
                f"imageTextMatching needs a two-tower model such as CLIP; got {type(model.base).__name__}.",
            )
        few = config.training.micro_batch_size
        warning = (
            f"With `training.microBatchSize: {few}`, each image is told apart from {few - 1} other texts at a time."
            if few and few < config.training.global_batch_size
            else ""
        )
        return Contrast(model.device, model.tokenizer.tokenizer.pad_token_id or 0, model.tokenizer), warning

    def show(self, example: PairInput, processor: Any) -> list[tuple[bool, str]]:
        """The text; the image beside it."""
        return [(False, "an image"), (True, processor.tokenizer.decode(example.ids))]
