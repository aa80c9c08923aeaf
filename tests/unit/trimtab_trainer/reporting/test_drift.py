"""How far the weights moved, by layer."""

import pytest
import torch

from trimtab_trainer.reporting.drift import draw_drift, layer_of, measure_drift, render_drift, sample_weights


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.11.self_attn.q_proj.weight", "layer 11"),
        ("bert.encoder.layer.0.output.dense.bias", "layer 0"),
        ("transformer.h.3.attn.c_attn.weight", "layer 3"),
        ("base_model.model.model.layers.2.mlp.up_proj.lora_A.default.weight", "layer 2"),
        ("model.embed_tokens.weight", "embeddings"),
        ("bert.embeddings.word_embeddings.weight", "embeddings"),
        ("classifier.weight", "head"),
        ("lm_head.weight", "head"),
    ],
)
def test_layers(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def test_the_drift_of_a_sample_is_near_that_of_all_weights() -> None:
    torch.manual_seed(0)
    weights = {f"model.layers.{number}.mlp.weight": torch.randn(300, 500) for number in range(12)}
    weights |= {"model.embed_tokens.weight": torch.randn(10), "lm_head.weight": torch.zeros(4, 4)}
    start = sample_weights(weights)
    assert max(value.numel() for value in start.values()) <= 4096
    moved = {
        name: value + (number % 12) * 0.1 * torch.randn_like(value)
        for number, (name, value) in enumerate(weights.items())
    }
    drift = measure_drift(start, moved)
    assert [one.layer for one in drift] == ["embeddings", *(f"layer {number}" for number in range(12)), "head"]
    for number in range(12):
        assert drift[1 + number].change == pytest.approx(0.1 * number, rel=0.1)
        assert drift[1 + number].weight == pytest.approx(1, rel=0.1)
    assert draw_drift(drift, title="t").startswith(b"\x89PNG")
    assert "Most: layer 11" in render_drift(drift)


def test_a_layer_that_did_not_move_has_no_drift() -> None:
    weights = {"model.layers.0.weight": torch.randn(9, 9)}
    assert measure_drift(sample_weights(weights), weights)[0].change == 0
