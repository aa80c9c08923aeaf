"""After the last step: measure, publish, report."""

import json
import math
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch import Tensor

from trimtab_trainer.attempt import Attempt, peak_memory_bytes
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import RejectedCheckpoint, VersionReply
from trimtab_trainer.data.splits import Split
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.measure import gate_measurements, measure_exported, measure_held_out
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.practices.forgetting import continual_metrics
from trimtab_trainer.preflight import signing_key
from trimtab_trainer.prepare import Prepared
from trimtab_trainer.publishing.export import export_format, export_model
from trimtab_trainer.publishing.facts import PublicationFacts
from trimtab_trainer.publishing.merge import merge_adapter
from trimtab_trainer.publishing.model_card import model_card
from trimtab_trainer.publishing.provenance import write_provenance
from trimtab_trainer.publishing.publish import ModelOrigin, publish
from trimtab_trainer.publishing.quantize import Quantized, quantize, weight_bytes
from trimtab_trainer.reporting import answers
from trimtab_trainer.reporting.drift import draw_drift, measure_drift
from trimtab_trainer.reporting.error_analysis import (
    COMPARED_EXAMPLES,
    Before,
    ErrorAnalysis,
    analyse,
    draw_confusion,
    examine,
)
from trimtab_trainer.reporting.loss_curve import draw_loss_curve
from trimtab_trainer.reporting.progress import reserve_version
from trimtab_trainer.reporting.report import Report, SampleAnswer, improvement, render_markdown
from trimtab_trainer.reporting.scored_answers import score_answers
from trimtab_trainer.slices import render_slices
from trimtab_trainer.state import LoopState
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.tasks.attention import attention_implementation
from trimtab_trainer.tasks.task import FitsHead
from trimtab_trainer.training_run import TrainingRun

EXPORT = "export"
"""Folder of the scratch space: what is published."""


def sample_answers(attempt: Attempt, prepared: Prepared) -> list[str]:
    """Greedy answers to the first held-out questions; empty for tasks without answers."""
    encoder = answers.asking(prepared.encoder)
    if encoder is None:
        return []
    asked = answers.questions(held_out(prepared), encoder)
    return answers.answer(prepared.model, asked, stop_ids=sorted(encoder.stop_ids), stop=lambda: attempt.stop.requested)


def look_before(attempt: Attempt, prepared: Prepared, loop: LoopState) -> None:
    """Note what the base model makes of single examples, to show what training changed. The main process alone."""
    findings = examine(
        prepared.model,
        prepared.task,
        held_out(prepared),
        tokens_per_batch=prepared.micro_batch_size * attempt.config.data.max_sequence_length,
        stop=lambda: attempt.stop.requested,
        limit=COMPARED_EXAMPLES,
    )
    found = [findings[index] for index in range(len(findings))]
    if all(math.isfinite(one.loss) for one in found):
        loop.baseline_losses = [one.loss for one in found]
        loop.baseline_predicted = [one.predicted for one in found]


def look_at_errors(attempt: Attempt, prepared: Prepared, loop: LoopState) -> ErrorAnalysis | None:
    """The tuned model on single examples of the split that samples are taken from. The main process alone."""
    return analyse(
        prepared.model,
        prepared.task,
        held_out(prepared),
        tokens_per_batch=prepared.micro_batch_size * attempt.config.data.max_sequence_length,
        stop=lambda: attempt.stop.requested,
        before=Before(loop.baseline_losses, loop.baseline_predicted),
    )


def held_out(prepared: Prepared) -> Split:
    """The split that samples are taken from."""
    return prepared.splits["test"] if prepared.splits["test"].encoded else prepared.splits["validation"]


