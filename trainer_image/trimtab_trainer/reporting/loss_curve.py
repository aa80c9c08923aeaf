"""The loss curve as PNG: training and validation, readable at a glance."""

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab_trainer.reporting.pictures import blank_axes, png

TRAINING, VALIDATION = "#9bb8d3", "#c8553d"
SMOOTHED = "#2f6690"
SMOOTHING_POINTS = 30
"""More points than this get a smoothed line on top."""


def draw_loss_curve(history: Sequence[Mapping[str, float]], *, title: str, best_step: int | None) -> bytes:
    """PNG, 1600 x 900 pixels, of the lines of `metrics.jsonl`; `best_step` is marked as the published one."""
    axes = blank_axes(10.67, 6, dpi=150)
    steps, losses = _series(history, "loss")
    many = len(losses) > SMOOTHING_POINTS
    axes.plot(
        steps,
        losses,
        color=TRAINING if many else SMOOTHED,
        linewidth=1 if many else 2,
        label=None if many else "training",
    )
    if many:
        axes.plot(steps, _smoothed(losses), color=SMOOTHED, linewidth=2, label="training (smoothed)")
    steps, losses = _series(history, "eval_loss")
    if losses:
        axes.plot(steps, losses, color=VALIDATION, linewidth=2, marker="o", markersize=5, label="validation")
        _mark_best(axes, dict(zip(steps, losses, strict=True)), best_step)
    axes.set(title=title, xlabel="step", ylabel="loss per token" if _has_tokens(history) else "loss per example")
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return png(axes)


def _mark_best(axes: Any, losses: Mapping[float, float], best_step: int | None) -> None:
    if best_step is not None and best_step in losses:
        axes.annotate(
            f"published: step {best_step}, {losses[best_step]:.3f}",
            (best_step, losses[best_step]),
            textcoords="offset points",
            xytext=(-8, 16),
            ha="right",
            color=VALIDATION,
            arrowprops={"arrowstyle": "-", "color": VALIDATION},
        )


def _series(history: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    lines = [line for line in history if name in line]
    return [line["step"] for line in lines], [line[name] for line in lines]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Exponential mean over about a twentieth of the run, with a bias correction, so that it starts at the first value."""
    share = 1 / max(2, len(values) / 20)
    smoothed, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = (1 - share) * mean + share * value, (1 - share) * weight + share
        smoothed.append(mean / weight)
    return smoothed


def _has_tokens(history: Sequence[Mapping[str, float]]) -> bool:
    return not any("eval_accuracy" in line for line in history)
