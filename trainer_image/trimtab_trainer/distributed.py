"""Several processes: who they are, sums over all of them, and what happens when one is gone.

Every rank works on its share of each global batch, and the gradients are summed. Losses are divided by the targets of the
whole global batch, so the sum over the ranks IS the gradient of one process with one large batch. Every rank holds all
weights and the same optimizer state, or its share of both (`sharding.py`).
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.world import World

PEER_TIMEOUT = timedelta(minutes=10)
"""After this, a silent peer is lost. A peer whose process ended is noticed at once, because its connection closes."""
BUCKET_ELEMENTS = 2**24
"""Gradients summed in one message: 64 MiB in float32."""


@contextmanager
def process_group(world: World, device: torch.device, timeout: timedelta = PEER_TIMEOUT) -> Iterator[None]:
    """Meet the other processes (env MASTER_ADDR, MASTER_PORT)."""
    if world.world_size == 1:
        yield
        return
    os.environ.setdefault("MASTER_PORT", str(mounts.RENDEZVOUS_PORT))
    # Debian's torch is built without libuv, and asks for it all the same; the older store serves as well.
    os.environ.setdefault("USE_LIBUV", "0")
    with losing_a_peer("meeting the other processes"):
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", rank=world.rank, world_size=world.world_size, timeout=timeout
        )
    yield
    # The group is not destroyed: with gloo (torch 2.6) that hangs now and then when the peers leave at the same time. The
    # process ends soon, and so do its connections.


@contextmanager
def losing_a_peer(doing: str, *, among_other_things: bool = False) -> Iterator[None]:
    """A collective that fails means that a peer is gone: this attempt ends, the next one resumes.

    Where the block does more than talk to peers, an error must say that it is about them.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, TimeoutError) as error:
        message = str(error)
        if "out of memory" in message.lower() or (among_other_things and not _is_about_peers(error)):
            raise
        first_line = message.splitlines()[0] if message else type(error).__name__
        raise TrainerError(
            TrainerReason.PEER_LOST, f"Another process of this attempt was lost while {doing}: {first_line}"
        ) from error


def _is_about_peers(error: Exception) -> bool:
    """Torch's own class, or what gloo says."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def sum_over_ranks(values: Iterable[float], device: torch.device) -> list[float]:
    """Element-wise sum, in float64."""
    values = list(values)
    if not _is_several():
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    with losing_a_peer("adding up numbers"):
        dist.all_reduce(tensor)
    return [float(value) for value in tensor]


def sum_counts(sums: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Sum of dictionaries of numbers and arrays that have the same keys and shapes on every rank."""
    names = sorted(sums)
    flat = np.concatenate([np.asarray(sums[name], np.float64).reshape(-1) for name in names])
    total, result, start = np.asarray(sum_over_ranks(flat.tolist(), device)), {}, 0
    for name in names:
        size = np.size(sums[name])
        part = total[start : start + size]
        result[name] = part.reshape(np.shape(sums[name])) if np.ndim(sums[name]) else float(part[0])
        start += size
    return result


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Every rank's gradient becomes the sum of all; a rank that had nothing to do counts as zero."""
    bucket: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        if sum(gradient.numel() for gradient in bucket) >= BUCKET_ELEMENTS:
            _sum_bucket(bucket)
            bucket = []
    _sum_bucket(bucket)


def _sum_bucket(gradients: list[Tensor]) -> None:
    if not gradients or not _is_several():
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with losing_a_peer("adding up gradients"):
        dist.all_reduce(flat)
    for gradient, summed in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


def from_main(tensor: Tensor) -> Tensor:
    """Rank 0's tensor on every rank; others give one of the same shape, which is overwritten."""
    if _is_several():
        with losing_a_peer("sharing the state"):
            dist.broadcast(tensor, src=0)
    return tensor


def rows_of_rank(whole: Tensor) -> Tensor:
    """The rows that are this rank's share of a tensor, as FSDP2 and `Tensor.chunk` cut: the last ranks may have fewer, or none."""
    size = -(-len(whole) // dist.get_world_size())
    return whole[dist.get_rank() * size : (dist.get_rank() + 1) * size]


@torch.no_grad()
def gather_rows(rows: Tensor, shape: torch.Size) -> Tensor | None:
    """On rank 0 the tensor that `rows_of_rank` had cut; on the others None."""
    padded = rows.new_zeros(-(-shape[0] // dist.get_world_size()), *shape[1:])
    padded[: len(rows)] = rows
    pieces = [torch.empty_like(padded) for _ in range(dist.get_world_size())] if dist.get_rank() == 0 else None
    with losing_a_peer("gathering the state"):
        dist.gather(padded, pieces, dst=0)
    return torch.cat(pieces)[: shape[0]] if pieces else None


def bytes_from_main(data: bytes, device: torch.device) -> bytes:
    """Rank 0's bytes on every rank; torch's own object broadcast would pickle."""
    if not _is_several():
        return data
    size = int(from_main(torch.tensor([len(data)], dtype=torch.long, device=device)))
    content = torch.zeros(size, dtype=torch.uint8, device=device)
    if dist.get_rank() == 0 and size:
        content.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return bytes(from_main(content).cpu().numpy().tobytes())


def wait_for_all(device: torch.device) -> None:
    """Everybody is here."""
    sum_over_ranks([0.0], device)


def _is_several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
