"""How far training moved the weights, layer by layer, from a sample of each tensor: the whole start would cost its size in memory."""

import re
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from trimtab_trainer.contract.base import Document
from trimtab_trainer.reporting.pictures import blank_axes, png

SAMPLED_WEIGHTS = 4096
"""Of each tensor, evenly spread over it."""
_LAYER = re.compile(r"\.(?:layers?|h|blocks?|encoder)\.(\d+)\.")


class LayerDrift(Document):
    """How far one layer moved."""

    layer: str
    """`layer 3`, `embeddings`, or what comes after the layers: `head`."""
    change: float
    """Root mean square of the weights' changes; of an adapter's own weights where an adapter is trained."""
    weight: float
    """Root mean square of the weights before."""


def sample_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Some weights of each tensor, always the same ones; float32 on the CPU."""
    return {name: _sample(value).clone() for name, value in weights.items()}


def _sample(weight: Tensor) -> Tensor:
    flat = weight.detach().reshape(-1)
    step = max(1, -(-flat.numel() // SAMPLED_WEIGHTS))
    if step > 1:
        step |= 1  # an odd stride does not stay in one column of a matrix
    return flat[::step].float().cpu()


def layer_of(name: str) -> str:
    """The layer that a weight belongs to."""
    found = _LAYER.search(name)
    if found:
        return f"layer {found.group(1)}"
    return "embeddings" if "embed" in name or ".wte." in name else "head"


def measure_drift(start: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[LayerDrift]:
    """Each layer's drift from its sample at the start, from the embeddings upwards."""
    changes: dict[str, list[Tensor]] = defaultdict(list)
    before: dict[str, list[Tensor]] = defaultdict(list)
    for name, value in weights.items():
        changes[layer_of(name)].append(_sample(value) - start[name])
        before[layer_of(name)].append(start[name])
    order = sorted(changes, key=lambda layer: (_place(layer), layer))
    return [LayerDrift(layer=layer, change=_rms(changes[layer]), weight=_rms(before[layer])) for layer in order]


def _place(layer: str) -> int:
    return int(layer.split()[1]) if layer.startswith("layer") else -1 if layer == "embeddings" else 10**6


def _rms(pieces: list[Tensor]) -> float:
    return float(torch.cat(pieces).double().square().mean().sqrt())


def draw_drift(drift: list[LayerDrift], *, title: str) -> bytes:
    """PNG: a bar for each layer."""
    axes = blank_axes(8, max(2.5, 0.28 * len(drift) + 1.2))
    axes.barh([one.layer for one in drift], [one.change for one in drift], color="#2f6690")
    axes.set(title=title, xlabel="root mean square of the weights' changes")
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return png(axes)


def render_drift(drift: list[LayerDrift]) -> str:
    """The part of `report.md`."""
    if not drift:
        return ""
    most = max(drift, key=lambda one: one.change)
    return (
        "## What moved\n\n![Change of the weights by layer](drift.png)\n\n"
        f"Most: {most.layer}, by {most.change:.2g} a weight (root mean square; {most.weight:.2g} before), "
        f"from a sample of up to {SAMPLED_WEIGHTS} trained weights of each tensor."
    )
