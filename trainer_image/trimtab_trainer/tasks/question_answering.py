"""Task questionAnswering: the span of a context that answers a question; long contexts in windows that overlap."""

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import TaskType
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.tasks import QuestionAnswering
from trimtab_trainer.data.formats import Example
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.padding import padded
from trimtab_trainer.tasks.scores import ratio
from trimtab_trainer.tasks.task import Sums, Task
from trimtab_trainer.tasks.token_classification import check_offsets

NO_ANSWER = 0
"""The first token stands for "the answer is not here" (Devlin et al., 2018, arXiv:1810.04805)."""
MIN_CONTEXT = 8
"""Tokens of context that every window must have room for."""


@dataclass(frozen=True, slots=True)
class Window:
    """A question and a part of its context."""

    ids: NDArray[np.int32]
    types: NDArray[np.int32]
    """0 for the question, 1 for the context: `token_type_ids`."""
    offsets: NDArray[np.int32]
    """[length, 2]: characters in the context; -1 outside of it."""
    start: int
    """First token of the answer; NO_ANSWER where it is not whole in this window."""
    end: int
    """Last token of the answer."""


@dataclass(frozen=True, slots=True)
class QuestionInput:
    """A question with all windows of its context: they are learned and answered together."""

    windows: tuple[Window, ...]
    context: str
    answers: tuple[str, ...]
    is_learnable: bool

    cut = False

    @property
    def length(self) -> int:
        """Tokens of all windows."""
        return len(self.windows) * max(len(window.ids) for window in self.windows)

    @property
    def targets(self) -> int:
        """Windows."""
        return len(self.windows)


@dataclass(frozen=True, slots=True)
class Answer:
    """A span of a context."""

    text: str
    """"" where the model says that the context has no answer."""
    start: int
    """Its first character in the context."""
    end: int
    """The one after its last."""
    score: float
    """Probability of its first token times that of its last one, within their window."""


