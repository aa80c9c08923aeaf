"""Objectives grpo and rloo: the model answers prompts, rewards judge, and better answers than usual become likelier."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.objectives import FromRewards
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import DataFormat
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Example
from trimtab_trainer.data.prompt_encoding import EncodedPrompt, PromptEncoder
from trimtab_trainer.data.prompts import Prompt
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.policy_losses import PolicyLoss, Rollout, divergences, grpo_loss, rloo_loss
from trimtab_trainer.objectives.reference import Reference
from trimtab_trainer.objectives.rewards.model import load_reward_model
from trimtab_trainer.objectives.rewards.rules import columns_needed
from trimtab_trainer.objectives.rewards.scorer import Scorer, Worth
from trimtab_trainer.objectives.sampling import Sampled, Sampler, sequence_of
from trimtab_trainer.store.object_store import ObjectStore
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
from trimtab_trainer.tasks.written_answers import stops_of

TOLD = ("samples", "groups", "reward", "contrastless", "answer_tokens", "finished", "divergence", "tokens")
"""What is counted while answers are drawn, beside each term of the reward."""


@dataclass(frozen=True)
class PromptBatch:
    """Prompts to be answered."""

    prompts: tuple[EncodedPrompt, ...]


@dataclass
class Answering:
    """What objectives share that sample: batches of prompts, and the reward of held-out ones."""

    language: LanguageModeling
    sampler: Sampler
    settings: FromRewards
    reference: Reference | None
    scorer: Scorer
    seed: int
    sums: Sums = field(default_factory=dict)
    """Counts of the answers drawn since they were last taken."""

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return f"{self.settings.samples_per_prompt} answers a prompt, {self.language.layout}"

    def targets(self, example: EncodedPrompt) -> int:
        """Every prompt weighs the same."""
        return int(example.is_learnable)

    def collate(self, examples: Sequence[EncodedPrompt]) -> PromptBatch:
        """As they are."""
        return PromptBatch(tuple(examples))

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: PromptBatch) -> Sums:
        """One answer to each prompt. The same weights draw the same answers whenever they are asked."""
        self.seed_by(batch.prompts)
        drawn = self.sampler.draw(model, batch.prompts, count=1)
        sums = self.count(drawn, self.scorer.score([one.answer for one in drawn]))
        if self.reference is not None and model.trainable:
            sequences = self.sequences(drawn)
            with self.reference.in_place(model):
                reference = self.log_probabilities(model, sequences)
            by_token = divergences(self.log_probabilities(model, sequences), reference)
            sums["divergence"] = float(by_token.sum())
        return sums

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Means over the answers; `loss` is the negative reward, so that less is better."""
        samples = sums["samples"]
        found = {"loss": -sums["reward"] / samples, "reward": sums["reward"] / samples}
        found |= {f"reward_{name}": sums[f"reward_{name}"] / samples for name in self.scorer.names}
        found |= {"answer_tokens": sums["answer_tokens"] / samples, "finished": sums["finished"] / samples}
        return found if self.reference is None else found | {"kl": sums["divergence"] / samples}

    def take_sums(self) -> Sums:
        """The counts since the last time, with the same names on every process."""
        taken, self.sums = self.sums, {}
        return {name: taken.get(name, 0.0) for name in self.counted}

    @property
    def counted(self) -> tuple[str, ...]:
        """What is counted of answers."""
        return (*TOLD, *(f"reward_{name}" for name in self.scorer.names))

    def tell(self, sums: Mapping[str, float]) -> dict[str, float]:
        """A line of `metrics.jsonl` about the answers of some steps."""
        if not sums.get("samples"):
            return {}
        told = {name: value for name, value in self.metrics(sums).items() if name not in {"loss", "kl"}}
        told |= {"samples": sums["samples"], "groups_without_contrast": sums["contrastless"] / sums["groups"]}
        return told if not sums["divergence"] else told | {"kl": sums["divergence"] / sums["samples"]}

    def draw_for_readers(self, model: TrainableModel, prompts: Sequence[EncodedPrompt]) -> list[tuple[Sampled, Worth]]:
        """One answer to each prompt, with its reward."""
        self.seed_by(prompts)
        drawn = self.sampler.draw(model, prompts, count=1)
        return list(zip(drawn, self.scorer.score([one.answer for one in drawn]), strict=True))

    def seed_by(self, prompts: Sequence[EncodedPrompt]) -> None:
        """Random numbers that follow from what is asked."""
        digest = hashlib.sha256(str(self.seed).encode())
        for prompt in prompts:
            digest.update(prompt.ids.tobytes())
        torch.manual_seed(int.from_bytes(digest.digest()[:8], "big") >> 1)

    def count(self, drawn: Sequence[Sampled], worth: Sequence[Worth], *, group: int = 1) -> Sums:
        """Counts of answers and their rewards; `group` answers are for the same prompt."""
        totals = [one.total for one in worth]
        groups = [totals[start : start + group] for start in range(0, len(totals), group)]
        sums = {
            "samples": float(len(drawn)),
            "groups": float(len(groups)),
            "reward": sum(totals),
            "contrastless": float(sum(min(of_group) == max(of_group) for of_group in groups)),
            "answer_tokens": float(sum(len(one.ids) for one in drawn)),
            "finished": float(sum(one.is_finished for one in drawn)),
            "divergence": 0.0,
            "tokens": float(sum(one.prompt.length + len(one.ids) for one in drawn)),
        }
        by_term = zip(*(one.terms for one in worth), strict=True)
        return sums | {f"reward_{name}": sum(values) for name, values in zip(self.scorer.names, by_term, strict=True)}

    def sequences(self, drawn: Sequence[Sampled]) -> LanguageBatch:
        """Prompts with their answers, which carry the loss."""
        return self.language.collate([one.sequence for one in drawn])

    def log_probabilities(self, model: TrainableModel, batch: LanguageBatch) -> Tensor:
        """[tokens of all answers]: by the distribution that they were drawn from."""
        return self.language.log_probabilities(model, batch, temperature=self.settings.sampling.temperature)


