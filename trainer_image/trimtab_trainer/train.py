"""The training loop, readable top to bottom."""

import hashlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from trimtab_trainer import logs
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.data.batches import Row, share_of_rank
from trimtab_trainer.data.splits import Split
from trimtab_trainer.distributed import losing_a_peer, sum_counts, sum_over_ranks
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.evaluate import evaluate
from trimtab_trainer.interruption import Interruption
from trimtab_trainer.optimizer import parse_extra_arguments, set_learning_rate
from trimtab_trainer.parameter_groups import moving
from trimtab_trainer.practices.average import update_average
from trimtab_trainer.practices.divergence import last_losses, note_step, skip_or_stop, what_is_wrong
from trimtab_trainer.practices.memory_backoff import noticing_shortage
from trimtab_trainer.practices.schedule import learning_rate
from trimtab_trainer.state import Best
from trimtab_trainer.tasks.task import LOWER_IS_BETTER, Round, Telling, WorksInRounds
from trimtab_trainer.training_run import TrainingRun

HISTORY_LINES = 2000
"""Longer runs log every n-th step, so that the history in a checkpoint stays small."""


def train(run: TrainingRun) -> None:
    """Train until the last step or an early stop.

    Raises:
        Interruption: some rank got SIGTERM; the state is that of the last finished step, ready to be saved.
        TrainerError: LossDiverged, or PeerLost.
    """
    run.model.train()
    while True:
        if run.is_evaluation_due():
            evaluate_and_select(run)
        if run.model.agreed(on_main=run.is_checkpoint_due()):
            save_checkpoint(run)
        if run.is_finished:
            return
        if isinstance(run.task, WorksInRounds):
            add_counts(run, run.task.begin_step(run.model, where(run)))
        train_one_step(run)
        run.report(run)


def train_one_step(run: TrainingRun) -> None:
    """One optimizer step over one global batch, in micro batches, on all ranks."""
    started = time.perf_counter()
    loop, device = run.state.loop, run.model.device
    batch = run.plan.global_batch(run.step)
    parameters = moving(run.model.trainable, run.state.starts, update=loop.updates)
    targets = sum(run.task.targets(example) for example in examples_of(run.train, batch))
    loss_sum = torch.zeros((), device=device)
    can_shrink = run.micro_batch_size > 1 and run.model.shards is None  # half a pass leaves the peers waiting
    with losing_a_peer("training", among_other_things=True), noticing_shortage(can_shrink=can_shrink) as shortage:
        for number, (rows, weight) in enumerate(micro_batches_of_rank(run, batch)):
            loss_sum += backward(run, rows, number=number, weight=weight, targets=targets)
    told = run.task.take_sums() if isinstance(run.task, Telling) else {}
    total_loss, stops, shortages = sum_over_ranks(
        [float(loss_sum), float(run.stop()), float(shortage.happened)], device
    )
    if stops or shortages:  # half a batch is no step: it is taken again, by the next attempt or in smaller pieces
        run.state.optimizer.zero_grad()
        if stops:
            raise Interruption("SIGTERM during a step")
        halve_micro_batch(run)
        return
    schedule = run.config.training.schedule
    rate = learning_rate(run.step, total_steps=run.total_steps, schedule=schedule, peak=run.learning_rate)
    norm = update_weights(run, parameters, rate, loss=total_loss / targets)
    loop.step += 1
    if norm is not None:  # what diverged enters no mean
        loop.window_loss += total_loss
        loop.window_targets += targets
    loop.targets += targets
    counts = sum_counts(told, device) if told else {}
    add_counts(run, counts)
    tokens = counts.get("tokens", sum(example.length for example in examples_of(run.train, batch)))
    count(run, batch, tokens=round(tokens), seconds=time.perf_counter() - started)
    if is_log_due(run):
        log_step(run, rate=rate, norm=norm)


def micro_batches_of_rank(run: TrainingRun, batch: Sequence[Row]) -> Iterator[tuple[Sequence[Row], float]]:
    """This rank's part of a global batch, and what each micro batch of it weighs, until somebody must stop.

    Where weights are spread, all ranks go through the model together: one that has nothing left takes a row that weighs nothing.
    """
    share = share_of_rank(batch, rank=run.world.rank, world_size=run.world.world_size)
    mine = run.micro_batches(share)
    for number in itertools.count():
        has_more = number < len(mine)
        going, stopping = run.model.totals(has_more, has_more and run.stop())
        if stopping or not going:
            return
        yield (mine[number], 1.0) if has_more else (batch[:1], 0.0)