def finish(
    attempt: Attempt, prepared: Prepared, run: TrainingRun, store: ObjectStore, rejected: Sequence[RejectedCheckpoint]
) -> None:
    """Put the best weights in place, measure them, publish them, and write the report."""
    loop = run.state.loop
    published_step = run.state.load_best()
    if isinstance(prepared.task, FitsHead):
        prepared.task.fit_head(prepared.model)
    check_finite(prepared, step=published_step)
    if loop.skipped_steps:
        attempt.warn(f"{loop.skipped_steps} of {loop.step} steps diverged and were left out.")
    attempt.enter("Evaluating")
    with attempt.timed("measuring the tuned model"):
        tuned = measure_held_out(attempt, prepared)
        given = sample_answers(attempt, prepared)
        errors = look_at_errors(attempt, prepared, loop)
        scored = score_answers(
            prepared.model,
            prepared.task,
            held_out(prepared),
            tokens_per_batch=run.tokens_per_batch,
            stop=lambda: attempt.stop.requested,
        )
    base = {**loop.baseline, **_validation_metrics(loop, 0)}
    tuned = {**tuned, **_validation_metrics(loop, published_step)}
    with attempt.timed("exporting"):
        quantized = export(attempt, prepared, tuned)
    if quantized is not None:  # what is published is what is judged
        tuned = {**quantized.after, **quantized.metrics}
    tuned |= continual_metrics(base, tuned, earlier=prepared.version_metrics)
    attempt.metrics |= improvement(base, tuned)
    if attempt.config.evaluation is not None:
        attempt.champion = loop.champion
        attempt.gates = gate_measurements(
            attempt.config.evaluation.gates, result=tuned, baseline=base, champion=loop.champion_metrics
        )
    attempt.enter("Publishing", metrics=attempt.metric_values(64))
    with attempt.timed("publishing"):
        facts = publication_facts(attempt, prepared, step=published_step, metrics=improvement(base, tuned))
        publish_model(attempt, prepared, store, replace(facts, quantized=quantized, groups=render_slices(base, tuned)))
    with attempt.timed("reporting"):
        report = make_report(attempt, prepared, run, rejected, base=base, tuned=tuned, step=published_step)
        samples = _samples(prepared, loop.baseline_answers, given)
        report = report.model_copy(
            update={"samples": samples, "errors": errors, "scored": scored, "quantized": quantized}
        )
        upload_report(attempt, store, report, loop)
    attempt.enter("Finished", report_uri=attempt.report_uri, metrics=attempt.metric_values(64))


def check_finite(prepared: Prepared, *, step: int) -> None:
    """A last step may have broken the weights without any loss to show it.

    Raises:
        TrainerError: LossDiverged naming a weight that is not finite.
    """
    broken = [name for name, value in prepared.model.trainable.items() if not bool(value.detach().isfinite().all())]
    if broken:
        raise TrainerError(
            TrainerReason.LOSS_DIVERGED,
            f"The weights of step {step} are not finite ({len(broken)} tensors, among them {broken[0]}); nothing is published. "
            "Lower `training.learningRate` or lengthen the warm-up.",
        )


def export(attempt: Attempt, prepared: Prepared, tuned: Mapping[str, float]) -> Quantized | None:
    """Write the model as it is published; with fewer bits, also what they cost against the metrics `tuned`."""
    config, directory = attempt.config, attempt.scratch / EXPORT
    if config.output.merge:
        merge_adapter(prepared.model, lambda: example_outputs(prepared))
    quantization = config.output.quantization
    whole = directory if quantization is None else attempt.scratch / "whole"
    export_model(prepared.model, config, whole)
    if prepared.model.labels:
        (whole / "labels.json").write_text(json.dumps(prepared.model.labels, ensure_ascii=False), "utf-8")
    if quantization is None:
        return None
    matrices = quantize(config, prepared.model.base, whole=whole, directory=directory)
    before = weight_bytes(whole)
    shutil.rmtree(whole)
    return Quantized(
        kind=quantization.kind,
        matrices=matrices,
        bytes_before=before,
        bytes_after=weight_bytes(directory),
        before=dict(tuned),
        after=measure_exported(attempt, prepared, directory),
    )


