"""Objective tao: in rounds, the model answers its prompts several times, rewards judge, and it learns its own best answers."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab_trainer import logs
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.objectives import Tao
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.batches import micro_batches, share_of_rank
from trimtab_trainer.data.encoded import cost
from trimtab_trainer.distributed import sum_counts, sum_over_ranks
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.interruption import Interruption
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.policy import Answering, AnswersFromRewards, PromptBatch, settings_of
from trimtab_trainer.objectives.rewards.scorer import Scorer, Worth
from trimtab_trainer.objectives.sampling import Sampled, Sampler, sequence_of
from trimtab_trainer.tasks.language_modeling import choose_layout
from trimtab_trainer.tasks.task import Round, Sums, Task
from trimtab_trainer.tasks.written_answers import stops_of

Chosen = dict[int, list[tuple[NDArray[np.int32], float]]]
"""By the prompt's index: the answers that are learned, best first, and their rewards."""


@dataclass
class BestOfSamples(Answering):
    """Cross-entropy on the answers that scored best."""

    tao: Tao = field(kw_only=True)
    memory: dict[str, Tensor] = field(default_factory=dict)
    """The answers of the current round, as a checkpoint stores them: `round` [1], and by answer `prompts`, `counts`, `rewards`; `ids` of all."""
    _chosen: Chosen = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    """The index of each prompt in the training split, by its identity."""

    def round_of(self, step: int, total_steps: int) -> int:
        """All rounds have about the same number of steps."""
        return step * self.tao.rounds // total_steps

    def begin_step(self, model: TrainableModel, now: Round) -> Sums:
        """At the start of a round, draw and judge answers with the weights as they are; else the round's answers stay.

        A resumed run finds them in its checkpoint, or draws the very same ones again: from the same weights, in the same batches.

        Raises:
            Interruption: some rank was asked to stop; nothing has changed.
            TrainerError: ConfigInvalid where no answer is good enough to learn from.
        """
        self._numbers = self._numbers or {id(prompt): number for number, prompt in enumerate(now.examples)}
        number = self.round_of(now.step, now.total_steps)
        if self.memory and int(self.memory["round"][0]) == number:
            self._chosen = self._chosen or unpacked(self.memory)
            return {}
        steps = [step for step in range(now.total_steps) if self.round_of(step, now.total_steps) == number]
        wanted = sorted({index for step in steps for index in now.rows_of(step)})
        chosen, sums = self._draw(model, now, wanted, number)
        if not chosen:
            raise TrainerError(
                TrainerReason.CONFIG_INVALID,
                f"No answer of round {number + 1} has a reward of at least `objective.tao.minimumReward: {self.tao.minimum_reward}`; the mean was "
                f"{sums['reward'] / sums['samples']:.4g}. Lower it, or draw more answers (`samplesPerPrompt`).",
            )
        self._chosen = chosen
        self.memory.clear()
        self.memory.update(packed(chosen, number))
        kept = [reward for answers in chosen.values() for _, reward in answers]
        logs.fact("round", number=number + 1, rounds=self.tao.rounds, kept=len(kept), reward=sum(kept) / len(kept))
        return sums | {"kept": float(len(kept)), "kept_reward": sum(kept), "tokens": 0.0}

    def loss(self, model: TrainableModel, batch: PromptBatch) -> Tensor:
        """Sum over the prompts of the mean cross-entropy of their chosen answers, each by its tokens' mean."""
        chosen = [(prompt, self._chosen.get(self._numbers[id(prompt)], [])) for prompt in batch.prompts]
        sequences = [sequence_of(prompt, ids) for prompt, answers in chosen for ids, _ in answers]
        tokens = float(sum(one.length for one in sequences))
        self.sums["tokens"] = self.sums.get("tokens", 0.0) + tokens
        if not sequences:  # no answer was good enough
            return next(iter(model.trainable.values())).sum() * 0.0
        together = self.language.collate(sequences)
        by_answer = self.language.log_probabilities(model, together).split(together.counts)
        shares = [1 / len(answers) for _, answers in chosen for _ in answers]
        return torch.stack([-share * one.mean() for share, one in zip(shares, by_answer, strict=True)]).sum()

    def take_sums(self) -> Sums:
        """Tokens alone: what was drawn is counted when a round begins."""
        taken, self.sums = self.sums, {}
        return {"tokens": taken.get("tokens", 0.0)}

    def tell(self, sums: Mapping[str, float]) -> dict[str, float]:
        """What was drawn for a round stands in its first line."""
        told = super().tell(sums)
        return told and told | {"kept": sums["kept"], "kept_reward": sums["kept_reward"] / sums["kept"]}

    def _draw(
        self, model: TrainableModel, now: Round, wanted: Sequence[int], number: int
    ) -> tuple[Chosen, dict[str, Any]]:
        """Every rank draws for its share of the prompts."""
        count = self.settings.samples_per_prompt
        rows = sorted(((index,) for index in wanted), key=lambda row: (-now.examples[row[0]].length, row))
        mine = share_of_rank(rows, rank=now.rank, world_size=now.world_size)
        chosen: Chosen = {}
        sums: Sums = dict.fromkeys(self.counted, 0.0)
        for batch in micro_batches(
            mine, size=None, tokens=now.tokens_per_batch, length=lambda row: cost(now.examples[row[0]])
        ):
            if now.stop():
                break
            indices = [row[0] for row in batch]
            torch.manual_seed(_seed(self.seed, number, indices))
            drawn = self.sampler.draw(model, [now.examples[index] for index in indices], count=count)
            worth = self.scorer.score([one.answer for one in drawn])
            found = self.count(drawn, worth, group=count)
            sums = {name: sums[name] + value for name, value in found.items()}
            for place, index in enumerate(indices):
                group = slice(place * count, (place + 1) * count)
                if best := self._best(drawn[group], worth[group]):
                    chosen[index] = best
        if sum_over_ranks([float(now.stop())], model.device)[0]:
            raise Interruption("SIGTERM while answers were drawn")
        return self._of_all(chosen, now, model), sum_counts(sums, model.device)

    def _best(self, drawn: Sequence[Sampled], worth: Sequence[Worth]) -> list[tuple[NDArray[np.int32], float]]:
        """The best answers that say different things and are good enough; the first of equals."""
        found: dict[bytes, tuple[NDArray[np.int32], float]] = {}
        for one, value in sorted(zip(drawn, worth, strict=True), key=lambda pair: -pair[1].total):
            if self.tao.minimum_reward is None or value.total >= self.tao.minimum_reward:
                found.setdefault(one.ids.tobytes(), (one.ids, value.total))
        return list(found.values())[: self.tao.keep_best]

    def _of_all(self, mine: Chosen, now: Round, model: TrainableModel) -> Chosen:
        """Every rank's answers on every rank: each adds its own to zeros."""
        if now.world_size == 1:
            return mine
        prompts, best, room = len(now.examples), self.tao.keep_best, self.settings.sampling.max_new_tokens
        ids, lengths, rewards = np.zeros((prompts, best, room)), np.zeros((prompts, best)), np.zeros((prompts, best))
        for index, answers in mine.items():
            for place, (tokens, reward) in enumerate(answers):
                ids[index, place, : len(tokens)], lengths[index, place] = tokens, len(tokens)
                rewards[index, place] = reward
        whole = sum_counts({"ids": ids, "lengths": lengths, "rewards": rewards}, model.device)
        return {
            index: [
                (whole["ids"][index, place, : int(length)].astype(np.int32), float(whole["rewards"][index, place]))
                for place, length in enumerate(whole["lengths"][index])
                if length
            ]
            for index in range(prompts)
            if whole["lengths"][index].any()
        }


