"""A copy of the training state in one flat block of memory that already is a safetensors file.

The format (https://huggingface.co/docs/safetensors#format) is a length, a JSON header and the tensors' bytes one after the other.
The header depends on names, types and shapes alone, so it is made once; saving is a copy into place, and nothing is
serialised later.
"""

import json
from collections.abc import Mapping
from typing import Any, Self

import torch

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


def signature_of(tensors: Mapping[str, torch.Tensor]) -> Signature:
    """Names, types and shapes, in the order of the file: larger element types first, so that every tensor is aligned."""
    entries = [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]
    return tuple(sorted(entries, key=lambda entry: (-entry[1].itemsize, entry[0])))


class SnapshotBuffer:
    """Memory for one snapshot, pinned where the state lives on a GPU, so that copies run beside the computation."""

    def __init__(self, signature: Signature, *, pinned: bool) -> None:
        self.signature = signature
        entries: dict[str, Any] = {}
        end = 0
        for name, dtype, shape in signature:
            if dtype not in _CODES:
                raise ValueError(f"a checkpoint cannot hold {dtype} ('{name}'); cast it or put it into the document")
            start, end = end, end + dtype.itemsize * _product(shape)
            entries[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        header += b" " * (-len(header) % _ALIGNMENT)
        self._head = len(header).to_bytes(8, "little") + header
        self._flat = torch.empty(end, dtype=torch.uint8, pin_memory=pinned)
        # Touch every page now: the first snapshot shall not pay for it.
        self._flat.fill_(0)
        self._views = [
            self._flat[slice(*entries[name]["data_offsets"])].view(dtype).view(shape)
            for name, dtype, shape in signature
        ]
        self._copied: Any = None

    @classmethod
    def for_state(cls, signature: Signature, tensors: Mapping[str, torch.Tensor]) -> Self:
        """A buffer that fits this state."""
        return cls(signature, pinned=any(tensor.is_cuda for tensor in tensors.values()))

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self._head) + len(self._flat)

    @torch.no_grad()
    def copy_from(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take the state over. On a GPU this only queues copies, before whatever the stream computes next."""
        sources = [tensors[name] for name, _, _ in self.signature]
        if sources:
            torch._foreach_copy_(self._views, sources, non_blocking=True)
        if any(source.is_cuda for source in sources):
            self._copied = torch.cuda.Event()
            self._copied.record()

    def pieces(self) -> list[bytes | memoryview]:
        """The file's bytes, without a copy; waits for the copies that a GPU still makes."""
        if self._copied is not None:
            self._copied.synchronize()
        return [self._head, memoryview(self._flat.numpy())]


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for length in shape:
        result *= length
    return result
