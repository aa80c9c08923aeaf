"""Answers that a language model writes while it is measured, compared with the references by ROUGE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.tasks import WrittenAnswers
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.reporting.answers import write_answers
from trimtab_trainer.tasks.language_modeling import CausalLanguageModeling, LanguageBatch, LanguageModeling
from trimtab_trainer.tasks.rouge import rouge
from trimtab_trainer.tasks.task import Sums, Task

METRICS = ("rouge_1", "rouge_2", "rouge_l")


@dataclass(frozen=True)
class ComparedBatch(LanguageBatch):
    """A micro batch with the examples that it is made of."""

    examples: tuple[Encoded, ...] = ()


@dataclass
class WritingLanguageModeling(LanguageModeling):
    """The next token; while it is measured, the model also answers some examples of the split by itself, greedily."""

    settings: WrittenAnswers | None = None
    stop_ids: tuple[int, ...] = ()
    chosen: frozenset[bytes] = frozenset()
    """Digests of the examples of the split at hand that are answered."""

    @classmethod
    def of(
        cls, plain: LanguageModeling, settings: WrittenAnswers, stop_ids: Sequence[int]
    ) -> "WritingLanguageModeling":
        """The same task, with answers."""
        known = {field.name: getattr(plain, field.name) for field in fields(plain)}
        return cls(**known, settings=settings, stop_ids=tuple(stop_ids))

    def begin_measuring(self, model: TrainableModel, examples: Sequence[Encoded]) -> None:
        """Choose by a hash of what the examples say: the same ones in every run and on every process."""
        del model
        limit = self.settings.examples if self.settings else 0
        asked = {_digest(example) for example in examples if prompt_length(example)}
        self.chosen = frozenset(sorted(asked)[:limit])

    def collate(self, examples: Sequence[Encoded]) -> LanguageBatch:
        """Likewise."""
        plain = super().collate(examples)
        known = {field.name: getattr(plain, field.name) for field in fields(plain)}
        return ComparedBatch(**known, examples=tuple(examples))

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: LanguageBatch) -> Sums:
        """Counts, with the sums of the answers' scores."""
        sums = super().measure(model, batch) | dict.fromkeys(("answered", *METRICS), 0.0)
        examples = batch.examples if isinstance(batch, ComparedBatch) else ()
        asked = [example for example in examples if _digest(example) in self.chosen]
        for example, answer in zip(asked, self._answers(model, asked), strict=True):
            sums["answered"] += 1
            for name, value in rouge(answer, _reference(model.tokenizer, example)).items():
                sums[name] += value
        return sums

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Likewise, with the means of the scores; without them where no example of the split asks anything."""
        found = super().metrics(sums)
        if sums.get("answered"):
            found |= {name: sums[name] / sums["answered"] for name in METRICS}
        return found

    def _answers(self, model: TrainableModel, examples: Sequence[Encoded]) -> list[str]:
        if not examples or self.settings is None:
            return []
        prompts = [example.ids[: prompt_length(example)].tolist() for example in examples]
        return write_answers(model, prompts, stop_ids=self.stop_ids, maximum_tokens=self.settings.max_new_tokens)


def prompt_length(example: Encoded) -> int:
    """Tokens before the last answer; 0 where nothing is asked (raw text), or the answer is not whole."""
    places = np.flatnonzero(example.supervised)
    if example.cut or not len(places):
        return 0
    gaps = np.flatnonzero(np.diff(places) > 1)
    start = int(places[gaps[-1] + 1] if len(gaps) else places[0])
    return start if start > 1 else 0


def _reference(tokenizer: Any, example: Encoded) -> str:
    start = prompt_length(example)
    answer = example.ids[start:][example.supervised[start:]]
    return str(tokenizer.decode(answer, skip_special_tokens=True))


def _digest(example: Encoded) -> bytes:
    return sha256(example.ids.tobytes()).digest()


class AnsweringLanguageModels(CausalLanguageModeling):
    """Conversations, completions and raw text, with answers where the task asks for them."""

    def metrics_of(self, config: RunConfig) -> Sequence[str]:
        """ROUGE where something is written."""
        return [*self.metric_names, *(METRICS if settings_of(config) else ())]

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Encoded]) -> tuple[Task, str]:
        """The plain task, unless answers are asked for."""
        task, warning = super().make(config, model, train)
        settings = settings_of(config)
        if settings is None or not isinstance(task, LanguageModeling):
            return task, warning
        if not any(map(prompt_length, train)):
            raise TrainerError(
                TrainerReason.DATASET_INVALID,
                "`task.causalLanguageModeling.writtenAnswers` needs examples with a prompt and a whole answer, and the data has none. "
                "Use the format messages or promptCompletion, raise `data.maxSequenceLength`, or leave it out.",
            )
        return WritingLanguageModeling.of(task, settings, stops_of(model)), warning


def settings_of(config: RunConfig) -> WrittenAnswers | None:
    """What the task says about answers."""
    task = config.task.causal_language_modeling
    return task.written_answers if task is not None else None


def stops_of(model: TrainableModel) -> tuple[int, ...]:
    """The tokens at which the model's answers end: its tokenizer's EOS and those of its generation settings."""
    found = model.base.generation_config.eos_token_id
    several = found if isinstance(found, list) else [found]
    return tuple(sorted({model.tokenizer.eos_token_id, *(token for token in several if isinstance(token, int))}))
