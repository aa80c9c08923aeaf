"""What the loss asks: the members of `spec.objective`, their settings, and the tasks they are for."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, JsonValue

from trimtab_trainer.contract.base import Document, OneOf, rules
from trimtab_trainer.contract.rewards import Reward as RewardOfAnswer
from trimtab_trainer.contract.rewards import RewardModelSource, Sampling

TASKS_OF_OBJECTIVE: Mapping[str, tuple[str, ...]] = {
    "continuedPretraining": ("causalLanguageModeling",),
    "reward": ("sequenceClassification",),
    "dpo": ("causalLanguageModeling",),
    "orpo": ("causalLanguageModeling",),
    "fewShot": ("sequenceClassification",),
    "grpo": ("causalLanguageModeling",),
    "rloo": ("causalLanguageModeling",),
    "tao": ("causalLanguageModeling",),
}
"""The tasks that each objective is for, by their names in the spec; `supervised` is for all of them."""
SAMPLING = ("grpo", "rloo", "tao")
"""The objectives that learn from answers of the model itself."""


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
    example meets a partner of its own class and one of another; as in SetFit, it is 20 where neither it nor `maxSteps` is given.
    """

    head: Literal["logisticRegression", "prototypes"] = "logisticRegression"
    """How the head is fitted: logistic regression, or the nearest mean of a class (Snell et al., 2017, arXiv:1703.05175)."""
    regularization: float = Field(default=1.0, gt=0, le=10000)
    """Strength of the L2 penalty of the logistic regression: scikit-learn's 1 / C, on features scaled to a mean length of 1."""
    pooling: Literal["auto", "head"] = "auto"
    """What the head reads of a text. `auto`: the mean over the tokens where the model's files say that it was made for that (sentence encoders: `1_Pooling/config.json`) and a whole model is trained; one more layer does it. `head`: what the architecture's head reads, mostly the first token."""


_ONE_JUDGE = ("self.rewards.filter(r, has(r.rewardModel)).size() <= 1", "rewards must have at most one rewardModel")


class FromRewards(Document):
    """What objectives have in common that learn from answers of the model itself."""

    model_config = rules(_ONE_JUDGE)

    rewards: list[RewardOfAnswer] = Field(min_length=1, max_length=8)
    """What an answer is worth: the weighted sum of these terms."""
    samples_per_prompt: int = Field(default=8, ge=2, le=256)
    """Answers drawn for each prompt of a batch; `training.globalBatchSize` counts prompts."""
    sampling: Sampling = Field(default_factory=Sampling)
    """How answers are drawn."""
    unfinished_penalty: float = Field(default=0.0, ge=0, le=1000)
    """Taken from the reward of an answer that does not stop within `sampling.maxNewTokens`."""

    @property
    def reward_model(self) -> RewardModelSource | None:
        """The reward model among the rewards."""
        return next((term.reward_model for term in self.rewards if term.reward_model is not None), None)


class Grpo(FromRewards):
    """Group relative policy optimisation (Shao et al., 2024, arXiv:2402.03300), one update for each batch of answers.

    An answer's advantage is its reward less the mean of its prompt's answers. With one update the probability ratio is 1, so
    there is nothing to clip.
    """

    beta: float = Field(default=0.04, ge=0, le=100)
    """Weight of the divergence from the model as the job found it (the k3 estimate, each token); 0 leaves it out. The paper has 0.04."""
    scale_by_deviation: bool = False
    """Divide advantages by the standard deviation of their group, as the paper does. It weighs prompts most that nearly always, or hardly ever, succeed (Liu et al., 2025, arXiv:2503.20783), hence the default."""
    length_normalization: Literal["constant", "answer"] = "constant"
    """`constant`: an answer's loss is divided by `sampling.maxNewTokens` (Dr. GRPO, arXiv:2503.20783). `answer`: by its own length, as the paper does, which punishes long wrong answers less."""


class Rloo(FromRewards):
    """REINFORCE leave-one-out (Ahmadian et al., 2024, arXiv:2402.14740): an answer as a whole is one action, and its baseline is the mean reward of the prompt's other answers."""

    beta: float = Field(default=0.05, ge=0, le=100)
    """What an answer's reward loses by each nat of log-ratio to the model as the job found it; 0 leaves it out. The paper has 0.03 to 0.1."""


