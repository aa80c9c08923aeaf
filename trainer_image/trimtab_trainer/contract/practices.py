"""What a good engineer does by hand in a training run: schedules, averages, class weights, attacks, memory of the past."""

from typing import Annotated, Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document, Empty, OneOf


class Warmup(Document):
    """Linear warm-up from 0 before the schedule starts."""

    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    """Share of all steps spent warming up."""


class Decay(Warmup):
    """Warm-up, then down to a floor."""

    minimum_ratio: float = Field(default=0.0, ge=0, lt=1)
    """The floor, as a share of the peak learning rate."""


class Restarts(Decay):
    """Warm-up, then several cosines, each from the peak down to the floor (SGDR, Loshchilov and Hutter, 2017, arXiv:1608.03983)."""

    cycles: int = Field(default=3, ge=1, le=1000)
    """How often the rate falls from the peak; all cycles are equally long."""


class LearningRateSchedule(OneOf):
    """How the learning rate moves. Exactly one member."""

    cosine: Decay | None = None
    """Half a cosine down to the floor."""
    linear: Decay | None = None
    """A line down to the floor."""
    constant: Warmup | None = None
    """Flat after warm-up."""
    inverse_square_root: Decay | None = None
    """`sqrt(w / (w + t))` of the peak, `t` steps after a warm-up of `w` (Vaswani et al., 2017, arXiv:1706.03762)."""
    cosine_with_restarts: Restarts | None = None
    """A cosine that starts again from the peak several times."""


class ExponentialMovingAverage(Document):
    """The mean of the weights of all steps, recent ones counting most (Polyak and Juditsky, 1992)."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """`average = decay * average + (1 - decay) * weights` after each step; early on `(1 + step) / (10 + step)` where that is smaller."""


class Divergence(Document):
    """When a step is taken for diverged, and what happens then. A loss or gradient that is not finite always is."""

    on_spike: Literal["Stop", "Skip"] = "Stop"
    """`Stop` fails the job with LossDiverged before the weights move; `Skip` leaves the step out, counts and reports it, and goes on."""
    spike_factor: float | None = Field(default=None, gt=1)
    """A finite loss above this many times the mean of the recent ones is a spike too. Absent: only what is not finite."""
    window: int = Field(default=20, ge=2, le=1000)
    """Recent steps that a spike is compared with; none is called before as many were taken."""
    max_skipped_in_a_row: int = Field(default=5, ge=1, le=1000)
    """More skipped steps in a row than this fail the job with LossDiverged all the same."""


class ClassWeights(OneOf):
    """How much each class weighs in the loss; scaled so that the training split's mean weight is 1. Exactly one member."""

    balanced: Empty | None = None
    """Each class as much as every other: inversely to how often it occurs in the training split."""
    by_label: dict[str, Annotated[float, Field(ge=0)]] | None = Field(default=None, max_length=1000)
    """A weight for each label; 1 for labels that are not named."""


class Curriculum(Document):
    """Easy examples first (Bengio et al., 2009); length stands for difficulty, as in arXiv:1903.09848."""

    by_length_epochs: int = Field(default=1, ge=1, le=1000)
    """Passes over the data that go from short to long; those after are shuffled."""


class Attack(Document):
    """A perturbation of the input embeddings, bounded by an L2 norm per example."""

    epsilon: float = Field(default=1.0, gt=0, le=1000)
    """L2 norm of an example's perturbation, in units of the mean L2 norm of the model's word embeddings."""


class FastGradient(Attack):
    """One step along the gradient (Miyato et al., 2017, arXiv:1605.07725)."""


class ProjectedGradient(Attack):
    """Several steps, each projected back into the ball (Madry et al., 2018, arXiv:1706.06083)."""

    steps: int = Field(default=3, ge=1, le=20)
    """Ascent steps per training step; each costs a forward and a backward pass."""
    step_size: float = Field(default=0.4, gt=0, le=1000)
    """L2 norm of one ascent step, in units of `epsilon`."""


class FreeLb(ProjectedGradient):
    """Several steps from a random start, training on each of them (Zhu et al., 2020, arXiv:1909.11764)."""


class Adversarial(OneOf):
    """Train on embeddings that were perturbed against the model, too. Exactly one member.

    The held-out splits are measured under an FGM attack of the same size as well: `eval_adversarial_accuracy` and so on.
    """

    fgm: FastGradient | None = None
    """The mean of the clean gradient and the one under a fast gradient attack."""
    pgd: ProjectedGradient | None = None
    """The mean of the clean gradient and the one under a projected gradient attack."""
    free_lb: FreeLb | None = None
    """The mean of the gradients at every step of the attack."""


class ElasticWeightConsolidation(Document):
    """Weights that the earlier task needs are held by springs (Kirkpatrick et al., 2017, arXiv:1612.00796)."""

    strength: float = Field(default=1000.0, gt=0)
    """Lambda: `lambda / 2 * sum(fisher * (weight - start)^2)` is added to the loss."""
    examples: int = Field(default=256, ge=1, le=100000)
    """Examples of `data.general` that the diagonal Fisher information is estimated from."""


class L2StartingPoint(Document):
    """Weights are pulled back to where they started instead of to 0 (Li et al., 2018, arXiv:1802.01483)."""

    strength: float = Field(default=0.1, ge=0)
    """Alpha: `alpha / 2 * sum((weight - start)^2)` is added to the loss for weights that the model came with."""
    new_weights_strength: float = Field(default=0.01, ge=0)
    """Beta: `beta / 2 * sum(weight^2)` for weights of a new head."""


class Continual(OneOf):
    """Learn without forgetting, beside the general data that `data.mixFraction` mixes in. Exactly one member."""

    ewc: ElasticWeightConsolidation | None = None
    """Elastic weight consolidation; needs `data.general`, examples of what must not be forgotten."""
    starting_point: L2StartingPoint | None = None
    """L2 distance from the starting point."""


class Normalization(Document):
    """The same characters for the same text, in every split. A server does not normalise what it is asked."""

    unicode: Literal["NFC", "NFKC"] = "NFC"
    """Unicode form: `NFC` composes accents, `NFKC` also replaces ligatures and full-width letters."""
    collapse_whitespace: bool = False
    """Runs of blanks and line breaks become one blank. Not for code, tables or poems."""


class TextAugmentation(Document):
    """Changed copies of labelled texts in the training split (EDA, Wei and Zou, 2019, arXiv:1901.11196)."""

    copies: int = Field(default=1, ge=1, le=16)
    """Changed copies of each training example, beside the original."""
    word_dropout: float = Field(default=0.1, ge=0, lt=1)
    """How likely each word of a copy is left out; one stays."""
    word_swaps: float = Field(default=0.1, ge=0, lt=1)
    """Pairs of words that change places, as a share of a copy's words."""
