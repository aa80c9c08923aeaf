import pytest
import torch
from safetensors.torch import load

from trimtab_trainer.checkpoint.snapshot import SnapshotBuffer

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
]


def snapshot_of(tensors: dict[str, torch.Tensor], buffer: SnapshotBuffer | None = None) -> bytes:
    buffer = buffer or SnapshotBuffer()
    buffer.copy_from(tensors)
    return b"".join(buffer.pieces())


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"scalar": torch.tensor(3.5)}, id="a scalar"),
        pytest.param({"empty": torch.empty(0, 4), "one": torch.ones(1)}, id="an empty tensor"),
        pytest.param({"flags": torch.tensor([True, False]), "rng": torch.get_rng_state()}, id="bool and bytes"),
        pytest.param({"strided": torch.arange(12.0).reshape(3, 4).t()}, id="not contiguous"),
        pytest.param({"λ.weight": torch.ones(2), 'a "quoted" name': torch.zeros(3)}, id="odd names"),
        pytest.param(
            {str(dtype): torch.arange(-7, 8).to(dtype) for dtype in DTYPES}
            | {"z.odd": torch.ones(3, dtype=torch.uint8)},
            id="every type",
        ),
        pytest.param(
            {"special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]), "bf16": torch.randn(5).bfloat16()},
            id="special values",
        ),
    ],
)
def test_a_snapshot_is_a_safetensors_file_of_the_same_bits(tensors: dict[str, torch.Tensor]) -> None:
    loaded = load(snapshot_of(tensors))
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(bits(loaded[name]), bits(tensor))


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def test_a_snapshot_keeps_what_was_there_when_it_was_taken() -> None:
    tensors = {"weight": torch.ones(4, requires_grad=True)}
    buffer = SnapshotBuffer()
    buffer.copy_from(tensors)
    with torch.no_grad():
        tensors["weight"].add_(1)
    assert load(b"".join(buffer.pieces()))["weight"].tolist() == [1, 1, 1, 1]


def test_a_buffer_follows_a_state_that_changes_its_shape() -> None:
    buffer = SnapshotBuffer()
    small, large = {"a": torch.ones(3)}, {"a": torch.zeros(3), "best/a": torch.full((70,), 2.0)}
    for tensors in (small, large, small, large):
        loaded = load(snapshot_of(tensors, buffer))
        assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
            name: tensor.tolist() for name, tensor in tensors.items()
        }


def test_a_type_that_safetensors_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match="'spectrum'"):
        snapshot_of({"spectrum": torch.ones(2, dtype=torch.complex64)})
