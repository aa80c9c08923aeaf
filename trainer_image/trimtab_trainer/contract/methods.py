"""The words for which parameters move: `spec.method` and its members."""

from typing import Annotated, Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document, OneOf, rules

ArtifactFormat = Literal["peftAdapter", "peftPrompt", "trimtabAdapter", "safetensors", "ensemble"]
"""What a ModelVersion's bytes are: an adapter that peft merges or mixes, trained prefixes that peft loads, an adapter that
`trimtab_trainer.methods.own_adapters` loads, a whole model, several models."""
PublishedFormat = Literal["peftAdapter", "peftPrompt", "trimtabAdapter", "safetensors"]
"""What a FineTuneJob publishes."""
ADAPTER_FORMATS = ("peftAdapter", "peftPrompt", "trimtabAdapter")
"""Those that need their base model."""
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


class Qlora(Lora):
    """LoRA over a base model in 4-bit NF4 (Dettmers et al., 2023, arXiv:2305.14314). Embeddings, norms and heads stay as they are."""

    double_quantization: bool = True
    """Quantise the scales of the blocks too: 0.37 bits less for each weight."""


class Adapter(Document):
    """Bottleneck adapters: after a sublayer its output is squeezed, bent and widened again, and added to itself."""

    model_config = rules(
        (
            "!has(self.bottleneckSize) || !has(self.reductionFactor)",
            "bottleneckSize and reductionFactor are exclusive",
        ),
    )

    placement: Literal["houlsby", "pfeiffer"] = "pfeiffer"
    """After the attention and the feed-forward part of each layer (`houlsby`: Houlsby et al., 2019, arXiv:1902.00751), or after the feed-forward part alone (`pfeiffer`: Pfeiffer et al., 2020, arXiv:2005.00247)."""
    bottleneck_size: int | None = Field(default=None, ge=1, le=8192)
    """Width of the bottleneck."""
    reduction_factor: int | None = Field(default=None, ge=1, le=1024)
    """Width of the model by width of the bottleneck. Absent, with `bottleneckSize` absent: 16."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    """Between squeezing and widening."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout within the bottleneck."""


class PrefixTuning(Document):
    """Trained vectors before the text; the model itself stays as it is. Needs `data.packing: false`."""

    kind: Literal["prefix", "prompt"] = "prefix"
    """Keys and values in every layer (`prefix`: Li and Liang, 2021, arXiv:2101.00190), or embeddings before the text (`prompt`: Lester et al., 2021, arXiv:2104.08691)."""
    virtual_tokens: int = Field(default=20, ge=1, le=4096)
    """How many vectors. They count against the model's longest sequence."""


class Reft(Document):
    """LoReFT (Wu et al., 2024, arXiv:2404.03592): after a layer h becomes `h + R^T(W h + b - R h)`, R with orthonormal rows. At every position."""

    r: int = Field(default=4, ge=1, le=1024)
    """Dimensions of the subspace that is edited: rows of R."""
    layers: list[Annotated[int, Field(ge=0, le=10000)]] = Field(default_factory=list, max_length=256)
    """After which layers, counted from 0. Empty: all."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on what is added."""


class Full(Document):
    """Every weight moves."""


class HeadOnly(Document):
    """Only the task's head moves; the trunk stays bit-identical, and runs without dropout."""

    cache_features: bool = True
    """Compute what the head reads of each example once, where a run shows examples more often: an epoch then costs the head
    alone. In memory, or in a file on the scratch volume where that does not suffice."""


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
    cache_features: bool | None = None
    """Where nothing moves in the embeddings and the first layers, compute what leaves those layers once for each example, in runs
    that show examples more often: a step then costs the layers above. In memory, or in a file on the scratch volume where
    that does not suffice. They run without dropout either way. Absent: yes."""


class Method(OneOf):
    """Which parameters move. Exactly one member."""

    lora: Lora | None = None
    """Low-rank adapters on frozen weights."""
    full: Full | None = None
    """Every weight."""
    head_only: HeadOnly | None = None
    """The task's head alone."""
    qlora: Qlora | None = None
    """LoRA on a 4-bit base model."""
    adapter: Adapter | None = None
    """Bottleneck adapters."""
    prefix_tuning: PrefixTuning | None = None
    """Trained key and value prefixes."""
    reft: Reft | None = None
    """Low-rank interventions on hidden representations."""
    partial: Partial | None = None
    """The last layers or chosen patterns."""
