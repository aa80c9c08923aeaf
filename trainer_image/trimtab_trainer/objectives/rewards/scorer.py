"""The weighted sum of a job's rewards."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic.alias_generators import to_snake

from trimtab_trainer.contract.objectives import FromRewards
from trimtab_trainer.objectives.rewards.model import RewardModel
from trimtab_trainer.objectives.rewards.rules import Answer, Rule, rule_of


@dataclass(frozen=True)
class Worth:
    """What one answer is worth."""

    total: float
    """The weighted sum, less the penalty where the answer does not end."""
    terms: tuple[float, ...]
    """Each term without its weight."""


@dataclass(frozen=True)
class Scorer:
    """Judges answers; the same answers always get the same rewards."""

    names: tuple[str, ...]
    """Of the terms, as metrics have them: `exact_match`, and `exact_match_2` for a second one."""
    weights: tuple[float, ...]
    rules: tuple[Rule | None, ...]
    """None: the reward model."""
    unfinished_penalty: float
    model: RewardModel | None

    @classmethod
    def of(cls, settings: FromRewards, model: RewardModel | None) -> "Scorer":
        """As the job's objective has it.

        Raises:
            TrainerError: ConfigInvalid where a pattern is none.
        """
        seen: Counter[str] = Counter()
        names = []
        for term in settings.rewards:
            name = to_snake(term.kind)
            seen[name] += 1
            names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
        return cls(
            names=tuple(names),
            weights=tuple(term.term.weight for term in settings.rewards),
            rules=tuple(rule_of(term) for term in settings.rewards),
            unfinished_penalty=settings.unfinished_penalty,
            model=model,
        )

    @property
    def digest(self) -> str:
        """Of the reward model; empty without one."""
        return self.model.digest if self.model is not None else ""

    def score(self, answers: Sequence[Answer]) -> list[Worth]:
        """One by one."""
        by_term = [self._term(rule, answers) for rule in self.rules]
        found = []
        for number, answer in enumerate(answers):
            terms = tuple(values[number] for values in by_term)
            total = sum(weight * value for weight, value in zip(self.weights, terms, strict=True))
            found.append(Worth(total - (0 if answer.is_finished else self.unfinished_penalty), terms))
        return found

    def _term(self, rule: Rule | None, answers: Sequence[Answer]) -> list[float]:
        if rule is not None:
            return [rule(answer) for answer in answers]
        if self.model is None:
            raise TypeError("a reward model is needed")
        return self.model.score(answers)