def packed(chosen: Chosen, number: int) -> dict[str, Tensor]:
    """A round's answers as tensors."""
    answers = [(index, ids, reward) for index in sorted(chosen) for ids, reward in chosen[index]]
    return {
        "round": torch.tensor([number], dtype=torch.int64),
        "prompts": torch.tensor([index for index, _, _ in answers], dtype=torch.int64),
        "counts": torch.tensor([len(ids) for _, ids, _ in answers], dtype=torch.int64),
        "rewards": torch.tensor([reward for _, _, reward in answers], dtype=torch.float64),
        "ids": torch.from_numpy(np.concatenate([ids for _, ids, _ in answers])),
    }


def unpacked(memory: Mapping[str, Tensor]) -> Chosen:
    """The other way round."""
    chosen: Chosen = {}
    pieces = memory["ids"].split(memory["counts"].tolist())
    for index, ids, reward in zip(memory["prompts"].tolist(), pieces, memory["rewards"].tolist(), strict=True):
        chosen.setdefault(index, []).append((ids.numpy(), reward))
    return chosen


def _seed(seed: int, number: int, indices: Sequence[int]) -> int:
    digest = hashlib.sha256(f"{seed}/round {number}/{list(indices)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class BestAnswers(AnswersFromRewards):
    """Learns from its own best answers."""

    metric_names = ("loss", "reward", "answer_tokens", "finished")
    learning_rate_divisor = 1.0

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Any]) -> tuple[Task, str]:
        """Without the reward model: `give_scorer` adds it, where the store is at hand."""
        settings, tao = settings_of(config), config.objective.tao
        if tao is None:
            raise TypeError("the objective must be tao")
        language, warning = choose_layout(model, [sequence_of(prompt, prompt.ids[-1:]) for prompt in train])
        sampler = Sampler(settings.sampling, stops_of(model))
        scorer = Scorer.of(settings, None)
        return BestOfSamples(language, sampler, settings, None, scorer, config.training.seed, tao=tao), warning
