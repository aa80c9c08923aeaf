"""The report at the end: gathered, drawn, uploaded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab_trainer.attempt import Attempt, peak_memory_bytes
from trimtab_trainer.contract.messages import RejectedCheckpoint
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.prepare import Prepared
from trimtab_trainer.publishing.quantize import Quantized
from trimtab_trainer.reporting.drift import draw_drift, measure_drift
from trimtab_trainer.reporting.error_analysis import ErrorAnalysis, draw_confusion
from trimtab_trainer.reporting.loss_curve import draw_loss_curve
from trimtab_trainer.reporting.report import Report, SampleAnswer, render_markdown
from trimtab_trainer.reporting.scored_answers import ScoredAnswer
from trimtab_trainer.software import software_versions
from trimtab_trainer.state import LoopState
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.training_run import TrainingRun


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured, and at what step the weights are."""

    step: int
    base: dict[str, float]
    tuned: dict[str, float]
    samples: list[SampleAnswer]
    errors: ErrorAnalysis | None
    scored: list[ScoredAnswer]
    quantized: Quantized | None


def make_report(
    attempt: Attempt,
    prepared: Prepared,
    run: TrainingRun,
    rejected: Sequence[RejectedCheckpoint],
    findings: Findings,
) -> Report:
    """All that is known."""
    config, loop = attempt.config, run.state.loop
    return Report(
        job=config.job,
        attempt=config.attempt,
        task=config.task.kind,
        objective=config.objective.kind,
        method=config.method.kind,
        model=config.model.uri,
        model_digest=prepared.model_digest,
        datasets=prepared.datasets,
        data=[split.summary for split in prepared.splits.values() if split.examples],
        token_lengths={name: dict(split.lengths) for name, split in prepared.splits.items()},
        quality=prepared.quality,
        drift=measure_drift(run.state.start_sample, prepared.model.trainable),
        rendered_example=definition_of(config).show(prepared.splits["train"].encoded[0], prepared.model.tokenizer),
        steps=loop.step,
        total_steps=run.total_steps,
        published_step=findings.step,
        stopped_early=loop.stopped_early,
        learning_rate=run.learning_rate,
        skipped_steps=loop.skipped_steps,
        resumed_from_step=attempt.reporter.report.resumed_from_step,
        rejected=list(rejected),
        parameters=sum(parameter.numel() for parameter in prepared.model.module.parameters()),
        trained_parameters=sum(parameter.numel() for parameter in prepared.model.trainable.values()),
        precision=str(prepared.model.precision).removeprefix("torch."),
        layout=run.task.layout,
        micro_batch_size=run.micro_batch_size,
        estimated_memory=str(prepared.memory),
        peak_memory_bytes=peak_memory_bytes(),
        base=findings.base,
        tuned=findings.tuned,
        samples=findings.samples,
        errors=findings.errors,
        scored=findings.scored,
        quantized=findings.quantized,
        seconds=attempt.seconds,
        tokens_per_second=run.tokens_per_second,
        usage=attempt.usage(),
        warnings=attempt.warnings,
        published=attempt.published,
        software=software_versions() | {"seed": str(config.training.seed)},
        history=loop.history,
    )


def upload_report(attempt: Attempt, store: ObjectStore, report: Report, loop: LoopState) -> None:
    """`loss.png`, `report.json`, `report.md`; the reader's file last."""
    title = f"{report.job.namespace}/{report.job.name}: {report.method} of {Path(report.model).name}"
    best = loop.best.step if loop.best else None
    store.put(attempt.report_key("loss.png"), draw_loss_curve(loop.history, title=title, best_step=best))
    if report.errors is not None and report.errors.confusion is not None:
        store.put(attempt.report_key("confusion.png"), draw_confusion(report.errors.confusion, title=title))
    if report.drift:
        store.put(attempt.report_key("drift.png"), draw_drift(report.drift, title=title))
    store.put(attempt.report_key("report.json"), json.dumps(report.to_json(), indent=1, ensure_ascii=False).encode())
    store.put(attempt.report_key("report.md"), render_markdown(report, attempt.config).encode())
    attempt.report_uri = store.uri(attempt.report_key("report.md"))
