"""The device of this process, and the arithmetic that pays on it."""

import math
import time
from importlib.metadata import version
from typing import Any

import torch
from threadpoolctl import ThreadpoolController
from transformers.integrations.liger import apply_liger_kernel
from transformers.utils import is_liger_kernel_available

from trimtab_trainer import logs
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.spec import Distribution
from trimtab_trainer.errors import TrainerError

FASTER_BY = 1.3
"""bfloat16 must beat float32 by this factor in a trial multiplication before a CPU run uses it."""


def choose_device(distribution: Distribution, *, local_rank: int) -> torch.device:
    """The accelerator of this process, or the CPU where the job asks for none.

    Raises:
        TrainerError: ConfigInvalid where accelerators are asked for and none is visible.
    """
    if distribution.accelerators_per_node == 0:
        return torch.device("cpu")
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if visible <= local_rank:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`distribution.acceleratorsPerNode: {distribution.accelerators_per_node}` needs as many accelerators in the pod; "
            f"PyTorch {torch.__version__} sees {visible}. Use a profile with an accelerator and a CUDA image, or set 0.",
        )
    return torch.device("cuda", local_rank)


def use_fused_kernels(module: Any, device: torch.device) -> None:
    """Liger's kernels for norms, rotations and gates (Hsu et al., 2024, arXiv:2410.10989), where image and accelerator have them.

    Losses stay ours: they never hold all logits either.
    """
    if device.type == "cuda" and is_liger_kernel_available():
        apply_liger_kernel(module, {"cross_entropy": False, "fused_linear_cross_entropy": False})
        replaced = sum(
            "forward" in vars(part) for part in module.modules()
        )  # none in architectures that it does not know
        logs.fact("fused_kernels", library="liger-kernel", version=version("liger-kernel"), modules=replaced)


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products. `auto` measures on CPUs: with AMX bfloat16 is several times faster, without it slower.

    Under bfloat16 a frozen layer's output is rounded before a small adapter's part is added, which swallows tiny updates:
    the first steps of a LoRA gain less, the end is the same (SmolLM2, 40 steps: 0.89 and 0.90 exact match).

    Raises:
        TrainerError: ConfigInvalid for bfloat16 on an accelerator without it.
    """
    if wanted == "float32":
        return torch.float32
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported()
        if wanted == "bfloat16" and not has_it:
            raise TrainerError(
                TrainerReason.CONFIG_INVALID,
                f"`precision: bfloat16` needs an accelerator that has it; {torch.cuda.get_device_name(device)} does not. Use auto.",
            )
        return torch.bfloat16 if has_it else torch.float32
    if wanted == "bfloat16":
        return torch.bfloat16
    return torch.bfloat16 if has_bfloat16_units() and bfloat16_is_faster() else torch.float32


def precision_of_products(given: torch.Tensor) -> torch.dtype:
    """In which a tensor is multiplied: autocast's inside it, else its own."""
    device = given.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else given.dtype


def leave_threads_to_torch(precision: torch.dtype, device: torch.device) -> None:
    """Under bfloat16 OpenBLAS multiplies only what attention gives it, from threads that torch has started already.

    Its own threads would fight with those for the CPUs: attention's way back was measured 16 times slower.
    """
    if device.type == "cpu" and precision == torch.bfloat16:
        ThreadpoolController().select(internal_api="openblas").limit(limits=1)


def has_bfloat16_units() -> bool:
    """The CPU has instructions for bfloat16 products (AVX512_BF16 or AMX)."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def bfloat16_is_faster() -> bool:
    """Whether this PyTorch build makes use of them, by a trial of a few milliseconds."""
    return FASTER_BY * _product_seconds(torch.bfloat16) < _product_seconds(torch.float32)


def _product_seconds(dtype: torch.dtype) -> float:
    """Best of eight products of the size of a small model's layer: others share the machine."""
    left, right = torch.ones(512, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
    best = math.inf
    for _ in range(8):
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)
        best = min(best, time.perf_counter() - start)
    return best
