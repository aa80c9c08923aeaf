"""Objectives dpo and orpo: the answer that people chose becomes likelier than the one they rejected."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trimtab_trainer.contract.objectives import Dpo
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import DataFormat
from trimtab_trainer.data.encoded import Encoded, Pair
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.pair_encoding import PairEncoder
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.reference import Reference
from trimtab_trainer.tasks.definition import Encoder
from trimtab_trainer.tasks.language_modeling import (
    CausalLanguageModeling,
    LanguageBatch,
    LanguageModeling,
    check_end_token,
    choose_layout,
    stop_ids,
)
from trimtab_trainer.tasks.task import Sums, Task


@dataclass(frozen=True)
class Answers:
    """Log-probabilities of some pairs' answers, given their prompts."""

    chosen: Tensor
    """[pairs]: summed over the answer's tokens."""
    rejected: Tensor
    chosen_tokens: Tensor
    """[pairs]: tokens of the answer."""
    rejected_tokens: Tensor

    @property
    def log_ratios(self) -> Tensor:
        """[pairs]: how much likelier the chosen answer is."""
        return self.chosen - self.rejected

    @property
    def chosen_mean(self) -> Tensor:
        """[pairs]: per token."""
        return self.chosen / self.chosen_tokens

    @property
    def rejected_mean(self) -> Tensor:
        """[pairs]: per token."""
        return self.rejected / self.rejected_tokens


@dataclass(frozen=True)
class Judgement:
    """What a preference loss says of some pairs."""

    losses: Tensor
    """[pairs]."""
    margins: Tensor
    """[pairs]: by how much the chosen answer is preferred, on the scale of implicit rewards."""


PreferenceLoss = Callable[[Answers, Answers | None], Judgement]
"""Of the policy's answers and the reference's, if there is one."""


def dpo_loss(settings: Dpo) -> PreferenceLoss:
    """Equation 7 of arXiv:2305.18290 (with label smoothing as in its section on conservative DPO), or equation 17 of arXiv:2310.12036.

    The same as TRL's `loss_type` `sigmoid` and `ipo`.
    """

    def judge(policy: Answers, reference: Answers | None) -> Judgement:
        if reference is None:
            raise TypeError("DPO needs a reference")
        if settings.loss_type == "ipo":
            of_policy = policy.chosen_mean - policy.rejected_mean
            margins = of_policy - (reference.chosen_mean - reference.rejected_mean)
            return Judgement((margins - 1 / (2 * settings.beta)) ** 2, settings.beta * margins)
        margins = settings.beta * (policy.log_ratios - reference.log_ratios)
        wrong = settings.label_smoothing
        return Judgement(-(1 - wrong) * logsigmoid(margins) - wrong * logsigmoid(-margins), margins)

    return judge


def orpo_loss(beta: float) -> PreferenceLoss:
    """Equation 6 of arXiv:2403.07691, with the cross-entropy over the answer."""

    def judge(policy: Answers, _: Answers | None) -> Judgement:
        chosen, rejected = policy.chosen_mean, policy.rejected_mean
        log_odds = chosen - rejected - (_log_complement(chosen) - _log_complement(rejected))
        return Judgement(-chosen - beta * logsigmoid(log_odds), beta * (chosen - rejected))

    return judge


def _log_complement(log_probability: Tensor) -> Tensor:
    """The log of 1 - p."""
    return torch.log1p(-torch.exp(log_probability.clamp(max=-1e-6)))


@dataclass
class PreferenceOptimization:
    """Pairs of answers, each with its prompt before it."""

    language: LanguageModeling
    judge: PreferenceLoss
    reference: Reference | None

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return f"pairs, {self.language.layout}"

    @property
    def pads(self) -> bool:
        """As the language model lays its sequences."""
        return self.language.pads

    def targets(self, example: Encoded) -> int:
        """Every pair weighs the same."""
        return int(example.is_learnable)

    def collate(self, examples: Sequence[Encoded]) -> LanguageBatch:
        """All chosen sequences, then all rejected ones."""
        pairs = [example for example in examples if isinstance(example, Pair)]
        return self.language.collate([*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)])

    def loss(self, model: TrainableModel, batch: LanguageBatch) -> Tensor:
        """Sum over the pairs."""
        return self.judgement(model, batch).losses.sum()

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: LanguageBatch) -> Sums:
        """Losses, right choices and margins."""
        found = self.judgement(model, batch)
        return {
            "targets": float(len(found.losses)),
            "loss": float(found.losses.sum()),
            "right": float((found.margins > 0).sum()),
            "margin": float(found.margins.sum()),
        }

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Means over the pairs; `accuracy` is the share of pairs whose chosen answer is preferred."""
        return pair_metrics(sums)

    def judgement(self, model: TrainableModel, batch: LanguageBatch) -> Judgement:
        """The reference first: it borrows the model's weights."""
        reference = None
        if self.reference is not None:
            with self.reference.in_place(model):
                reference = self.answers(model, batch)
        return self.judge(self.answers(model, batch), reference)

    def answers(self, model: TrainableModel, batch: LanguageBatch) -> Answers:
        """How likely the model finds them."""
        by_token = self.language.log_probabilities(model, batch)
        sums = torch.stack([of_answer.sum() for of_answer in by_token.split(batch.counts)])
        tokens = torch.tensor(batch.counts, device=sums.device, dtype=sums.dtype)
        pairs = len(batch.counts) // 2
        return Answers(sums[:pairs], sums[pairs:], tokens[:pairs], tokens[pairs:])


def pair_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """Of sums over pairs."""
    return {
        "loss": sums["loss"] / sums["targets"],
        "accuracy": sums["right"] / sums["targets"],
        "margin": sums["margin"] / sums["targets"],
    }


def pair_encoder(config: RunConfig, directory: Path, tokenizer: Any) -> PairEncoder:
    """Pairs as a language model would write them; only the answer that is compared counts."""
    check_end_token(tokenizer)
    limit, stops = config.data.max_sequence_length, stop_ids(directory, tokenizer)
    return PairEncoder(TextEncoder(tokenizer, limit, stop_ids=stops, only_last_answer=True))


class PreferencesOfLanguageModels(CausalLanguageModeling):
    """Dpo and orpo."""

    metric_names = ("loss", "accuracy", "margin")
    formats: tuple[DataFormat, ...] = ("preference",)
    packs = False
    smooths_labels = False
    has_fixed_inputs = False
    learning_rate_divisor = 10.0

    def data_warnings(self, encoder: Any, train: Sequence[Any]) -> list[str]:
        """Nothing that the summary of the data does not say."""
        del encoder, train
        return []

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> Encoder:
        """Both answers with their prompt."""
        del labels
        return pair_encoder(config, directory, processor)

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Encoded]) -> tuple[Task, str]:
        """DPO compares with the model as it is now."""
        language, warning = choose_layout(model, [pair.chosen for pair in train if isinstance(pair, Pair)])
        if config.objective.dpo is not None:
            return PreferenceOptimization(language, dpo_loss(config.objective.dpo), Reference.of(model)), warning
        beta = config.objective.orpo.beta if config.objective.orpo else 0.0
        return PreferenceOptimization(language, orpo_loss(beta), None), warning