def publish_model(attempt: Attempt, prepared: Prepared, store: ObjectStore, facts: PublicationFacts) -> None:
    """Describe what was exported, reserve a version, upload and verify."""
    config, directory = attempt.config, attempt.scratch / EXPORT
    (directory / "README.md").write_text(model_card(facts), "utf-8")
    write_provenance(facts, directory)
    origin = ModelOrigin(
        base_model_digest=prepared.model_digest,
        datasets=prepared.datasets,
        metrics=dict(facts.metrics),
        step=facts.step,
        format=export_format(config),
    )
    attempt.published = publish(
        directory,
        store=store,
        config=config,
        reserve=lambda taken: _reserve(attempt, taken),
        origin=origin,
        key=signing_key(config),
    )


def publication_facts(
    attempt: Attempt, prepared: Prepared, *, step: int, metrics: Mapping[str, float]
) -> PublicationFacts:
    """What the model's card and its provenance say."""
    usage, finished = attempt.usage(), datetime.now(UTC)
    return PublicationFacts(
        config=attempt.config,
        step=step,
        base_digest=prepared.model_digest,
        datasets=prepared.datasets,
        metrics=metrics,
        usage=usage,
        software=software_versions(),
        started=finished - timedelta(seconds=usage.active_seconds),
        finished=finished,
        parameters=sum(parameter.numel() for parameter in prepared.model.module.parameters()),
        trained_parameters=sum(parameter.numel() for parameter in prepared.model.trainable.values()),
        truncated={name: split.summary.truncated for name, split in prepared.splits.items()},
    )


def example_outputs(prepared: Prepared) -> Tensor:
    """Logits of the first example's tokens; for tasks that read none, what is counted of its answer."""
    model, first = prepared.model, prepared.splits["train"].encoded[0]
    if not hasattr(first, "ids"):
        return torch.tensor(sorted(prepared.task.measure(model, prepared.task.collate([first])).values()))
    ids = torch.from_numpy(first.ids).long()[None].to(model.device)
    base = model.base
    with model.autocast(), attention_implementation(base, "sdpa"):
        logits: Tensor = base(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return logits


def _reserve(attempt: Attempt, taken: list[int]) -> VersionReply:
    if attempt.version_endpoint is None:
        raise TrainerError(
            TrainerReason.TRAINER_ERROR, "TRIMTAB_VERSION_URL is not set: there is nobody to reserve a version."
        )
    return reserve_version(attempt.version_endpoint, attempt=attempt.config.attempt, taken=taken)


def make_report(
    attempt: Attempt,
    prepared: Prepared,
    run: TrainingRun,
    rejected: Sequence[RejectedCheckpoint],
    **results: Any,
) -> Report:
    """All that is known, without the samples."""
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
        published_step=results["step"],
        stopped_early=loop.stopped_early,
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
        base=results["base"],
        tuned=results["tuned"],
        samples=[],
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


def processor_name() -> str:
    """What computed: the same seed gives the same losses on the same type of machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def software_versions() -> dict[str, str]:
    """What computed this."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "threads": str(torch.get_num_threads()),
        "machine": platform.machine(),
        "processor": processor_name(),
    }


def _validation_metrics(loop: LoopState, step: int) -> dict[str, float]:
    """The validation metrics at one step; the last line of it where there are several."""
    lines = [line for line in loop.history if line["step"] == step and "eval_loss" in line]
    return {name: value for name, value in lines[-1].items() if name.startswith("eval_")} if lines else {}


def _samples(prepared: Prepared, base: Sequence[str], tuned: Sequence[str]) -> list[SampleAnswer]:
    encoder = answers.asking(prepared.encoder)
    if encoder is None:
        return []
    asked = answers.questions(held_out(prepared), encoder)
    return [
        SampleAnswer(prompt=question.prompt, reference=question.reference, base=before, tuned=after)
        for question, before, after in zip(asked, base, tuned, strict=False)
    ]