@dataclass(frozen=True)
class QuestionEncoder:
    """Questions and contexts to windows."""

    tokenizer: Any
    max_length: int
    settings: QuestionAnswering

    def encode(self, examples: Iterable[Example]) -> list[QuestionInput]:
        """All examples in their order; without `unanswerable`, those without an answer cannot be learned from."""
        return [self._encode(example.place, example.content) for example in examples]

    def _encode(self, place: str, content: Any) -> QuestionInput:
        windows = self.windows(content.question, content.context, content.answers[:1], place)
        return QuestionInput(
            tuple(windows),
            content.context,
            tuple(text for text, _ in content.answers),
            is_learnable=self.settings.unanswerable or any(window.start != NO_ANSWER for window in windows),
        )

    def encode_question(self, question: str, context: str) -> QuestionInput:
        """A question whose answer nobody knows yet.

        Raises:
            TrainerError: DatasetInvalid where the question leaves no room for the context.
        """
        return QuestionInput(tuple(self.windows(question, context)), context, (), is_learnable=False)

    def windows(
        self, question: str, context: str, answer: Sequence[tuple[str, int]] = (), place: str = "request"
    ) -> list[Window]:
        """The context in pieces that fit, neighbours sharing `stride` tokens.

        Raises:
            TrainerError: DatasetInvalid where the question leaves no room for the context.
        """
        room = self.max_length - len(self.tokenizer(question, "").input_ids)
        if room < MIN_CONTEXT:
            raise TrainerError(
                TrainerReason.DATASET_INVALID,
                f"{place}: the question leaves {max(room, 0)} of `maxSequenceLength` ({self.max_length}) tokens for the "
                f"context; at least {MIN_CONTEXT} are needed.",
            )
        encoding = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=self.max_length,
            stride=min(self.settings.stride, room // 2),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        return [self._window(encoding, number, answer) for number in range(len(encoding.input_ids))]

    def _window(self, encoding: Any, number: int, answer: Sequence[tuple[str, int]]) -> Window:
        is_context = np.array([part == 1 for part in encoding.sequence_ids(number)])
        offsets = np.where(is_context[:, None], np.asarray(encoding.offset_mapping[number]), -1).astype(np.int32)
        start, end = _tokens_of(answer[0], offsets) if answer else (NO_ANSWER, NO_ANSWER)
        return Window(
            np.asarray(encoding.input_ids[number], np.int32), is_context.astype(np.int32), offsets, start, end
        )


def _tokens_of(answer: tuple[str, int], offsets: NDArray[np.int32]) -> tuple[int, int]:
    """First and last token of an answer, if the window has all of it."""
    first, last = answer[1], answer[1] + len(answer[0]) - 1
    holds_first = np.flatnonzero((offsets[:, 0] <= first) & (first < offsets[:, 1]))
    holds_last = np.flatnonzero((offsets[:, 0] <= last) & (last < offsets[:, 1]))
    if not len(holds_first) or not len(holds_last):
        return NO_ANSWER, NO_ANSWER
    return int(holds_first[0]), int(holds_last[-1])


@dataclass(frozen=True)
class QuestionBatch:
    """A micro batch of windows."""

    inputs: dict[str, Tensor]
    starts: Tensor
    """[windows]"""
    ends: Tensor
    questions: tuple[QuestionInput, ...]
    """In the order of their windows."""


@dataclass
class SpanPrediction:
    """Where the answer begins and where it ends, each a choice among the tokens."""

    device: torch.device
    pad_id: int
    settings: QuestionAnswering
    has_types: bool
    """The model reads `token_type_ids`."""

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return "padded windows of like lengths"

    def targets(self, example: QuestionInput) -> int:
        """Windows."""
        return example.targets

    def collate(self, examples: Sequence[QuestionInput]) -> QuestionBatch:
        """The windows of all questions, padded to the longest."""
        windows = [window for example in examples for window in example.windows]
        inputs = padded([window.ids for window in windows], pad_id=self.pad_id, device=self.device)
        if self.has_types:
            types = padded([window.types for window in windows], pad_id=0, device=self.device)
            inputs["token_type_ids"] = types["input_ids"]
        return QuestionBatch(
            inputs,
            torch.tensor([window.start for window in windows], device=self.device),
            torch.tensor([window.end for window in windows], device=self.device),
            tuple(examples),
        )

    def loss(self, model: TrainableModel, batch: QuestionBatch) -> Tensor:
        """Sum over the windows of the mean cross-entropy of start and end."""
        starts, ends = self.logits(model, batch)
        return _loss(starts, ends, batch)

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: QuestionBatch) -> Sums:
        """Loss of the windows; exact matches and F1 of the questions."""
        starts, ends = self.logits(model, batch)
        sums = {"loss": float(_loss(starts, ends, batch)), "targets": float(len(starts)), "exact": 0.0, "f1": 0.0}
        at = 0
        for question in batch.questions:
            count = len(question.windows)
            found = best_answer(question, starts[at : at + count], ends[at : at + count], self.settings).text
            at += count
            answers = question.answers or ("",)
            sums["exact"] += max(float(normalised(found) == normalised(answer)) for answer in answers)
            sums["f1"] += max(word_f1(found, answer) for answer in answers)
        return {**sums, "questions": float(len(batch.questions))}

    @torch.no_grad()
    def answer(self, model: TrainableModel, examples: Sequence[QuestionInput]) -> list[Answer]:
        """The best answer to each question."""
        starts, ends = self.logits(model, self.collate(examples))
        counts = [len(example.windows) for example in examples]
        return [
            best_answer(example, start, end, self.settings)
            for example, start, end in zip(examples, starts.split(counts), ends.split(counts), strict=True)
        ]

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Means over windows and questions."""
        return {
            "loss": sums["loss"] / sums["targets"],
            "exact_match": sums["exact"] / sums["questions"],
            "f1": sums["f1"] / sums["questions"],
        }

    def logits(self, model: TrainableModel, batch: QuestionBatch) -> tuple[Tensor, Tensor]:
        """Starts and ends, each [windows, tokens] in float32; padding is no choice."""
        with model.autocast():
            output = model.module(**batch.inputs)
        padding = batch.inputs["attention_mask"] == 0
        # Trained embeddings before the text are no choice either.
        return tuple(
            logits[:, -padding.shape[1] :].float().masked_fill(padding, torch.finfo(torch.float32).min)
            for logits in (output.start_logits, output.end_logits)
        )


def _loss(starts: Tensor, ends: Tensor, batch: QuestionBatch) -> Tensor:
    start_loss = nn.functional.cross_entropy(starts, batch.starts, reduction="sum")
    return (start_loss + nn.functional.cross_entropy(ends, batch.ends, reduction="sum")) / 2


def best_answer(question: QuestionInput, starts: Tensor, ends: Tensor, settings: QuestionAnswering) -> Answer:
    """The likeliest span of all windows of a question; "" where the model may say, and says, that there is none.

    `starts` and `ends` are [windows, tokens].
    """
    best, answer, nothing, refusal = -math.inf, Answer("", 0, 0, 0.0), math.inf, 0.0
    for window, start, end in zip(question.windows, starts.cpu(), ends.cpu(), strict=True):
        length = len(window.ids)
        in_context = torch.from_numpy(window.offsets[:, 0] >= 0)
        scores = start[:length, None] + end[None, :length]
        allowed = (in_context[:, None] & in_context[None]).triu().tril(settings.max_answer_length - 1)
        scores = scores.masked_fill(~allowed, -math.inf)
        place = int(scores.argmax())
        score = float(scores.flatten()[place])
        # The softmax of both ends: what each logit is a share of.
        whole = float(start[:length].logsumexp(0) + end[:length].logsumexp(0))
        no_answer = float(start[NO_ANSWER] + end[NO_ANSWER])
        if no_answer < nothing:
            nothing, refusal = no_answer, math.exp(no_answer - whole)
        if score > best:
            first, last = divmod(place, length)
            begin, stop = int(window.offsets[first, 0]), int(window.offsets[last, 1])
            best, answer = score, Answer(question.context[begin:stop], begin, stop, math.exp(score - whole))
    return Answer("", 0, 0, refusal) if settings.unanswerable and nothing > best else answer


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """SQuAD's official normalisation: lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def word_f1(found: str, expected: str) -> float:
    """SQuAD's F1: harmonic mean of the shares of words that both have."""
    left, right = normalised(found).split(), normalised(expected).split()
    if not left or not right:
        return float(left == right)
    shared = sum((Counter(left) & Counter(right)).values())
    return ratio(2 * shared, len(left) + len(right))