@dataclass
class PolicyOptimization(Answering):
    """Grpo and rloo."""

    judge: PolicyLoss = field(kw_only=True)
    compares: bool = field(kw_only=True)
    """The loss looks at the reference."""

    def loss(self, model: TrainableModel, batch: PromptBatch) -> Tensor:
        """Sum over the prompts of the mean over their answers, which are drawn here: training and sampling share their weights."""
        count = self.settings.samples_per_prompt
        drawn = self.sampler.draw(model, batch.prompts, count=count)
        worth = self.scorer.score([one.answer for one in drawn])
        sums = self.count(drawn, worth, group=count)
        sequences, reference = self.sequences(drawn), None
        if self.compares and self.reference is not None:
            with self.reference.in_place(model):
                reference = self.log_probabilities(model, sequences)
        policy = self.log_probabilities(model, sequences)
        if reference is not None:
            sums["divergence"] = float(divergences(policy.detach(), reference).sum())
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in sums.items()}
        rewards = torch.tensor([one.total for one in worth], device=policy.device).view(-1, count)
        rollout = Rollout(policy, reference, sequences.counts, rewards, self.settings.sampling.max_new_tokens)
        return self.judge(rollout).sum() / count


class AnswersFromRewards(CausalLanguageModeling):
    """Objectives that learn from rewards of the model's own answers."""

    metric_names: Sequence[str] = ("loss", "reward", "answer_tokens", "finished", "kl")
    formats: tuple[DataFormat, ...] = ("prompt",)
    packs = False
    smooths_labels = False
    has_fixed_inputs = False
    learning_rate_divisor = 10.0

    def data_warnings(self, encoder: Any, train: Sequence[Any]) -> list[str]:
        """Nothing that the summary of the data does not say."""
        del encoder, train
        return []

    def show(self, example: Any, processor: Any) -> list[tuple[bool, str]]:
        """The prompt; answers come while training."""
        return [(False, processor.decode(example.ids, skip_special_tokens=False))]

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> Encoder:
        """Prompts up to where the answer begins; each row must have what rewards look at."""
        del labels
        check_end_token(processor)
        settings = settings_of(config)
        text = TextEncoder(processor, config.data.max_sequence_length, stop_ids=stop_ids(directory, processor))
        return JudgedPromptEncoder(text, settings.sampling.max_new_tokens, tuple(columns_needed(settings.rewards)))

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Any]) -> tuple[Task, str]:
        """Without the reward model: `give_scorer` adds it, where the store is at hand."""
        settings = settings_of(config)
        language, warning = choose_layout(model, [sequence_of(prompt, prompt.ids[-1:]) for prompt in train])
        judge: PolicyLoss
        if config.objective.grpo is not None:
            judge, beta = grpo_loss(config.objective.grpo), config.objective.grpo.beta
        elif config.objective.rloo is not None:
            judge, beta = rloo_loss(config.objective.rloo), config.objective.rloo.beta
        else:
            raise TypeError("the objective must be grpo or rloo")
        task = PolicyOptimization(
            language,
            Sampler(settings.sampling, stops_of(model)),
            settings,
            Reference.of(model),
            Scorer.of(settings, None),
            config.training.seed,
            judge=judge,
            compares=beta > 0,
        )
        return task, warning


@dataclass(frozen=True)
class JudgedPromptEncoder(PromptEncoder):
    """Prompts whose rows have the columns that rewards compare answers with."""

    columns: tuple[str, ...] = ()

    def encode(self, examples: Any) -> list[EncodedPrompt]:
        """All prompts in their order.

        Raises:
            TrainerError: DatasetInvalid naming the first row without a column that a reward needs.
        """
        checked = list(examples)
        for example in checked:
            self._check(example)
        return super().encode(checked)

    def _check(self, example: Example) -> None:
        there = [name for name, _ in example.content.columns] if isinstance(example.content, Prompt) else []
        missing = [name for name in self.columns if name not in there]
        if missing:
            raise TrainerError(
                TrainerReason.DATASET_INVALID,
                f"{example.place}: a reward compares answers with the column '{missing[0]}', which the row does not have; "
                f"it has: {', '.join(there) or 'the prompt alone'}.",
            )


def settings_of(config: RunConfig) -> FromRewards:
    """The objective's settings."""
    found = config.objective.from_rewards
    if found is None:
        raise TypeError("the objective must learn from rewards")
    return found


def make_scorer(config: RunConfig, *, store: ObjectStore, directory: Path, device: torch.device) -> Scorer | None:
    """What judges answers, with its reward model; None for objectives that do not learn from rewards.

    Raises:
        TrainerError: what keeps the reward model from being fetched, verified or loaded.
    """
    settings = config.objective.from_rewards
    if settings is None:
        return None
    source, model = settings.reward_model, None
    if source is not None:
        model = load_reward_model(config, source, store=store, directory=directory, device=device)
    return Scorer.of(settings, model)


def give_scorer(task: Task, scorer: Scorer | None) -> None:
    """A task that learns from rewards gets its judge; others need none."""
    if isinstance(task, Answering) and scorer is not None:
        task.scorer = scorer
