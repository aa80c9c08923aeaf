"""Task tokenClassification: one tag a word, at the word's first token; entity-level F1 as seqeval computes it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import TaskType
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.annotations import Tagged
from trimtab_trainer.data.formats import Example
from trimtab_trainer.data.labels import LabelNumbers
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.entities import entities
from trimtab_trainer.tasks.padding import padded
from trimtab_trainer.tasks.scores import precision_recall_f1
from trimtab_trainer.tasks.sequence_classification import choose_labels
from trimtab_trainer.tasks.task import Sums, Task

Span = tuple[int, int]
"""First character, and the one after the last."""
IGNORED = -100
"""Of tokens that carry no tag: special ones, and all but the first of each word."""


@dataclass(frozen=True, slots=True)
class TaggedInput:
    """A text whose words are tagged."""

    ids: NDArray[np.int32]
    tags: NDArray[np.int64]
    """[length]: index of the tag at the first token of each word, else IGNORED."""
    cut: bool
    words: tuple[int, ...] = ()
    """The words that are seen, in the order of their tokens."""

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.ids)

    @property
    def targets(self) -> int:
        """Words that are seen."""
        return int((self.tags != IGNORED).sum())

    @property
    def is_learnable(self) -> bool:
        """At least one word is seen."""
        return self.targets > 0


@dataclass(frozen=True)
class TagEncoder:
    """Words to tokens. They are joined by spaces first: a server tokenises whole sentences too."""

    tokenizer: Any
    max_length: int
    labels: tuple[str, ...]

    def encode(self, examples: Iterable[Example]) -> list[TaggedInput]:
        """All examples in their order.

        Raises:
            TrainerError: DatasetInvalid naming the first row with an unknown tag.
        """
        numbers = LabelNumbers(self.labels)
        return [self._encode(example.place, example.content, numbers) for example in examples]

    def encode_words(self, text: str, spans: Sequence[Span]) -> TaggedInput:
        """A text whose tags nobody knows yet."""
        return self._encode_words(text, spans, [0] * len(spans))

    def _encode(self, place: str, content: Any, numbers: LabelNumbers) -> TaggedInput:
        return self._encode_words(*join_words(content.tokens), [numbers.of(tag, place) for tag in content.tags])

    def _encode_words(self, text: str, spans: Sequence[Span], known: Sequence[int]) -> TaggedInput:
        encoding = self.tokenizer(text, truncation=True, max_length=self.max_length, return_offsets_mapping=True)
        words = first_tokens(spans, encoding.offset_mapping)
        tags: NDArray[np.int64] = np.full(len(encoding.input_ids), IGNORED, np.int64)
        for word, token in words.items():
            tags[token] = known[word]
        seen = sum(bool(text[start:end].strip()) for start, end in spans)
        return TaggedInput(np.asarray(encoding.input_ids, np.int32), tags, cut=len(words) < seen, words=tuple(words))


def join_words(words: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """The words as one text, and where each of them stands."""
    starts = [0, *accumulate(len(word) + 1 for word in words)]
    return " ".join(words), tuple((start, start + len(word)) for start, word in zip(starts, words, strict=False))


def split_words(text: str) -> tuple[Span, ...]:
    """Where the words of a running text stand: punctuation before and after a word is one by itself, as in annotated data."""
    return tuple(found.span() for found in _WORDS.finditer(text))


_WORDS = re.compile(r"\w(?:\S*\w)?|[^\w\s]")


def first_tokens(words: Sequence[Span], offsets: Sequence[Span]) -> dict[int, int]:
    """Where each word begins: `{word: token}`, in the order of the tokens. Both are given by their characters in the text."""
    owner = {character: word for word, (start, end) in enumerate(words) for character in range(start, end)}
    found: dict[int, int] = {}
    for token, (start, end) in enumerate(offsets):
        # A token's last character tells its word: byte-level tokens begin with the space before the word.
        word = owner.get(end - 1) if end > start else None
        if word is not None:
            found.setdefault(word, token)
    return found


@dataclass(frozen=True)
class TaggedBatch:
    """A micro batch."""

    inputs: dict[str, Tensor]
    tags: Tensor
    """[rows, tokens]; IGNORED where there is no tag."""


@dataclass
class TokenClassification:
    """One tag a word."""

    device: torch.device
    pad_id: int
    labels: tuple[str, ...]

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return "padded rows of like lengths"

    def targets(self, example: TaggedInput) -> int:
        """Words."""
        return example.targets

    def collate(self, examples: Sequence[TaggedInput]) -> TaggedBatch:
        """Pad to the longest example."""
        inputs = padded([example.ids for example in examples], pad_id=self.pad_id, device=self.device)
        tags = torch.full(inputs["input_ids"].shape, IGNORED)
        for row, example in enumerate(examples):
            tags[row, : example.length] = torch.from_numpy(example.tags)
        return TaggedBatch(inputs, tags.to(self.device))

    def loss(self, model: TrainableModel, batch: TaggedBatch) -> Tensor:
        """Sum of the cross-entropies of the words."""
        return _loss(self.logits(model, batch), batch.tags)

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: TaggedBatch) -> Sums:
        """Loss, words and right words; entities that are right, predicted and true."""
        logits, seen = self.logits(model, batch), batch.tags != IGNORED
        sums = {
            "loss": float(_loss(logits, batch.tags)),
            "targets": float(seen.sum()),
            "correct": 0.0,
            "right": 0.0,
            "predicted": 0.0,
            "true": 0.0,
        }
        for row, predicted in enumerate(self._tags(logits, batch)):
            guessed = [tag for tag, _ in predicted]
            truths = [self.labels[tag] for tag in batch.tags[row][seen[row]].tolist()]
            found, expected = entities(guessed), entities(truths)
            sums["correct"] += sum(map(str.__eq__, guessed, truths))
            sums["right"] += len(found & expected)
            sums["predicted"] += len(found)
            sums["true"] += len(expected)
        return sums

    @torch.no_grad()
    def answer(self, model: TrainableModel, examples: Sequence[TaggedInput]) -> list[list[tuple[str, float]]]:
        """The tag of each word that is seen, with its probability."""
        batch = self.collate(examples)
        return self._tags(self.logits(model, batch), batch)

    def _tags(self, logits: Tensor, batch: TaggedBatch) -> list[list[tuple[str, float]]]:
        probabilities, tags = logits.softmax(-1).max(-1)
        rows = zip(tags, probabilities, batch.tags != IGNORED, strict=True)
        return [
            [(self.labels[tag], share) for tag, share in zip(tag[seen].tolist(), share[seen].tolist(), strict=True)]
            for tag, share, seen in rows
        ]

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Mean loss and accuracy of words; precision, recall and F1 of whole entities over all types together."""
        precision, recall, f1 = precision_recall_f1(sums["right"], sums["predicted"], sums["true"])
        return {
            "loss": sums["loss"] / sums["targets"],
            "accuracy": sums["correct"] / sums["targets"],
            "precision": precision,
            "recall": recall,
            "f1": f1,
        }

    def logits(self, model: TrainableModel, batch: TaggedBatch) -> Tensor:
        """[rows, tokens, tags] in float32."""
        with model.autocast():
            logits: Tensor = model.module(**batch.inputs).logits.float()
        return logits[:, -batch.tags.shape[1] :]  # trained embeddings before the text have no tags


