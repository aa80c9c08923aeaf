"""Which part of a trunk's output is kept, and that what is kept comes back as it was, from memory and from a file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from trimtab_trainer.features.layout import Part, Positions, parts_read
from trimtab_trainer.features.table import FeatureTable

LENGTHS = [4, 2, 3]


def states() -> Tensor:
    """[rows, positions, width], nothing of which is 0."""
    return torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1)) + 1


@pytest.mark.parametrize(
    ("read", "lengths", "expected"),
    [
        pytest.param(lambda value: value[:, 0], LENGTHS, Positions.FIRST, id="the first token"),
        pytest.param(lambda value: value[range(3), [3, 1, 2]], LENGTHS, Positions.LAST, id="the last token"),
        pytest.param(lambda value: value, LENGTHS, Positions.EACH, id="every token"),
        pytest.param(lambda value: value[:, 0] * 0, LENGTHS, Positions.EACH, id="a head of zeros tells nothing"),
        pytest.param(lambda value: value.amax(1), LENGTHS, Positions.EACH, id="a maximum"),
        pytest.param(lambda value: value[:, 0], [0, 0, 0], Positions.FIRST, id="the first patch"),
        pytest.param(lambda value: value[:, 1:].mean(1), [0, 0, 0], Positions.WHOLE, id="patches"),
        pytest.param(lambda value: value[:, :2], [1, 1, 1], Positions.WHOLE, id="rows of another shape than the text"),
    ],
)
def test_what_the_head_reads_is_found(
    read: Callable[[Tensor], Tensor], lengths: list[int], expected: Positions
) -> None:
    value = states().requires_grad_()
    [gradient] = torch.autograd.grad(read(value).square().sum(), [value])
    [part] = parts_read({"last_hidden_state": value}, {"last_hidden_state": gradient}, lengths)
    assert part.positions is expected


def test_texts_in_a_single_row_are_kept_text_by_text() -> None:
    value = states().reshape(1, 12, 5)[:, : sum(LENGTHS)]
    [part] = parts_read({"states": value}, {"states": torch.ones_like(value)}, LENGTHS)
    assert (part.positions, part.shape) == (Positions.PACKED, (5,))


@pytest.mark.parametrize("shape", [(1, 12, 5), (2, 4, 5)], ids=["a row of another length", "fewer rows"])
def test_what_does_not_lie_row_by_row_is_not_kept(shape: tuple[int, ...]) -> None:
    value = torch.ones(shape)
    assert parts_read({"states": value}, {"states": value}, LENGTHS) == []


def test_what_has_no_gradient_is_not_kept() -> None:
    assert parts_read({"last_hidden_state": states()}, {"last_hidden_state": None}, LENGTHS) == []


PARTS = [
    pytest.param(Part("x", Positions.WHOLE, torch.float32, (4, 5)), lambda value: value, id="whole"),
    pytest.param(Part("x", Positions.FIRST, torch.float32, (5,)), lambda value: value[:, :1], id="first"),
    pytest.param(Part("x", Positions.LAST, torch.float32, (5,)), lambda value: value[range(3), [3, 1, 2]], id="last"),
    pytest.param(
        Part("x", Positions.EACH, torch.bfloat16, (5,)),
        lambda value: torch.cat([value[0, :4], value[1, :2], value[2, :3]]),
        id="each, in bfloat16",
    ),
]


def test_packed_texts_come_back_in_any_order() -> None:
    part = Part("x", Positions.PACKED, torch.float32, (5,))
    table = FeatureTable([part], LENGTHS, None)
    packed = states().reshape(1, 12, 5)[:, : sum(LENGTHS)]
    table.put([0, 1, 2], {"x": packed})
    first, second, third = packed[0].split(LENGTHS)
    assert torch.equal(table.get([2, 0, 2, 1], torch.device("cpu"))["x"][0], torch.cat([third, first, third, second]))


@pytest.mark.parametrize("name", ["", "features.safetensors"], ids=["memory", "file"])
@pytest.mark.parametrize(("part", "read"), PARTS)
def test_rows_come_back_as_they_were(part: Part, read: Callable[[Tensor], Tensor], name: str, tmp_path: Path) -> None:
    file = tmp_path / name if name else None
    # the batch's rows are the table's rows 4, 0 and 2
    table = FeatureTable([part], [2, 9, 3, 9, 4], file)
    value = states().to(part.dtype)
    table.put([4, 0, 2], {"x": value})
    found = table.get([4, 0, 2], torch.device("cpu"))["x"]
    assert torch.equal(read(found), read(value))
    assert found.dtype == value.dtype
    again = table.get([2], torch.device("cpu"))["x"]
    assert torch.equal(again[0], found[2, : again.shape[1]])
    if file:
        rows = load_file(file)["x"]
        assert rows.shape == (part.entries([2, 9, 3, 9, 4]), *part.shape)