class Tao(FromRewards):
    """Test-time adaptive optimisation, as Databricks named it in 2025: a model learns its own best answers, in rounds.

    In each round it answers its prompts several times, rewards judge, and the best answers are learned by cross-entropy. That is
    rejection sampling as in RAFT (Dong et al., 2023, arXiv:2304.06767), repeated.
    """

    model_config = rules(
        _ONE_JUDGE, ("self.keepBest <= self.samplesPerPrompt", "keepBest must not be above samplesPerPrompt")
    )

    rounds: int = Field(default=2, ge=1, le=100)
    """Rounds of about equally many steps. Answers are drawn at the start of each, with the weights as they are then, for the prompts that it will train on."""
    keep_best: int = Field(default=1, ge=1, le=256)
    """How many of a prompt's different answers are learned, the best ones; a prompt weighs the same with one or several."""
    minimum_reward: float | None = None
    """Answers below this reward are not learned from; a prompt without a better one teaches nothing in that round. Absent: the best ones, whatever they are worth."""


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
    grpo: Grpo | None = None
    """Reinforcement learning from rewards (RLHF) with group-relative advantages."""
    rloo: Rloo | None = None
    """Reinforcement learning from rewards (RLHF) with leave-one-out baselines."""
    tao: Tao | None = None
    """Test-time adaptive optimisation: train on the best-scored samples of the model itself."""

    @property
    def from_rewards(self) -> FromRewards | None:
        """The member, where it learns from rewards."""
        return self.grpo or self.rloo or self.tao

    @property
    def reward_model(self) -> RewardModelSource | None:
        """The reward model, where there is one."""
        return self.from_rewards.reward_model if self.from_rewards is not None else None

    @property
    def reward_version(self) -> str:
        """Name of the ModelVersion that judges; empty where none does."""
        uri = self.reward_model.uri if self.reward_model is not None else ""
        return uri.removeprefix("modelversion://") if uri.startswith("modelversion://") else ""


_DRAWN_CLEAN = "answers are drawn from the clean model, so what is trained would not be what was drawn"
NOT_WITH_SAMPLES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "adversarial": ("training.adversarial", _DRAWN_CLEAN, SAMPLING),
    "embeddingNoiseAlpha": ("training.embeddingNoiseAlpha", _DRAWN_CLEAN, SAMPLING),
    "ewc": (
        "training.continual.ewc",
        "prompts have no given answers to take the Fisher information of; startingPoint needs none",
        SAMPLING,
    ),
    "spikeFactor": (
        "training.divergence.spikeFactor",
        "the loss is around 0 and says nothing about how training goes; watch the reward",
        ("grpo", "rloo"),
    ),
}
"""What does not go with objectives that sample: by name, the field, why, and with which."""


def sampling_rules() -> list[dict[str, JsonValue]]:
    """CEL rules, and their messages, for an object with `objective` and `training`."""
    found: list[dict[str, JsonValue]] = []
    for field, why, objectives in NOT_WITH_SAMPLES.values():
        parts = field.split(".")
        samples = " || ".join(f"has(self.objective.{objective})" for objective in objectives)
        is_set = " && ".join(f"has({'.'.join(('self', *parts[:end]))})" for end in range(2, len(parts) + 1))
        names = ", ".join(objectives[:-1]) + f" and {objectives[-1]}"
        found.append({"rule": f"!({samples}) || !({is_set})", "message": f"{field} does not go with {names}: {why}"})
    return found


def task_rules() -> list[dict[str, JsonValue]]:
    """CEL rules, and their messages, for an object with `task` and `objective`: pairs that make no sense are refused."""
    return [
        {
            "rule": f"!has(self.objective.{objective}) || {' || '.join(f'has(self.task.{task})' for task in tasks)}",
            "message": f"objective.{objective} needs the task {' or '.join(tasks)}",
        }
        for objective, tasks in TASKS_OF_OBJECTIVE.items()
    ]
