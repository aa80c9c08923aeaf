"""The report of a run, for readers (`report.md`) and programs (`report.json`)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.messages import DataSummary, PublishedModel, RejectedCheckpoint, Usage
from trimtab_trainer.contract.run_config import JobIdentity, ResolvedDataset, RunConfig
from trimtab_trainer.data.quality import DataQuality, render_quality
from trimtab_trainer.practices.forgetting import render_continual
from trimtab_trainer.publishing.export import loading_code
from trimtab_trainer.publishing.quantize import Quantized, render_quantized
from trimtab_trainer.reporting.drift import LayerDrift, render_drift
from trimtab_trainer.reporting.error_analysis import ErrorAnalysis, render_errors
from trimtab_trainer.reporting.scored_answers import ScoredAnswer, render_scored
from trimtab_trainer.slices import headlines, render_slices
from trimtab_trainer.tasks.task import LOWER_IS_BETTER

SHOWN_CHARACTERS = 600


class SampleAnswer(Document):
    """One held-out prompt, answered before and after."""

    prompt: str
    reference: str
    base: str
    tuned: str


class Report(Document):
    """Everything a reader wants to know about a run."""

    schema_: Literal["trimtab.dev/report/v1"] = "trimtab.dev/report/v1"
    job: JobIdentity
    attempt: int
    task: str
    objective: str
    method: str
    model: str
    model_digest: str
    datasets: list[ResolvedDataset]
    data: list[DataSummary]
    token_lengths: dict[str, dict[str, int]]
    """Percentiles of the examples' token counts per split."""
    quality: DataQuality | None = None
    """Doubles, leaks between splits, labels, personal data by its form."""
    rendered_example: list[tuple[bool, str]]
    """The first training example as the model sees it: (carries loss, text)."""
    steps: int
    total_steps: int
    published_step: int
    stopped_early: bool
    learning_rate: float
    """At the peak of the schedule."""
    skipped_steps: int = 0
    """Steps that the watch over divergence left out."""
    resumed_from_step: int | None = None
    rejected: list[RejectedCheckpoint] = Field(default_factory=list)
    parameters: int
    trained_parameters: int
    precision: str
    layout: str
    micro_batch_size: int
    estimated_memory: str
    peak_memory_bytes: int
    base: dict[str, float]
    """Metrics before training: of the test split, of the validation split, and of their groups (`test_accuracy[gender=f]`)."""
    tuned: dict[str, float]
    """The same metrics after."""
    samples: list[SampleAnswer]
    scored: list[ScoredAnswer] = Field(default_factory=list)
    """Drawn answers with their rewards, best first, where an objective has rewards."""
    errors: ErrorAnalysis | None = None
    """Where the tuned model goes wrong on held-out data."""
    quantized: Quantized | None = None
    """What fewer bits saved and cost."""
    drift: list[LayerDrift] = Field(default_factory=list)
    """How far each layer's weights moved."""
    seconds: dict[str, float]
    """Where the time of this attempt went."""
    tokens_per_second: float | None
    usage: Usage
    warnings: list[str]
    published: PublishedModel | None = None
    software: dict[str, str] = Field(default_factory=dict)
    history: list[dict[str, float]]