def backward(run: TrainingRun, rows: Sequence[Row], *, number: int, weight: float, targets: float) -> torch.Tensor:
    """Add one micro batch's gradients; the sum of its losses."""
    batch = run.task.collate(examples_of(run.train, rows))

    def loss() -> torch.Tensor:
        seed_dropout(run, number)
        return weight * run.model.compute(lambda: run.task.loss(run.model, batch))

    if run.attack is not None:
        return run.attack.backward(loss, targets=targets)
    value = loss()
    (value / targets).backward()  # the mean over ALL targets of the global batch, however it is cut up
    return value.detach()


def update_weights(run: TrainingRun, parameters: Sequence[nn.Parameter], rate: float, *, loss: float) -> float | None:
    """Sum, check and clip the gradients, and move the weights.

    Returns:
        The gradients' norm before clipping; None where the step diverged and was left out.

    Raises:
        TrainerError: LossDiverged where that ends the run; the weights are still those before the step.
    """
    training, loop, optimizer = run.config.training, run.state.loop, run.state.optimizer
    run.model.sum_gradients(parameters)
    if run.state.anchor is not None:
        loop.anchor_penalty = run.model.totals(run.state.anchor.pull(run.model.trainable))[0]
    norm = clip_gradients(run, parameters)
    if what := what_is_wrong(loop, training.divergence, loss=loss, norm=norm):
        skip_or_stop(loop, training.divergence, what=what, rate=rate)
        clear_gradients(run)
        return None
    set_learning_rate(optimizer, rate)
    optimizer.step()
    clear_gradients(run)
    note_step(loop, training.divergence, loss=loss)
    if training.exponential_moving_average is not None:
        decay = training.exponential_moving_average.decay
        update_average(run.state.average, run.model.trainable, update=loop.updates + 1, decay=decay)
    return norm


def clear_gradients(run: TrainingRun) -> None:
    """For the next step, in place; shares of spread weights are given theirs anew."""
    run.state.optimizer.zero_grad(set_to_none=run.model.shards is not None)


def clip_gradients(run: TrainingRun, parameters: Sequence[nn.Parameter]) -> float:
    """To `maxGradientNorm`; the norm of all gradients before."""
    own = float(get_total_norm([one.grad for one in parameters if one.grad is not None]))
    norm = own if run.model.shards is None else math.sqrt(run.model.totals(own**2)[0])
    clip_grads_with_norm_(parameters, run.config.training.max_gradient_norm, torch.tensor(norm))
    return norm