class ExtractiveQuestionAnswering(TaskDefinition):
    """The span of a context that answers a question."""

    metric_names = ("loss", "exact_match", "f1")
    formats = ("questionAnswers",)
    auto_model = AutoModelForQuestionAnswering
    pipeline_tag = "question-answering"
    has_fixed_inputs = True
    peft_task_type = TaskType.QUESTION_ANS

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> QuestionEncoder:
        """Windows of at most maxSequenceLength tokens."""
        del directory, labels
        check_offsets(processor)
        return QuestionEncoder(processor, config.data.max_sequence_length, _settings(config))

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Any]) -> tuple[Task, str]:
        """Padded windows."""
        del train
        has_types = getattr(model.base.config, "type_vocab_size", 1) > 1
        return SpanPrediction(model.device, model.tokenizer.pad_token_id, _settings(config), has_types), ""

    def data_warnings(self, encoder: Any, train: Sequence[QuestionInput]) -> list[str]:
        """Answers that no window holds whole."""
        del encoder
        lost = sum(bool(one.answers) and all(window.start == NO_ANSWER for window in one.windows) for one in train)
        if not lost:
            return []
        return [f"{lost} of {len(train)} train examples have an answer that no window holds whole: raise `stride`."]

    def show(self, example: QuestionInput, processor: Any) -> list[tuple[bool, str]]:
        """The window with the answer; the answer carries loss."""
        window = next((one for one in example.windows if one.start != NO_ANSWER), example.windows[0])
        ids, first, last = window.ids.tolist(), window.start, window.end + 1
        pieces = [(False, ids[:first]), (True, ids[first:last]), (False, ids[last:])]
        return [(carries, processor.decode(piece)) for carries, piece in pieces if piece]


def _settings(config: RunConfig) -> QuestionAnswering:
    return config.task.question_answering or QuestionAnswering()
