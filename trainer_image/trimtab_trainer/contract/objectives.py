"""What the loss asks: the members of `spec.objective`, their settings, and the tasks they are for."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, JsonValue

from trimtab_trainer.contract.base import Document, Empty, OneOf, unavailable

TASKS_OF_OBJECTIVE: Mapping[str, tuple[str, ...]] = {
    "continuedPretraining": ("causalLanguageModeling",),
    "reward": ("sequenceClassification",),
    "dpo": ("causalLanguageModeling",),
    "orpo": ("causalLanguageModeling",),
    "fewShot": ("sequenceClassification",),
}
"""The tasks that each objective is for, by their names in the spec; `supervised` is for all of them."""


class Supervised(Document):
    """Cross-entropy on the given answers."""

    loss_on_prompt: bool = False
    """Train on the prompt tokens too. By default only completions (assistant messages) carry loss."""


class ContinuedPretraining(Document):
    """Next-token loss on raw documents: every token but a document's first is predicted, exactly once.

    A document that is longer than `data.maxSequenceLength` becomes several rows, and nothing of it is cut. Documents that
    share a row do not see each other.
    """


class Reward(Document):
    """A reward model from preference pairs: the chosen answer must score higher (Bradley-Terry; Ouyang et al., 2022, arXiv:2203.02155)."""

    centering: float = Field(default=0.0, ge=0, le=10)
    """Penalty on the square of the sum of a pair's two rewards, which keeps rewards around 0 (Eisenstein et al., 2023, arXiv:2312.09244); 0.01 is usual."""


class Dpo(Document):
    """Direct preference optimisation (Rafailov et al., 2023, arXiv:2305.18290). The reference is the model as the job found it."""

    beta: float = Field(default=0.1, gt=0, le=100)
    """How strongly the model is held near the reference; for `ipo` the regularisation of that loss."""
    # Not `lt=0.5`: the API server compares the default 0 with a bound it has cut to a whole number.
    label_smoothing: float = Field(default=0.0, ge=0, le=0.5)
    """Share of pairs that are assumed to be labelled the wrong way round (`sigmoid` only)."""
    loss_type: Literal["sigmoid", "ipo"] = "sigmoid"
    """`sigmoid`: the paper's. `ipo`: a squared loss on log-ratios per token, which does not run away on certain preferences (Azar et al., 2023, arXiv:2310.12036)."""


class Orpo(Document):
    """Odds-ratio preference optimisation (Hong et al., 2024, arXiv:2403.07691): cross-entropy of the chosen answer and a preference for its odds, without a reference."""

    beta: float = Field(default=0.1, gt=0, le=100)
    """Weight of the odds ratio."""


class FewShot(Document):
    """A classifier from at most about 16 examples a class (SetFit; Tunstall et al., 2022, arXiv:2209.11055).

    Training draws what the head reads of texts of one class together and of different classes apart, by cosine. Then the head is
    fitted on the training examples and published as the model's ordinary classifier. `training.epochs` counts how often each
    example meets a partner of its own class and one of another; SetFit's own default is 20.
    """

    head: Literal["logisticRegression", "prototypes"] = "logisticRegression"
    """How the head is fitted: logistic regression, or the nearest mean of a class (Snell et al., 2017, arXiv:1703.05175)."""
    regularization: float = Field(default=1.0, gt=0, le=10000)
    """Strength of the L2 penalty of the logistic regression: scikit-learn's 1 / C, on features scaled to a mean length of 1."""


class Objective(OneOf):
    """What the loss asks. Exactly one member."""

    supervised: Supervised | None = None
    """Supervised and instruction fine-tuning: loss on completions."""
    continued_pretraining: ContinuedPretraining | None = None
    """Next-token loss on raw documents."""
    reward: Reward | None = None
    """A reward model from preference pairs."""
    dpo: Dpo | None = None
    """Direct preference optimisation."""
    orpo: Orpo | None = None
    """Odds-ratio preference optimisation."""
    few_shot: FewShot | None = None
    """A classifier from a few examples a class."""
    grpo: Empty | None = unavailable()
    """Reinforcement learning from rewards with group-relative advantages."""
    tao: Empty | None = unavailable()
    """Test-time adaptive optimisation: train on the best-scored samples of the model itself."""


def task_rules() -> list[dict[str, JsonValue]]:
    """CEL rules, and their messages, for an object with `task` and `objective`: pairs that make no sense are refused."""
    return [
        {
            "rule": f"!has(self.objective.{objective}) || {' || '.join(f'has(self.task.{task})' for task in tasks)}",
            "message": f"objective.{objective} needs the task {' or '.join(tasks)}",
        }
        for objective, tasks in TASKS_OF_OBJECTIVE.items()
    ]