def halve_micro_batch(run: TrainingRun) -> None:
    """Smaller pieces from here on, after a resume too."""
    before, run.micro_batch_size = run.micro_batch_size, max(1, run.micro_batch_size // 2)
    run.state.loop.micro_batch_size = run.micro_batch_size
    run.warn(
        f"Memory did not suffice at step {run.step + 1} with a micro batch of {before}: it is {run.micro_batch_size} from there on. "
        f"Set `training.microBatchSize: {run.micro_batch_size}`, or use a profile with more memory."
    )


def seed_dropout(run: TrainingRun, micro_batch: int) -> None:
    """Everything random in a forward pass follows from where it stands, not from what ran before: resumes are exact."""
    place = f"{run.config.training.seed}/{run.step}/{run.world.rank}/{micro_batch}"
    digest = hashlib.sha256(place.encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    np.random.seed(int.from_bytes(digest[8:12], "big"))  # noqa: NPY002 - transformers masks speech by this generator


def examples_of(split: Split, rows: Sequence[Row]) -> list[Any]:
    """The examples of some rows."""
    return [split.encoded[index] for row in rows for index in row]


def add_counts(run: TrainingRun, counts: Mapping[str, float]) -> None:
    """For the next line of `metrics.jsonl`."""
    sums = run.state.loop.window_sums
    run.state.loop.window_sums = sums | {name: sums.get(name, 0.0) + value for name, value in counts.items()}


def where(run: TrainingRun) -> Round:
    """What a task that works in rounds needs to know."""
    return Round(
        step=run.step,
        total_steps=run.total_steps,
        examples=run.train.encoded,
        rows_of=lambda step: [index for row in run.plan.global_batch(step) for index in row],
        tokens_per_batch=run.tokens_per_batch,
        rank=run.world.rank,
        world_size=run.world.world_size,
        stop=run.stop,
    )


def count(run: TrainingRun, batch: Sequence[Row], *, tokens: int, seconds: float) -> None:
    """Tokens, examples and time of a finished step."""
    loop = run.state.loop
    loop.tokens += tokens
    loop.examples += sum(len(row) for row in batch)
    loop.training_seconds += seconds
    run.stepping_seconds += seconds
    run.stepped += 1
    speed = tokens / seconds
    run.tokens_per_second = speed if run.tokens_per_second is None else 0.8 * run.tokens_per_second + 0.2 * speed


def is_log_due(run: TrainingRun) -> bool:
    """Every step in short runs."""
    every = parse_extra_arguments(run.config.training).log_every_steps or max(1, run.total_steps // HISTORY_LINES)
    return run.step % every == 0 or run.step == run.total_steps


def log_step(run: TrainingRun, *, rate: float, norm: float | None) -> None:
    """One line of `metrics.jsonl`: the mean loss per target since the line before, of the steps that were not left out."""
    loop = run.state.loop
    values: dict[str, float] = {"step": run.step, "epoch": round(run.epoch, 6)}
    if loop.window_targets:
        values["loss"] = loop.window_loss / loop.window_targets
    if norm is not None:
        values["gradient_norm"] = norm
    if run.state.anchor is not None:
        values["anchor_penalty"] = loop.anchor_penalty
    if loop.skipped_steps:
        values["skipped_steps"] = loop.skipped_steps
    if isinstance(run.task, Telling):
        values |= run.task.tell(loop.window_sums)
    values |= {
        "learning_rate": rate,
        "tokens": loop.tokens,
        "tokens_per_second": round(run.tokens_per_second or 0.0, 1),
    }
    loop.history.append(values)
    loop.window_loss, loop.window_targets, loop.window_sums = 0.0, 0, {}
    if run.world.is_main:
        logs.fact("step", total=run.total_steps, **values)


def evaluate_and_select(run: TrainingRun) -> None:
    """Measure the validation split; keep the weights if they are the best so far; stop if they stopped improving."""
    if run.validation is None:
        return
    with run.state.averaged() if run.step else run.model.untouched(), run.model.whole():
        evaluate_weights(run, run.validation)


def evaluate_weights(run: TrainingRun, validation: Split) -> None:
    """The same with the weights as they are now."""
    found = evaluate(
        run.model,
        run.task,
        validation,
        world=run.world,
        tokens_per_batch=run.tokens_per_batch,
        stop=run.stop,
        attack=run.attack,
    )
    loop = run.state.loop
    metrics = {f"eval_{name}": value for name, value in found.items()}
    if not all(math.isfinite(value) for value in metrics.values()):
        raise TrainerError(
            TrainerReason.LOSS_DIVERGED,
            f"The validation loss at step {run.step} is {metrics['eval_loss']:g} ({last_losses(loop)}). "
            "Lower `training.learningRate` or lengthen the warm-up.",
        )
    loop.evaluated_step = run.step
    loop.history.append({"step": run.step, "epoch": round(run.epoch, 6), **metrics})
    if run.world.is_main:
        logs.fact("evaluation", step=run.step, **metrics)
    if run.step > 0:  # an untrained model is never "the best one"
        select_best(run, metrics)
        stop_early(run, metrics)
    run.report(run)


def select_best(run: TrainingRun, metrics: dict[str, float]) -> None:
    """Keep these weights if they are better than all before."""
    chosen = run.config.training.select_best_by
    name, is_minimised = (chosen.metric, chosen.mode == "min") if chosen else ("eval_loss", True)
    best = run.state.loop.best
    if best is None or is_better(metrics[name], best.value, is_minimised=is_minimised):
        run.state.loop.best = Best(step=run.step, value=metrics[name])
        run.state.keep_best()


def stop_early(run: TrainingRun, metrics: dict[str, float]) -> None:
    """Count evaluations without improvement."""
    settings, loop = run.config.training.early_stopping, run.state.loop
    if settings is None:
        return
    value = metrics[settings.metric]
    is_minimised = settings.metric.endswith(LOWER_IS_BETTER)
    if loop.stopping_best is None or is_better(value, loop.stopping_best, is_minimised=is_minimised):
        loop.stopping_best, loop.evaluations_without_improvement = value, 0
        return
    loop.evaluations_without_improvement += 1
    if loop.evaluations_without_improvement >= settings.patience and run.step < run.total_steps:
        loop.stopped_early = True
        logs.fact("stopped_early", step=run.step, metric=settings.metric, best=loop.stopping_best)


def is_better(value: float, than: float, *, is_minimised: bool) -> bool:
    """Strictly."""
    return value < than if is_minimised else value > than


def save_checkpoint(run: TrainingRun) -> None:
    """Hand the state over, unless this step is saved already; only the main process writes."""
    if run.is_saved:
        return
    run.save()
    run.saved, run.saved_at = (run.step, run.state.loop.evaluated_step), time.monotonic()
