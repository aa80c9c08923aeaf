"""How far a model does not move."""

from typing import Any

import pytest
import torch
from tests.support.training import make_job
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from trimtab_trainer.methods.frozen import frozen_prefix
from trimtab_trainer.methods.registry import method_of

SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "vocab_size": 16}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=4, n_head=2, vocab_size=16, n_positions=16)),
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(d_model=8, vocab_size=16, encoder_attention_heads=2, decoder_attention_heads=2, decoder_ffn_dim=8)
    ),
}


@pytest.mark.parametrize(
    ("name", "partial", "layers"),
    [
        pytest.param("llama", {"lastLayers": 1}, 3, id="the last of four layers"),
        pytest.param("bert", {"lastLayers": 3}, 1, id="the last three of four"),
        pytest.param("llama", {"lastLayers": 4}, 0, id="all layers"),
        pytest.param("llama", {"lastLayers": 1, "embeddings": True}, 0, id="embeddings move"),
        pytest.param("llama", {"patterns": [r".*layers\.2\..*"]}, 2, id="a layer in the middle"),
        pytest.param("bert", {"patterns": [".*bias"]}, 0, id="biases everywhere"),
        pytest.param("llama", {"patterns": [r"model\.norm\.weight"]}, 4, id="nothing but the norm above"),
        pytest.param("bart", {"lastLayers": 1}, 0, id="two stacks"),
    ],
)
def test_the_first_layers_are_frozen(name: str, partial: dict[str, Any], layers: int) -> None:
    config = make_job(method={"partial": partial})
    model = method_of(config).apply(config, MODELS[name](), (), None)
    assert len(frozen_prefix(model).layers) == layers


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_what_is_still_has_no_dropout(name: str) -> None:
    config = make_job(method={"partial": {"lastLayers": 1}})
    model = method_of(config).apply(config, MODELS[name](), (), None).train()
    for part in method_of(config).still_parts(model):
        part.eval()
    entering = []
    layer = next(module for own, module in model.named_modules() if own.endswith(".3"))
    layer.register_forward_pre_hook(lambda _, arguments: entering.append(arguments[0]))
    for _ in range(2):
        model(torch.arange(8)[None])
    assert torch.equal(*entering)
    assert layer.training
