"""Attention in bfloat16 on a CPU: gradients are float32's, and so are the values of short documents and of one pass for both."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from trimtab_trainer.tasks.attention import packed_attention, sdpa_attention

HEADS, TOKENS, WIDTH = 2, 96, 16
MODULE = torch.nn.Identity()


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return sdpa_attention(MODULE, query, key, value, None, is_causal=True)[0]


def masked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    past = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    return sdpa_attention(MODULE, query, key, value, past[None, None])[0]


def biased(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    future = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
    mask = torch.zeros(1, 1, TOKENS, TOKENS, dtype=torch.bfloat16).masked_fill(future, -torch.inf)
    return sdpa_attention(MODULE, query, key, value, mask)[0]


def halves(*, gradients: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (1, HEADS, TOKENS, WIDTH)
    return [torch.randn(shape, generator=generator).bfloat16().requires_grad_(gradients) for _ in range(3)]


@pytest.mark.parametrize("attend", [plain, masked, biased])
@pytest.mark.parametrize("autocast", [False, True])
def test_with_gradients_it_is_float32s_rounded(attend: Callable[..., Tensor], *, autocast: bool) -> None:
    given = halves(gradients=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        attended = attend(*given)
    attended.sum().backward()
    exact = [part.detach().float().requires_grad_() for part in given]
    expected = scaled_dot_product_attention(*exact, is_causal=True).transpose(1, 2).bfloat16()
    expected.sum().backward()
    assert torch.equal(attended, expected)
    for part, reference in zip(given, exact, strict=True):
        assert part.grad is not None
        assert reference.grad is not None
        assert torch.equal(part.grad, reference.grad.bfloat16())


def within_documents(given: list[Tensor], lengths: tuple[int, ...]) -> Tensor:
    """PyTorch's own, in the precision it is given; of query, key and value."""
    documents = zip(*(part.split(lengths, dim=2) for part in given), strict=True)
    pieces = [scaled_dot_product_attention(*document, is_causal=True) for document in documents]
    return torch.cat(pieces, dim=2).transpose(1, 2)


def gradients_of(attended: Tensor, given: list[Tensor]) -> list[Tensor]:
    direction = torch.randn(attended.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    return [part.float() for part in torch.autograd.grad(attended, given, direction.to(attended.dtype))]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("lengths", "has_units", "precision"),
    [
        pytest.param((96,), True, torch.bfloat16, id="long"),
        pytest.param((40, 56), True, torch.float32, id="short"),
        pytest.param((96,), False, torch.float32, id="long, no units for bfloat16"),
    ],
)
def test_documents_have_values_of_the_precision_that_is_fast(
    lengths: tuple[int, ...],
    precision: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_units: bool,
    autocast: bool,
) -> None:
    monkeypatch.setattr("trimtab_trainer.tasks.attention.has_bfloat16_units", lambda: has_units)
    given = halves(gradients=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        attended = packed_attention(MODULE, *given, attention_mask=None, document_lengths=lengths)[0]
    assert torch.equal(attended, within_documents([part.to(precision) for part in given], lengths).bfloat16())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("lengths", [(96,), (40, 56)], ids=["long", "short"])
@pytest.mark.parametrize("size", [1, 4], ids=["small scores", "large scores"])
def test_documents_have_gradients_near_those_of_float32(lengths: tuple[int, ...], size: int, *, autocast: bool) -> None:
    query, key, value = halves(gradients=True)
    given = [(size * query).detach().requires_grad_(), key, value]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        attended = packed_attention(MODULE, *given, attention_mask=None, document_lengths=lengths)[0]
    in_halves = within_documents(given, lengths)
    exact = [part.detach().float().requires_grad_() for part in given]
    references = gradients_of(within_documents(exact, lengths), exact)
    found, of_halves = gradients_of(attended, given), gradients_of(in_halves, given)
    for ours, theirs, reference in zip(found, of_halves, references, strict=True):
        assert (ours - reference).norm() < (theirs - reference).norm()
        assert (ours - reference).norm() < 0.005 * reference.norm()


def test_without_gradients_it_is_bfloat16s() -> None:
    given = halves(gradients=False)
    expected = scaled_dot_product_attention(*given, is_causal=True).transpose(1, 2)
    assert torch.equal(plain(*given), expected)