def render_markdown(report: Report, config: RunConfig) -> str:
    """`report.md`."""
    name = f"{report.job.namespace}/{report.job.name}"
    parts = [
        f"# Fine-tuning report: {name}",
        _what(report, config),
        "\n".join(f"> **Warning:** {warning}" for warning in report.warnings),
        "![Loss curve](loss.png)",
        _comparison(report),
        render_quantized(report.quantized),
        render_continual(report.tuned),
        render_slices(report.base, report.tuned),
        _samples(report.samples),
        render_scored(report.scored),
        render_errors(report.errors),
        render_drift(report.drift),
        _data(report),
        render_quality(report.quality),
        _rendered(report.rendered_example),
        _effort(report),
        "## Use it\n\n```python\n" + loading_code(config) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(report: Report, config: RunConfig) -> str:
    share = 100 * report.trained_parameters / max(report.parameters, 1)
    published = report.published
    where = f"Published as **{published.name}** at `{published.uri}`." if published else "Nothing was published."
    early = " (stopped early)" if report.stopped_early else ""
    chosen = "" if config.training.learning_rate else " (the default)"
    return (
        f"`{report.model}` was fine-tuned with **{report.method}** ({report.objective}, {report.task}): "
        f"{report.trained_parameters:,} of {report.parameters:,} weights moved ({share:.2f} %), {report.steps} of {report.total_steps} "
        f"steps{early} of {config.training.global_batch_size} rows, "
        f"peak learning rate {report.learning_rate:g}{chosen}. The weights of step {report.published_step} were kept.\n\n{where}"
    )


def _comparison(report: Report) -> str:
    """Base against tuned."""
    rows = []
    for name, tuned in headlines(report.tuned).items():
        base = report.base.get(name)
        if base is None:
            rows.append(f"| {name} | | {tuned:.4g} | |")
            continue
        is_better = tuned < base if name.endswith(LOWER_IS_BETTER) else tuned > base
        mark = "=" if tuned == base else "better" if is_better else "worse"
        rows.append(f"| {name} | {base:.4g} | **{tuned:.4g}** | {mark} |")
    return (
        "## Base against tuned\n\n| metric | base | tuned | |\n|---|---:|---:|---|\n" + "\n".join(rows) if rows else ""
    )


def _samples(samples: Sequence[SampleAnswer]) -> str:
    if not samples:
        return ""
    blocks = [
        f"**Prompt:** {_quoted(sample.prompt)}\n\n| | |\n|---|---|\n| reference | {_cell(sample.reference)} |\n"
        f"| base | {_cell(sample.base)} |\n| tuned | {_cell(sample.tuned)} |"
        for sample in samples
    ]
    return "## Sample answers on held-out examples\n\n" + "\n\n".join(blocks)


def _data(report: Report) -> str:
    rows = [
        f"| {split.split} | {split.examples:,} | {split.tokens:,} | {split.supervised_tokens:,} | {split.empty} | {split.truncated} "
        f"| {split.unsupervised} | {' / '.join(str(value) for value in report.token_lengths.get(split.split, {}).values())} |"
        for split in report.data
    ]
    sources = [f"- `{dataset.uri}`: {dataset.examples:,} rows, `{dataset.digest}`" for dataset in report.datasets]
    head = (
        "| split | examples | tokens | with loss | empty | truncated | without loss | tokens at 5 / 50 / 95 / 100 % |\n"
        "|---|---:|---:|---:|---:|---:|---:|---|\n"
    )
    return "## Data\n\n" + head + "\n".join(rows) + "\n\n" + "\n".join(sources)


def _rendered(pieces: Sequence[tuple[bool, str]]) -> str:
    """One example with its loss mask."""
    if not pieces:
        return ""
    lines = [f"[{'LOSS' if supervised else 'context'}] {text[:SHOWN_CHARACTERS]!r}" for supervised, text in pieces]
    return "## One training example as the model sees it\n\n```text\n" + "\n".join(lines) + "\n```"


def _effort(report: Report) -> str:
    usage = report.usage
    rows: dict[str, Any] = {f"{name} (s)": f"{seconds:.1f}" for name, seconds in report.seconds.items()}
    rows["tokens per second while training"] = f"{report.tokens_per_second:.1f}" if report.tokens_per_second else "-"
    rows["checkpoint stall (s)"] = f"{usage.checkpoint_stall_seconds:.3f}"
    rows["peak memory (GiB)"] = f"{report.peak_memory_bytes / 2**30:.2f}"
    rows["estimated memory"] = report.estimated_memory
    rows["precision, layout, micro batch"] = f"{report.precision}, {report.layout}, {report.micro_batch_size}"
    if usage.energy_watt_hours is not None:
        rows[f"energy (Wh, by {usage.energy_source})"] = f"{usage.energy_watt_hours:.2f}"
    if usage.co2_grams is not None:
        rows["CO2 (g)"] = f"{usage.co2_grams:.2f}"
    rows |= report.software
    attempt = f"Attempt {report.attempt}"
    if report.resumed_from_step is not None:
        attempt += f", resumed from step {report.resumed_from_step}"
    refused = [f"\n- Checkpoint of step {one.step} was refused: {one.why}" for one in report.rejected]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"## Effort\n\n{attempt}.{''.join(refused)}\n\n| | |\n|---|---|\n{table}"


def _quoted(text: str) -> str:
    return text[:SHOWN_CHARACTERS].replace("\n", " ")


def _cell(text: str) -> str:
    return _quoted(text).replace("|", "\\|").strip() or "*(nothing)*"


def improvement(base: Mapping[str, float], tuned: Mapping[str, float]) -> dict[str, float]:
    """For the model's metrics: the tuned values, and the base's with the prefix `baseline_`."""
    tuned = headlines(tuned)
    return {**tuned, **{f"baseline_{name}": value for name, value in base.items() if name in tuned}}
