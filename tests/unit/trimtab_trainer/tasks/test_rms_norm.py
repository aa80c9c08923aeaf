"""Llama's norm as one step of autograd: the values and gradients of transformers, and only where a norm computes what Llama's does."""

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from trimtab_trainer.tasks.rms_norm import FusedRMSNorm, fuse_norms

CPU = torch.device("cpu")
WIDTH = 48


class CubicNorm(LlamaRMSNorm):
    """Llama's code with another number in it."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(3).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(input_dtype)


def norm_of(kind: type[nn.Module], *, trained: bool = True) -> nn.Module:
    norm = kind(WIDTH, 1e-5)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(WIDTH, generator=torch.Generator().manual_seed(0)))
    return norm.requires_grad_(trained)


def fused(norm: nn.Module) -> nn.Module:
    fuse_norms(norm, CPU)
    return norm


def rows(*shape: int) -> Tensor:
    return 3 * torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(1))


def passed(norm: nn.Module, given: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of its squares' sum."""
    given = given.clone().requires_grad_()
    out = norm(given)
    out.float().square().sum().backward()
    assert given.grad is not None
    return [out.detach(), given.grad, *(part.grad for part in norm.parameters() if part.grad is not None)]


@pytest.mark.parametrize("kind", [LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm])
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
def test_values_and_gradients_are_those_of_transformers(
    kind: type[nn.Module], shape: tuple[int, ...], *, trained: bool
) -> None:
    expected = passed(norm_of(kind, trained=trained), rows(*shape))
    norm = fused(norm_of(kind, trained=trained))
    assert type(norm) is FusedRMSNorm
    found = passed(norm, rows(*shape))
    assert len(found) == 2 + trained
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=str)
def test_rows_in_bfloat16_come_out_as_in_transformers_and_no_farther_from_float32(weights: torch.dtype) -> None:
    given = rows(50).bfloat16()
    exact = passed(norm_of(LlamaRMSNorm).to(weights).float(), given.float())
    theirs = passed(norm_of(LlamaRMSNorm).to(weights), given)
    ours = passed(fused(norm_of(LlamaRMSNorm).to(weights)), given)
    assert [part.dtype for part in ours] == [part.dtype for part in theirs]
    for one, other, reference in zip(ours, theirs, exact, strict=True):
        assert (one.float() - reference).norm() <= (other.float() - reference).norm()


def test_without_gradients_it_is_transformers_bit_for_bit() -> None:
    norm, given = norm_of(LlamaRMSNorm), rows(50).bfloat16()
    with torch.no_grad():
        assert torch.equal(fused(norm)(given), norm_of(LlamaRMSNorm)(given))


@pytest.mark.parametrize(
    ("norm", "device"),
    [
        pytest.param(GemmaRMSNorm(WIDTH), CPU, id="Gemma adds one to the weight"),
        pytest.param(CubicNorm(WIDTH), CPU, id="another power"),
        pytest.param(nn.LayerNorm(WIDTH), CPU, id="LayerNorm"),
        pytest.param(nn.Identity(), CPU, id="no norm"),
        pytest.param(LlamaRMSNorm(WIDTH), torch.device("meta"), id="on another device"),
    ],
)
def test_other_norms_stay_what_they_are(norm: nn.Module, device: torch.device) -> None:
    kind = type(norm)
    fuse_norms(norm, device)
    assert type(norm) is kind
