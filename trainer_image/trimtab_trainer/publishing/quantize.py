"""The published model with fewer bits, in bitsandbytes' files that `from_pretrained` of transformers loads; and what that costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.gates import PREFIXES
from trimtab_trainer.contract.quantization import QUANTIZATION_CHANGE, Quantization
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import from_pretrained
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.slices import headlines

_NF4_BLOCK = 64
"""Weights that share a scale; bitsandbytes' products on CPUs need rows of whole blocks."""


class Quantized(Document):
    """What fewer bits saved and cost, for the report and the model card."""

    kind: str
    """`int8` or `nf4`."""
    matrices: int
    """How many have fewer bits."""
    bytes_before: int
    """Of the weight files in float32."""
    bytes_after: int
    """Of those that are published."""
    before: dict[str, float]
    """Metrics of the model before, by the names with their split's prefix."""
    after: dict[str, float]
    """The same of the published model, loaded from the files that are published."""

    @property
    def changes(self) -> dict[str, float]:
        """What each metric rose by, as `test_quantization_change_accuracy`."""
        return {
            change_name(name): value - self.before[name]
            for name, value in headlines(self.after).items()
            if name in self.before
        }

    @property
    def metrics(self) -> dict[str, float]:
        """What the version and its gates have of it."""
        sizes = {"bytes_before_quantization": self.bytes_before, "bytes_after_quantization": self.bytes_after}
        return {**self.changes, **{name: float(size) for name, size in sizes.items()}}


def change_name(metric: str) -> str:
    """The name of a metric's change: the split's prefix stays in front."""
    prefix = next((prefix for prefix in PREFIXES.values() if metric.startswith(prefix)), "")
    return f"{prefix}{QUANTIZATION_CHANGE}{metric.removeprefix(prefix)}"


def quantizable(module: Any, quantization: Quantization) -> tuple[list[str], list[str]]:
    """The names of the linear layers that get fewer bits, and of those that stay."""
    trunk = getattr(module, module.base_model_prefix, None)
    inside = f"{module.base_model_prefix}." if isinstance(trunk, nn.Module) and trunk is not module else ""
    taken: list[str] = []
    left: list[str] = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear | Conv1D):
            is_whole = quantization.nf4 is None or all(size % _NF4_BLOCK == 0 for size in part.weight.shape)
            (taken if name.startswith(inside) and is_whole else left).append(name)
    return taken, left


def check_quantizable(config: RunConfig, module: Any) -> None:
    """Something must be left to quantise.

    Raises:
        TrainerError: ConfigInvalid where no matrix could get fewer bits.
    """
    quantization = config.output.quantization
    if quantization is not None and not quantizable(module, quantization)[0]:
        remedy = "choose int8, or leave it out" if quantization.nf4 else "leave it out"
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`output.quantization.{quantization.kind}` finds no matrix in {type(module).__name__} that could have fewer bits; {remedy}.",
        )


def quantize(config: RunConfig, module: Any, *, whole: Path, directory: Path) -> int:
    """Read a whole model matrix by matrix into fewer bits, and save it; how many matrices have them.

    Args:
        config: of the run, with `output.quantization`.
        module: the model that was exported, for the names of its layers.
        whole: its files, in float32.
        directory: gets configuration and weights; the processor's files are copied.
    """
    quantization = config.output.quantization
    if quantization is None:
        raise TypeError("output.quantization is not set")
    taken, left = quantizable(module, quantization)
    nf4 = quantization.nf4
    bits = {
        "load_in_8bit": nf4 is None,
        "load_in_4bit": nf4 is not None,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": nf4 is not None and nf4.double_quantization,
        "bnb_4bit_compute_dtype": torch.float32,
    }
    device = {"": torch.cuda.current_device()} if torch.cuda.is_available() else "cpu"
    settings = BitsAndBytesConfig(**bits, llm_int8_skip_modules=left)
    loader = definition_of(config).auto_model
    model, _ = from_pretrained(loader, whole, quantization_config=settings, device_map=device)
    directory.mkdir(parents=True, exist_ok=True)
    for file in whole.iterdir():
        if file.is_file() and not file.name.startswith("model") and file.name != "config.json":
            (directory / file.name).write_bytes(file.read_bytes())
    model.save_pretrained(directory)
    return len(taken)


def weight_bytes(directory: Path) -> int:
    """Size of the weight files."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def render_quantized(quantized: Quantized | None) -> str:
    """What fewer bits saved and cost, as Markdown."""
    if quantized is None:
        return ""
    mebibytes = [size / 2**20 for size in (quantized.bytes_before, quantized.bytes_after)]
    rows = [_row(name, quantized.before, value) for name, value in headlines(quantized.after).items()]
    return (
        f"## Quantised to {quantized.kind}\n\n{quantized.matrices} matrices have fewer bits: {mebibytes[0]:.1f} MiB of weights became "
        f"{mebibytes[1]:.1f} MiB ({100 * quantized.bytes_after / max(quantized.bytes_before, 1):.0f} %). Measured on the published files; "
        "loading them needs bitsandbytes.\n\n| metric | before | published | change |\n|---|---:|---:|---:|\n"
        + "\n".join(rows)
    )


def _row(name: str, before: Mapping[str, float], after: float) -> str:
    if name not in before:
        return f"| {name} | | {after:.6g} | |"
    return f"| {name} | {before[name]:.6g} | {after:.6g} | {after - before[name]:+.3g} |"
