"""Method qlora: LoRA over a base model in 4-bit NF4 by bitsandbytes (Dettmers et al., 2023, arXiv:2305.14314)."""

from typing import Any

import torch
from transformers import BitsAndBytesConfig

from trimtab_trainer.contract.methods import Lora, Qlora
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.methods.lora import LowRankAdapters
from trimtab_trainer.model_facts import ModelFacts
from trimtab_trainer.objectives.registry import definition_of

_HEADS = [r"(.*\.)?(lm_head|classifier|score|qa_outputs|pre_classifier|pooler)"]
"""Regular expressions of modules."""
_BLOCK, _SCALES_BLOCK = 64, 256
"""Weights that share a scale; scales that share one in turn."""


class QuantizedLowRankAdapters(LowRankAdapters):
    """As lora, but the frozen matrices have four bits a weight."""

    tags = ("lora", "qlora")
    field = "method.qlora"

    def settings(self, config: RunConfig) -> Lora:
        """What the user wrote."""
        return _settings(config)

    def load_arguments(self, config: RunConfig) -> dict[str, Any]:
        """Matrices are quantised one by one while they are read: the whole model is never in memory."""
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=_settings(config).double_quantization,
            bnb_4bit_compute_dtype=torch.float32,
            # A new head is trained, and what is trained is not quantised.
            llm_int8_skip_modules=_HEADS if definition_of(config).has_new_head else None,
        )
        return {
            "quantization_config": quantization,
            "device_map": {"": torch.cuda.current_device()} if torch.cuda.is_available() else "cpu",
        }

    def weight_bytes(self, config: RunConfig, facts: ModelFacts, bytes_per_value: int) -> int:
        """Half a byte for each weight of the matrices, the scales of their blocks, and the largest one unpacked for a product."""
        sizes = [shape[0] * shape[1] for shape in facts.linear_layers.values()]
        quantized, unpacked = sum(sizes), bytes_per_value * max(sizes, default=0)
        scale = 1 + 4 / _SCALES_BLOCK if _settings(config).double_quantization else 4
        plain = 4 * self.trained_parameters(config, facts) + bytes_per_value * (facts.parameters - quantized)
        return plain + unpacked + int(quantized * (0.5 + scale / _BLOCK))


def _settings(config: RunConfig) -> Qlora:
    if config.method.qlora is None:
        raise TypeError("method.qlora is not set")
    return config.method.qlora