def _loss(logits: Tensor, tags: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=IGNORED, reduction="sum")


class WordTagging(TaskDefinition):
    """Named entities, parts of speech: one tag for each word."""

    metric_names = ("loss", "accuracy", "precision", "recall", "f1")
    formats = ("tagged",)
    auto_model = AutoModelForTokenClassification
    pipeline_tag = "token-classification"
    has_fixed_inputs = True
    peft_task_type = TaskType.TOKEN_CLS
    has_labels = True

    def labels(self, config: RunConfig, examples: Sequence[Example]) -> tuple[str, ...]:
        """As the user states them, or the sorted tags of the training split."""
        task = config.task.token_classification
        found = {tag for one in examples if isinstance(one.content, Tagged) for tag in one.content.tags}
        return choose_labels(task.labels if task else (), found)

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> TagEncoder:
        """Words joined by spaces, cut to the limit."""
        del directory
        check_offsets(processor)
        return TagEncoder(processor, config.data.max_sequence_length, labels)

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Any]) -> tuple[Task, str]:
        """Padded rows of like lengths."""
        del config, train
        return TokenClassification(model.device, model.tokenizer.pad_token_id, model.labels), ""

    def show(self, example: TaggedInput, processor: Any) -> list[tuple[bool, str]]:
        """Tokens; those that carry a tag carry loss."""
        return [
            (tag != IGNORED, processor.decode([token]))
            for token, tag in zip(example.ids.tolist(), example.tags.tolist(), strict=True)
        ]


def check_offsets(tokenizer: Any) -> None:
    """The task needs to know where tokens stand in the text.

    Raises:
        TrainerError: ModelInvalid for tokenizers that cannot say it.
    """
    if not tokenizer.is_fast:
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            "The model's tokenizer cannot say which characters a token stands for. Give a model with a tokenizer.json.",
        )
