"""The override reaches every dropout of a model, and none of an adapter's."""

import pytest
import torch
from tests.support.training import make_job
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig, LlamaConfig, LlamaForCausalLM

from trimtab_trainer.errors import TrainerError
from trimtab_trainer.methods.lora import LowRankAdapters
from trimtab_trainer.practices.dropout import override_dropout

SIZES = {
    "vocab_size": 20,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def test_a_bert_drops_as_told() -> None:
    model = AutoModelForSequenceClassification.from_config(BertConfig(**SIZES))
    override_dropout(model, 0.0)
    model.train()
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids).logits, model(ids).logits)
    override_dropout(model, 0.5)
    assert not torch.equal(model(ids).logits, model(ids).logits)


def test_a_llama_drops_in_its_attention_and_its_adapter_keeps_its_own() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    override_dropout(model, 0.4)
    assert model.model.layers[0].self_attn.attention_dropout == 0.4
    adapted = LowRankAdapters().apply(make_job(method={"lora": {"dropout": 0.25}}), model, [], None)
    assert {module.p for module in adapted.modules() if isinstance(module, nn.Dropout)} == {0.25}


def test_a_model_without_dropout_is_refused() -> None:
    with pytest.raises(TrainerError, match="Linear has no dropout"):
        override_dropout(nn.Linear(1, 1), 0.1)
