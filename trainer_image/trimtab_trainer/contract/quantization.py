"""The words for fewer bits in what is published: `spec.output.quantization` and its members."""

from typing import Final

from trimtab_trainer.contract.base import Document, Empty, OneOf

QUANTIZATION_CHANGE: Final = "quantization_change_"
"""Before a metric's name: its value of the published model less that of the model before quantisation."""


class Nf4(Document):
    """Four bits for each weight of the matrices, by the quantiles of a normal distribution (Dettmers et al., 2023, arXiv:2305.14314)."""

    double_quantization: bool = True
    """Quantise the scales of the blocks too: 0.37 bits less for each weight."""


class Quantization(OneOf):
    """Fewer bits for the matrices of the trunk; embeddings, norms and heads stay float32. Files of bitsandbytes that `from_pretrained` loads."""

    int8: Empty | None = None
    """Eight bits for each weight, a scale for each output (LLM.int8; Dettmers et al., 2022, arXiv:2208.07339)."""
    nf4: Nf4 | None = None
    """Four bits for each weight; matrices whose sizes are no multiples of 64 stay as they are."""
