"""A copy of the training state in one flat block of memory that already is a safetensors file.

The format (https://huggingface.co/docs/safetensors#format) is a length, a JSON header and the tensors' bytes one after the
other. The header depends on names, types and shapes alone, so saving is a copy into place, and nothing is serialised later.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from trimtab_trainer.sharding import Share

_ALIGNMENT = 8
_CODES: dict[Any, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

Signature = tuple[tuple[str, Any, tuple[int, ...]], ...]


def give_shares(tensors: Mapping[str, Any]) -> None:
    """What the other processes do while the main one takes a snapshot of a state that is spread over all."""
    for name, _, _ in signature_of(tensors):
        tensors[name].collect()


def signature_of(tensors: Mapping[str, Any]) -> Signature:
    """Names, types and shapes, in the order of the file: larger element types first, so that every tensor is aligned."""
    entries = [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]
    return tuple(sorted(entries, key=lambda entry: (-entry[1].itemsize, entry[0])))


def state_bytes(signature: Signature) -> int:
    """Bytes of a state's tensors."""
    return sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in signature)


@dataclass(frozen=True)
class _Layout:
    """Where each tensor lies in the block."""

    head: bytes
    """The file up to the first tensor."""
    size: int
    """Bytes of the tensors."""
    views: list[torch.Tensor]
    """The block, seen as the tensors, in the order of the signature."""


class SnapshotBuffer:
    """Memory for one snapshot, pinned where the state lives on a GPU, so that copies run beside the computation.

    It is allocated once and grows when it must; a state whose set of tensors changes from save to save costs a new header.
    """

    def __init__(self) -> None:
        self._flat = torch.empty(0, dtype=torch.uint8)
        self._layouts: dict[Signature, _Layout] = {}
        self._layout = _Layout(b"", 0, [])
        self._copied: Any = None

    @torch.no_grad()
    def copy_from(self, tensors: Mapping[str, Any]) -> None:
        """Take the state over. On a GPU this only queues copies, before whatever the stream computes next.

        Of a tensor that is spread over processes, each gives its share when the order of the signature comes to it.

        Raises:
            ValueError: a tensor has a type that safetensors does not know.
        """
        signature = signature_of(tensors)
        gpu = next((tensor.device for tensor in tensors.values() if tensor.is_cuda), None)
        self._layout = self._layout_for(signature, pinned=gpu is not None)
        if signature:
            sources = [tensors[name] for name, _, _ in signature]
            if any(isinstance(source, Share) for source in sources):
                for view, source in zip(self._layout.views, sources, strict=True):
                    whole = source.collect() if isinstance(source, Share) else source
                    view.copy_(whole, non_blocking=gpu is not None)
            else:
                torch._foreach_copy_(self._layout.views, sources, non_blocking=gpu is not None)
        if gpu is not None:
            self._copied = torch.cuda.current_stream(gpu).record_event()

    def pieces(self) -> list[bytes | memoryview]:
        """The file's bytes, without a copy; waits for the copies that a GPU still makes."""
        if self._copied is not None:
            self._copied.synchronize()
        return [self._layout.head, memoryview(self._flat.numpy())[: self._layout.size]]

    def _layout_for(self, signature: Signature, *, pinned: bool) -> _Layout:
        size = state_bytes(signature)
        if size > len(self._flat) or (pinned and not self._flat.is_pinned()):
            self._layouts.clear()
            self._layout, self._flat = _Layout(b"", 0, []), torch.empty(0, dtype=torch.uint8)
            self._flat = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        if signature not in self._layouts:
            self._layouts[signature] = _lay_out(signature, self._flat)
        return self._layouts[signature]


def _lay_out(signature: Signature, flat: torch.Tensor) -> _Layout:
    entries: dict[str, Any] = {}
    views: list[torch.Tensor] = []
    end = 0
    for name, dtype, shape in signature:
        if dtype not in _CODES:
            raise ValueError(f"a checkpoint cannot hold {dtype} ('{name}'): cast it, or put it into the document")
        start, end = end, end + dtype.itemsize * math.prod(shape)
        entries[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        views.append(flat[start:end].view(dtype).view(shape))
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    return _Layout(len(header).to_bytes(8, "little") + header, end, views)
