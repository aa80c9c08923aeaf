"""Learning rates layer by layer, weight decay by group, and the step in which each layer begins to move."""

from typing import Any

import pytest
import torch
from torch import nn

from trimtab_trainer.contract.spec import Training
from trimtab_trainer.methods.layers import Layers, is_below
from trimtab_trainer.optimizer import make_optimizer, set_learning_rate
from trimtab_trainer.parameter_groups import first_steps, moving
from trimtab_trainer.practices.schedule import learning_rate

LLAMA = {
    "model.embed_tokens.weight": 3,
    "model.layers.0.mlp.up_proj.weight": 2,
    "model.layers.1.self_attn.q_proj.weight": 1,
    "model.layers.2.input_layernorm.weight": 0,
    "model.norm.weight": 0,
    "lm_head.weight": 0,
}
"""Layers above each parameter."""


def training(**changes: Any) -> Training:
    return Training.model_validate(changes)


@pytest.mark.parametrize(
    ("name", "stack", "distance"),
    [
        *(pytest.param(name, LLAMA, distance, id=name) for name, distance in LLAMA.items()),
        pytest.param("base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight", None, 1, id="peft"),
        pytest.param("bert.encoder.layer.0.attention.output.dense.weight", None, 1, id="bert"),
        pytest.param("bert.embeddings.position_embeddings.weight", None, 2, id="bert: positions"),
        pytest.param("classifier.0.weight", None, 0, id="a head with numbers"),
        pytest.param("transformer.wte.weight", None, 2, id="gpt2: words"),
        pytest.param("wav2vec2.feature_extractor.conv_layers.0.conv.weight", None, 2, id="wav2vec2: filters"),
        pytest.param("embed_out.weight", None, 0, id="a head named embed"),
    ],
)
def test_the_distance_from_the_top_is_read_from_names(name: str, stack: dict[str, int] | None, distance: int) -> None:
    others = ["base_model.model.model.layers.1.a", "bert.encoder.layer.1.a", "transformer.h.1.a"]
    assert Layers(stack or [*others, name]).distance(name) == distance


def test_encoder_and_decoder_are_counted_apart() -> None:
    layers = Layers(["model.encoder.layers.3.a", "model.decoder.layers.1.a", "model.decoder.layers.0.a"])
    assert [layers.distance("model.decoder.layers.0.a"), layers.distance("model.encoder.layers.3.a")] == [1, 0]
    assert is_below("model.encoder.embed_positions.weight")


@pytest.mark.parametrize("step", [0, 3, 9])
def test_the_rate_of_each_layer_at_a_step_is_the_formulas(step: int) -> None:
    settings = training(layerwiseLearningRateDecay=0.5, schedule={"linear": {"warmupRatio": 0.2}})
    trainable = {name: nn.Parameter(torch.zeros(2, 2)) for name in LLAMA}
    optimizer = make_optimizer(trainable, settings)
    rate = learning_rate(step, total_steps=10, schedule=settings.schedule, peak=0.1)
    set_learning_rate(optimizer, rate)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert {name: rates[id(parameter)] for name, parameter in trainable.items()} == pytest.approx(
        {name: rate * 0.5**distance for name, distance in LLAMA.items()}
    )


def test_what_must_not_decay_does_not() -> None:
    trainable = {"layer.rotation": nn.Parameter(torch.ones(2, 2)), "layer.weight": nn.Parameter(torch.ones(2, 2))}
    optimizer = make_optimizer(trainable, training(weightDecay=0.5), undecayed=(".rotation",))
    set_learning_rate(optimizer, 1.0)
    for parameter in trainable.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert [float(parameter[0, 0]) for parameter in trainable.values()] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"everySteps": 10}, [30, 20, 10, 0, 0, 0], id="one layer every ten steps"),
        pytest.param({"everySteps": 10, "layersPerStage": 2}, [10, 10, 0, 0, 0, 0], id="two layers at once"),
        pytest.param({"everyEpochs": 0.5}, [10, 7, 4, 0, 0, 0], id="by epochs of seven steps"),
    ],
)
def test_layers_begin_to_move_from_the_top(settings: dict[str, Any], expected: list[int]) -> None:
    starts = first_steps(LLAMA, training(gradualUnfreezing=settings), steps_per_epoch=7)
    assert list(starts.values()) == expected


def test_the_first_stage_has_something_to_train() -> None:
    names = ["model.layers.0.a", "model.layers.1.a", "model.layers.2.a"]
    starts = first_steps(names[:2], training(gradualUnfreezing={"everySteps": 5}), steps_per_epoch=1)
    assert list(starts.values()) == [5, 0]


def test_frozen_parameters_have_no_gradient() -> None:
    trainable = {"a": nn.Parameter(torch.ones(1)), "b": nn.Parameter(torch.ones(1))}
    trainable["b"].grad = torch.ones(1)
    assert moving(trainable, {"a": 0, "b": 2}, update=1) == [trainable["a"]]
    assert (trainable["b"].requires_grad, trainable["b"].grad) == (False, None)
    assert len(moving(trainable, {"a": 0, "b": 2}, update=2)) == 2
