"""LoRA's layers as one step of autograd: peft's values and gradients, and peft's own layers wherever that is not possible."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from trimtab_trainer.methods.fused_lora import FusedLinear, fuse_lora


def adapted(*, base_bias: bool = False, **settings: Any) -> PeftModel:
    torch.manual_seed(0)
    base = nn.ModuleDict({"layer": nn.Linear(12, 20, bias=base_bias), "other": nn.Linear(4, 4)})
    module = get_peft_model(base, LoraConfig(r=4, lora_alpha=6, target_modules=["layer"], **settings))
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return module


def layer(module: PeftModel) -> Any:
    return module.get_submodule("base_model.model.layer")


def passed(module: PeftModel, given: Tensor) -> dict[str, Tensor]:
    """What comes out, and all gradients of its squares' sum."""
    given = given.clone().requires_grad_()
    out = layer(module)(given)
    out.float().square().sum().backward()
    gradients = {name: part.grad for name, part in module.named_parameters() if part.grad is not None}
    module.zero_grad()
    assert given.grad is not None
    return {"out": out.detach(), "given": given.grad, **gradients}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [(7,), (2, 3), (2, 1, 3)], ids=str)
def test_values_and_gradients_are_those_of_peft(rows: tuple[int, ...], *, bias: bool) -> None:
    module, given = adapted(base_bias=bias), torch.randn(*rows, 12)
    expected = passed(module, given)
    fuse_lora(module)
    assert type(layer(module)) is FusedLinear
    found = passed(module, given)
    assert len(expected) == 4  # out, x, A and B
    torch.testing.assert_close(found, expected)


def test_under_bfloat16_it_is_no_farther_from_float32_than_peft() -> None:
    given = torch.randn(50, 12).bfloat16()
    exact = passed(adapted(), given.float())
    module = adapted()
    layer(module).base_layer.to(torch.bfloat16)
    layer(module).cast_input_dtype_enabled = False

    def distances() -> dict[str, float]:
        with torch.autocast("cpu", torch.bfloat16):
            found = passed(module, given)
        assert found["out"].dtype == torch.bfloat16
        assert {value.dtype for name, value in found.items() if "lora" in name} == {torch.float32}
        return {name: float((value.float() - exact[name]).norm() / exact[name].norm()) for name, value in found.items()}

    of_peft = distances()
    fuse_lora(module)
    for name, distance in distances().items():
        assert distance < max(0.01, 1.1 * of_peft[name]), name


def test_inputs_that_need_no_gradient_get_none() -> None:
    module = adapted()
    fuse_lora(module)
    given = torch.randn(3, 12)
    layer(module)(given).sum().backward()
    assert given.grad is None
    assert layer(module).lora_A["default"].weight.grad is not None


@pytest.mark.parametrize("rows", [(3,), (2, 3)], ids=str)
def test_what_comes_out_may_be_changed_in_place(rows: tuple[int, ...]) -> None:
    """As wav2vec 2.0 masks its features."""
    module, given = adapted(), torch.randn(*rows, 12)
    fuse_lora(module)
    out = layer(module)(given)
    out[..., 0] = 0.0
    out.sum().backward()
    assert layer(module).lora_B["default"].weight.grad[0].eq(0).all()


def test_without_the_adapter_it_is_the_base_model() -> None:
    module, given = adapted(), torch.randn(3, 12)
    fuse_lora(module)
    with module.disable_adapter():
        assert torch.equal(layer(module)(given), layer(module).base_layer(given))


def test_it_is_merged_and_saved_as_before() -> None:
    module, given = adapted(), torch.randn(3, 12)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    fuse_lora(module)
    assert module.state_dict().keys() == state.keys()
    expected = layer(module)(given)
    merged = module.merge_and_unload()
    assert type(merged["layer"]) is nn.Linear
    torch.testing.assert_close(merged["layer"](given), expected)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"use_dora": True}, id="DoRA"),
        pytest.param({"lora_dropout": 0.1}, id="dropout"),
        pytest.param({"lora_bias": True, "base_bias": True}, id="a bias beside B"),
    ],
)
def test_other_layers_stay_pefts(settings: dict[str, Any]) -> None:
    module = adapted(**settings)
    fuse_lora(module)
    assert not isinstance(layer(module), FusedLinear)


def test_beside_a_matrix_that_is_trained_it_stays_pefts() -> None:
    module = adapted()
    layer(module).base_layer.requires_grad_(requires_grad=True)
    fuse_lora(module)
    assert not isinstance(layer(module), FusedLinear)
