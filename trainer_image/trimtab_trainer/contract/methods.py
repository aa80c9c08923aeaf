"""The words for which parameters move: `spec.method` and its members."""

from typing import Annotated, Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document, Empty, OneOf, rules, unavailable

ModuleName = Annotated[str, Field(min_length=1, max_length=128)]
Pattern = Annotated[str, Field(min_length=1, max_length=256)]
_ALL_LINEAR = "all-linear"


class Lora(Document):
    """Low-rank adapters (Hu et al., 2021, arXiv:2106.09685)."""

    model_config = rules(
        (
            f"!has(self.targetPattern) || self.targetModules == ['{_ALL_LINEAR}']",
            "targetPattern takes the place of targetModules: leave one of them out",
        ),
        (
            "self.initialization != 'orthogonal' || self.r % 2 == 0",
            "initialization orthogonal needs an even r",
        ),
    )

    r: int = Field(default=16, ge=1, le=1024)
    """LoRA rank."""
    alpha: float = Field(default=32, gt=0, le=4096)
    """Scale: updates are multiplied by `alpha / r`, with `useRslora` by `alpha / sqrt(r)`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: list[ModuleName] = Field(default_factory=lambda: [_ALL_LINEAR], min_length=1, max_length=64)
    """Module names that get an adapter, as in peft: whole names or their ends; `all-linear` for every linear layer but the head."""
    target_pattern: Pattern | None = None
    """A regular expression that a module's whole name must match to get an adapter, instead of `targetModules`. As peft's `target_modules` of one string."""
    use_rslora: bool = False
    """Rank-stabilised scale (Kalajdzievski, 2023, arXiv:2312.03732): large ranks keep learning."""
    use_dora: bool = False
    """Weight-decomposed adapters (Liu et al., 2024, arXiv:2402.09353): a trained length of each output besides its direction. About 1.5 times slower."""
    rank_pattern: dict[str, Annotated[int, Field(ge=1, le=1024)]] = Field(default_factory=dict, max_length=64)
    """Other ranks for some modules: names, their ends, or regular expressions of their ends, as in peft."""
    alpha_pattern: dict[str, Annotated[float, Field(gt=0, le=4096)]] = Field(default_factory=dict, max_length=64)
    """Other alphas for some modules, likewise."""
    initialization: Literal["default", "gaussian", "orthogonal"] = "default"
    """How the adapter starts: B at zero and A uniform (`default`) or normal (`gaussian`); or both from one orthogonal basis whose product is zero (`orthogonal`). The model starts as the base model in each case."""


class Full(Document):
    """Every weight moves."""


class HeadOnly(Document):
    """Only the task's head moves; the trunk stays bit-identical."""


class Partial(Document):
    """Some of the model's own weights move; the others stay bit-identical."""

    model_config = rules(
        (
            "self.lastLayers > 0 || size(self.patterns) > 0 || self.embeddings",
            "partial must name what moves: lastLayers, patterns or embeddings",
        ),
    )

    last_layers: int = Field(default=0, ge=0, le=1000)
    """The last layers (transformer blocks), with the norm after them. A head that is not shared with the embeddings moves in any case."""
    patterns: list[Pattern] = Field(default_factory=list, max_length=64)
    """Regular expressions: parameters whose whole name matches one move too, for example `.*bias` (BitFit; Ben Zaken et al., 2021, arXiv:2106.10199)."""
    embeddings: bool = False
    """The embeddings, and with them a language-modelling head that shares their weights."""


class Method(OneOf):
    """Which parameters move. Exactly one member."""

    lora: Lora | None = None
    """Low-rank adapters on frozen weights."""
    full: Full | None = None
    """Every weight."""
    head_only: HeadOnly | None = None
    """The task's head alone."""
    qlora: Empty | None = unavailable()
    """LoRA on a 4-bit base model."""
    adapter: Empty | None = unavailable()
    """Bottleneck adapters."""
    prefix_tuning: Empty | None = unavailable()
    """Trained key and value prefixes."""
    reft: Empty | None = unavailable()
    """Low-rank interventions on hidden representations."""
    partial: Partial | None = None
    """The last layers or chosen patterns."""
