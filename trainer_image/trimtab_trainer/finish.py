"""After the last step: measure, publish, report."""

from collections.abc import Sequence
from dataclasses import replace

from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import RejectedCheckpoint
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.final_report import Findings, make_report, upload_report
from trimtab_trainer.measure import gate_measurements, measure_held_out
from trimtab_trainer.practices.forgetting import continual_metrics
from trimtab_trainer.prepare import Prepared
from trimtab_trainer.publication import export, publication_facts, publish_model
from trimtab_trainer.reporting.report import improvement
from trimtab_trainer.reporting.scored_answers import score_answers
from trimtab_trainer.single_examples import compare_samples, held_out, look_at_errors, sample_answers
from trimtab_trainer.slices import render_slices
from trimtab_trainer.state import LoopState
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.tasks.task import FitsHead
from trimtab_trainer.training_run import TrainingRun


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
        findings = Findings(
            step=published_step,
            base=base,
            tuned=tuned,
            samples=compare_samples(prepared, loop.baseline_answers, given),
            errors=errors,
            scored=scored,
            quantized=quantized,
        )
        upload_report(attempt, store, make_report(attempt, prepared, run, rejected, findings), loop)
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


def _validation_metrics(loop: LoopState, step: int) -> dict[str, float]:
    """The validation metrics at one step; the last line of it where there are several."""
    lines = [line for line in loop.history if line["step"] == step and "eval_loss" in line]
    return {name: value for name, value in lines[-1].items() if name.startswith("eval_")} if lines else {}
