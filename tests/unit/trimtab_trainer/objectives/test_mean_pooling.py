"""The layer that makes a text's first token the mean over its tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny_models import write_tiny_llama
from torch.nn.functional import cosine_similarity, layer_norm
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from trimtab_trainer.objectives.mean_pooling import pool_by_mean, pools_by_mean

SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "num_labels": 3,
    "pad_token_id": 0,
}
CLASSIFIERS = {
    "bert": (BertConfig, BertForSequenceClassification, "classifier"),
    "roberta": (RobertaConfig, RobertaForSequenceClassification, "classifier.out_proj"),
}
IDS = torch.randint(1, 50, (4, 9), generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[1] * length + [0] * (9 - length) for length in (9, 7, 4, 2)])
INPUTS = {"input_ids": IDS * MASK, "attention_mask": MASK}


def make(kind: str) -> tuple[Any, str]:
    torch.manual_seed(5)
    config, model, head = CLASSIFIERS[kind]
    made = model(config(**SHAPE)).eval()
    with torch.no_grad():  # tokens as different as trained ones are
        made.base_model.embeddings.word_embeddings.weight.mul_(30)
    return made, head


@torch.no_grad()
def read_by_the_head(model: Any, head: str) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    handle = model.get_submodule(head).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(**INPUTS)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_the_head_reads_the_mean_over_the_tokens_and_not_over_the_padding(kind: str) -> None:
    model, head = make(kind)
    before = read_by_the_head(model, head)
    with torch.no_grad():
        hidden = model.base_model(**INPUTS).last_hidden_state
    means = (hidden * MASK[..., None]).sum(1) / MASK.sum(1, keepdim=True)
    expected = layer_norm(means, (32,))
    assert pool_by_mean(model)
    assert cosine_similarity(read_by_the_head(model, head), expected).min() > 0.97
    assert cosine_similarity(before, expected).max() < 0.9


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_what_is_saved_is_an_ordinary_classifier(kind: str, tmp_path: Path) -> None:
    model, _ = make(kind)
    pool_by_mean(model)
    model.save_pretrained(tmp_path)
    loaded, told = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.config.num_hidden_layers == 3
    with torch.no_grad():
        assert torch.allclose(loaded.eval()(**INPUTS).logits, model(**INPUTS).logits, atol=1e-6)


def test_another_architecture_stays_as_it_is(tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(write_tiny_llama(tmp_path), num_labels=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not pool_by_mean(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


MEAN, FIRST = "pooling_mode_mean_tokens", "pooling_mode_cls_token"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({"word_embedding_dimension": 384, FIRST: False, MEAN: True}, True, id="the mean"),
        pytest.param({"pooling_mode": "mean"}, True, id="the mean, in another version's words"),
        pytest.param({FIRST: True, MEAN: False}, False, id="the first token"),
        pytest.param({FIRST: True, MEAN: True}, False, id="both, side by side"),
        pytest.param([], False, id="something else"),
        pytest.param(None, False, id="no sentence encoder"),
    ],
)
def test_the_models_files_say_how_it_pools(said: object, expected: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a table's column
    if said is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(said))
    assert pools_by_mean(tmp_path) == expected
