"""One attempt, from RunConfig to published model. Reads top to bottom."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from trimtab_trainer import logs
from trimtab_trainer.attempt import Attempt
from trimtab_trainer.champion import measure_champion
from trimtab_trainer.checkpoint.reader import LoadedCheckpoint, load_latest
from trimtab_trainer.checkpoint.snapshot import give_shares
from trimtab_trainer.checkpoint.writer import CheckpointWriter
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import Progress, RejectedCheckpoint
from trimtab_trainer.distributed import bytes_from_main, from_main, process_group
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.features.cache import with_known_features
from trimtab_trainer.finish import finish
from trimtab_trainer.hardware import choose_device
from trimtab_trainer.interruption import MARGIN_SECONDS, Interruption
from trimtab_trainer.measure import measure_held_out
from trimtab_trainer.methods.registry import method_of
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.optimizer import make_optimizer
from trimtab_trainer.parameter_groups import first_steps
from trimtab_trainer.practices.anchor import estimate_fisher
from trimtab_trainer.practices.replay import training_split
from trimtab_trainer.preflight import check_config, signing_key
from trimtab_trainer.prepare import Prepared, prepare_run
from trimtab_trainer.reporting.progress import MetricsUploader
from trimtab_trainer.single_examples import look_before, sample_answers
from trimtab_trainer.state import LoopState, RunState
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.store.probe import probe_store
from trimtab_trainer.tasks.task import WorksInRounds
from trimtab_trainer.train import save_checkpoint, train
from trimtab_trainer.training_run import TrainingRun

ERROR_PATIENCE_SECONDS = 60.0
"""How long a failing attempt waits for a checkpoint that is still on its way."""


@dataclass
class Resumption:
    """What an earlier attempt left; empty for the first one."""

    document: Mapping[str, Any] = field(default_factory=dict)
    loaded: LoadedCheckpoint | None = None
    """On the main process only."""
    rejected: list[RejectedCheckpoint] = field(default_factory=list)


def run_attempt(attempt: Attempt) -> None:
    """Train, publish and report.

    Raises:
        TrainerError: with the reason that the operator acts on.
        Interruption: SIGTERM; what was worth saving is committed.
    """
    config, world = attempt.config, attempt.world
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    check_config(config, world_size=world.world_size)
    # Needed at the very end: better to know now that it is missing.
    signing_key(config)
    device = choose_device(config.distribution, local_rank=world.local_rank)
    attempt.enter("Preparing")
    with process_group(world, device), ObjectStore.open(config.store) as store:
        if config.store.probe and world.is_main:
            attempt.reporter.update(store_probe=probe_store(store, config))
        with attempt.timed("looking for checkpoints"):
            resumption = find_checkpoint(attempt, store, device)
        prepared = prepare_run(attempt, store, device, precision=str(resumption.document.get("precision", "")))
        state = restore_state(attempt, prepared, resumption)
        measure_champion(attempt, prepared, state.loop, store)
        prepared.loop_task = with_known_features(attempt, prepared)
        if not world.is_main:
            follow(attempt, prepared, state)
            return
        writer = CheckpointWriter(
            store, config, parent=resumption.loaded, rejected=resumption.rejected, world_size=world.world_size
        )
        attempt.reporter.committed = lambda: writer.committed
        lead(attempt, prepared, state, store=store, writer=writer, rejected=resumption.rejected)


def find_checkpoint(attempt: Attempt, store: ObjectStore, device: torch.device) -> Resumption:
    """The newest checkpoint that verifies; rank 0 looks, all get its document."""
    loaded, rejected = load_latest(store, attempt.config) if attempt.world.is_main else (None, [])
    for one in rejected:
        logs.warning("checkpoint_rejected", step=one.step, attempt=one.attempt, why=one.why)
        attempt.warn(f"The checkpoint of step {one.step} (attempt {one.attempt}) was refused: {one.why}")
    document = json.loads(bytes_from_main(json.dumps(loaded.document if loaded else {}).encode(), device))
    step = loaded.step if loaded else None
    attempt.step = step or 0
    attempt.reporter.update(resumed_from_step=step, rejected=list(rejected))
    if loaded:
        logs.fact("resuming", step=loaded.step, attempt=loaded.attempt)
    return Resumption(document, loaded, list(rejected))


def restore_state(attempt: Attempt, prepared: Prepared, resumption: Resumption) -> RunState:
    """A fresh state, or exactly the one that was saved."""
    config, trainable = attempt.config, prepared.model.trainable
    optimizer = make_optimizer(trainable, config.training, undecayed=method_of(config).undecayed)
    loop = LoopState(precision=str(prepared.model.precision).removeprefix("torch."))
    starts = first_steps(trainable, config.training, steps_per_epoch=prepared.plan.steps_per_epoch)
    if max(starts.values(), default=0) >= prepared.total_steps:
        attempt.warn("`training.gradualUnfreezing` is slower than the run: the lowest layers never begin to move.")
    state = RunState(loop, prepared.model, optimizer, anchor=prepared.anchor, starts=starts)
    if isinstance(prepared.task, WorksInRounds):
        state.task_memory = prepared.task.memory
    state.start_sample = prepared.start_sample
    if config.training.exponential_moving_average is not None:
        state.average = prepared.model.copy_of_trainable()
    if resumption.document:
        tensors = _shared_tensors(resumption.loaded, prepared.model)
        state.restore(resumption.document, tensors)
    check_judge(prepared, state.loop)
    return state


def check_judge(prepared: Prepared, loop: LoopState) -> None:
    """A resumed run is judged by the same reward model.

    Raises:
        TrainerError: DigestMismatch.
    """
    found = prepared.scorer.digest if prepared.scorer is not None else ""
    if loop.step and loop.judge != found:
        raise TrainerError(
            TrainerReason.DIGEST_MISMATCH,
            f"The reward model has {found or 'no digest'}, and this run began with {loop.judge or 'none'}. Restore it, or start a new job.",
        )
    loop.judge = found


def _shared_tensors(loaded: LoadedCheckpoint | None, model: TrainableModel) -> Mapping[str, Tensor]:
    """Rank 0's tensors on every rank, or each rank's share of them; one after the other, so that no rank ever has all."""
    device = model.device
    mine = dict(loaded.tensors) if loaded else {}
    header = {name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in mine.items()}
    shapes = json.loads(bytes_from_main(json.dumps(header, sort_keys=True).encode(), device))
    return {
        name: model.own(
            name,
            from_main(
                mine[name].to(device)
                if name in mine
                else torch.empty(shape, dtype=getattr(torch, dtype), device=device)
            ),
        )
        for name, (dtype, shape) in shapes.items()
    }


def lead(
    attempt: Attempt,
    prepared: Prepared,
    state: RunState,
    *,
    store: ObjectStore,
    writer: CheckpointWriter,
    rejected: list[RejectedCheckpoint],
) -> None:
    """The main process: train, save, publish, report."""
    uploader = MetricsUploader(lambda content: store.put(attempt.report_key("metrics.jsonl"), content))
    run = make_run(attempt, prepared, state)

    def save() -> None:
        if not prepared.model.agreed(on_main=writer.accepts(run.step)):
            return
        metrics = {
            name: value for line in state.loop.history if line["step"] == run.step for name, value in line.items()
        }
        attempt.stall_seconds += writer.save(state.tensors(), state.loop.to_document(), step=run.step, metrics=metrics)
        uploader.upload(state.loop.history)

    run.save = save
    try:
        train_or_save(attempt, prepared, run)
        finish(attempt, prepared, run, store, rejected)
        uploader.upload(state.loop.history, wait=True)
        writer.finish()
    except Interruption:
        writer.wait(max(attempt.config.termination_grace_seconds - 2 * MARGIN_SECONDS, 1.0))
        uploader.upload(state.loop.history, wait=True)
        raise
    except Exception as error:
        is_taken_over = isinstance(error, TrainerError) and error.reason is TrainerReason.INTERRUPTED
        if not is_taken_over:
            # Why the attempt ends outranks what becomes of its last checkpoint.
            with suppress(TrainerError):
                writer.wait(ERROR_PATIENCE_SECONDS)
            uploader.upload(state.loop.history, wait=True)
        raise
    finally:
        writer.close()


def follow(attempt: Attempt, prepared: Prepared, state: RunState) -> None:
    """Every other process: the same steps and measurements, nothing written."""
    run = make_run(attempt, prepared, state)

    def save() -> None:
        if prepared.model.shards is not None and prepared.model.agreed(on_main=False):
            give_shares(state.tensors())

    run.save = save
    train_or_save(attempt, prepared, run)
    state.load_best()
    measure_held_out(attempt, prepared)


def train_or_save(attempt: Attempt, prepared: Prepared, run: TrainingRun) -> None:
    """Measure the base model, then train; at SIGTERM or when a peer is lost, save the last finished step."""
    loop = run.state.loop
    if loop.step == 0 and not loop.baseline:
        with attempt.timed("measuring the base model"), prepared.model.untouched(), prepared.model.whole():
            loop.baseline = measure_held_out(attempt, prepared)
            if attempt.world.is_main:
                loop.baseline_answers = sample_answers(attempt, prepared)
                look_before(attempt, prepared, loop)
    anchor = run.state.anchor
    if anchor is not None and anchor.lacks_fisher:
        with attempt.timed("estimating the Fisher information"):
            anchor.fisher = estimate_fisher(
                prepared.model,
                prepared.task,
                prepared.earlier_examples[: anchor.examples],
                world=attempt.world,
                stop=lambda: attempt.stop.requested,
            )
    attempt.enter("Training")
    report_progress(attempt, run)
    with attempt.timed("training"), attempt.stop.finish_first():
        try:
            train(run)
        except Interruption:
            save_checkpoint(run)
            raise
        except TrainerError as error:
            if error.reason is TrainerReason.PEER_LOST and prepared.model.shards is None:
                save_checkpoint(run)
            raise


def make_run(attempt: Attempt, prepared: Prepared, state: RunState) -> TrainingRun:
    """The loop's view of things."""
    validation = prepared.splits["validation"]
    return TrainingRun(
        config=attempt.config,
        model=prepared.model,
        task=prepared.loop_task or prepared.task,
        train=training_split(prepared.splits),
        validation=validation if validation.encoded else None,
        plan=prepared.plan,
        micro_batch_size=state.loop.micro_batch_size or prepared.micro_batch_size,
        total_steps=prepared.total_steps,
        learning_rate=prepared.learning_rate,
        state=state,
        save=lambda: None,
        stop=lambda: attempt.stop.requested,
        report=lambda run: report_progress(attempt, run),
        world=attempt.world,
        attack=prepared.attack,
        warn=attempt.warn,
        saved=(state.loop.step, state.loop.evaluated_step),
        saved_at=time.monotonic(),
    )


def report_progress(attempt: Attempt, run: TrainingRun) -> None:
    """The loop's numbers as the status shows them."""
    history = run.state.loop.history
    newest: dict[str, float] = {}
    for line in history[-20:]:
        newest |= line
    attempt.stepping_seconds = run.stepping_seconds
    per_step = run.stepping_seconds / run.stepped if run.stepped else None
    progress = Progress(
        step=run.step,
        total_steps=run.total_steps,
        epoch=round(run.epoch, 3),
        percent=min(100, 100 * run.step // run.total_steps),
        eta_seconds=None if per_step is None else round(per_step * (run.total_steps - run.step)),
        tokens_per_second=None if run.tokens_per_second is None else round(run.tokens_per_second, 1),
        loss=None
        if "loss" not in newest
        else float(f"{newest['loss']:.5g}"),  # for people; metrics.jsonl has all digits
    )
    attempt.note_progress(
        progress, {name: value for name, value in newest.items() if name not in {"step", "epoch", "tokens"}}
    )
