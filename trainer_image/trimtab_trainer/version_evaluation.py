"""Measuring a published version again: itself, its base model and the champion, one after the other on the same data."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from trimtab_trainer import logs
from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.data_checks import CONTINUAL
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.gates import Evaluation, Source
from trimtab_trainer.contract.messages import TerminationMessage, TrainerReport
from trimtab_trainer.contract.methods import HeadOnly, Method
from trimtab_trainer.contract.run_config import (
    JobIdentity,
    ResolvedModelVersion,
    RunConfig,
    VersionEvaluationConfig,
    VersionJobConfig,
)
from trimtab_trainer.contract.spec import (
    Checkpoints,
    Data,
    DataSource,
    Distribution,
    Output,
    Training,
)
from trimtab_trainer.data.languages import release_detector
from trimtab_trainer.data.splits import Split, encode_split, read_data
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.by_uri import fetch_dataset
from trimtab_trainer.fetch.published import PublishedFiles, base_under, fetch_version
from trimtab_trainer.hardware import choose_device, choose_precision
from trimtab_trainer.interruption import StopSignal
from trimtab_trainer.measure import gate_measurements, measure_splits
from trimtab_trainer.objectives.policy import make_scorer
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.objectives.rewards.scorer import Scorer
from trimtab_trainer.preflight import check_gates
from trimtab_trainer.published_model import load_published, release
from trimtab_trainer.reporting.progress import Reporter
from trimtab_trainer.store.object_store import ObjectStore

TOKENS_PER_BATCH = 2048
"""Enough to keep a CPU busy, little enough for the memory of a pod that trains the same model."""
Metrics = dict[str, float]


def evaluate_version(
    config: VersionJobConfig, store: ObjectStore, *, scratch: Path, stop: StopSignal
) -> TerminationMessage:
    """The numbers of the version's gates.

    Raises:
        TrainerError: with the reason of whatever keeps the version itself from being measured.
        Interruption: SIGTERM came.
    """
    asked, version = config.evaluate, config.version
    if asked is None or version is None:
        raise TypeError("evaluate and version must be set")
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    run = run_config(config, version, asked)
    check_gates(run)
    check_measurable(asked.evaluation)
    attempt = Attempt(run, stop, Reporter(TrainerReport(attempt=1, phase="Evaluating"), None), scratch)
    device = choose_device(run.distribution, local_rank=0)
    splits = read_splits(run, store, scratch)
    scorer = make_scorer(run, store=store, directory=scratch / "reward-model", device=device)
    measure = partial(_measure, attempt, splits, device=device, scorer=scorer)
    files = fetch_version(version, store=store, directory=scratch / "candidate")
    result = measure(files)
    baseline = _or_nothing(
        "base model", lambda: measure(base_under(version, files, store=store, directory=scratch / "base"))
    )
    champion = asked.champion
    rival: Metrics = {}
    if champion is not None:
        rival = _or_nothing(
            champion.name,
            lambda: measure(fetch_version(champion, store=store, directory=scratch / "champion")),
        )
    return TerminationMessage(
        reason="Succeeded",
        gates=gate_measurements(asked.evaluation.gates, result=result, baseline=baseline, champion=rival),
        champion=champion.name if champion else "",
    )


def run_config(config: VersionJobConfig, version: ResolvedModelVersion, asked: VersionEvaluationConfig) -> RunConfig:
    """A run that trains nothing, on the splits that the gates ask for."""
    return RunConfig(
        job=JobIdentity(namespace=config.namespace, name=version.name, uid=version.name),
        attempt=1,
        model=version.base_model,
        task=config.task,
        objective=asked.objective,
        method=Method(head_only=HeadOnly()),
        data=_needed(asked.data, asked.evaluation),
        training=Training(seed=asked.seed, precision=asked.precision),
        distribution=Distribution(accelerators_per_node=config.accelerators),
        checkpoints=Checkpoints(),
        output=Output(model_name="evaluation"),
        evaluation=asked.evaluation,
        reward_model=asked.reward_model,
        store=config.store,
    )


def check_measurable(evaluation: Evaluation) -> None:
    """What compares a version with the model that its training began with was measured then, and cannot be again.

    Raises:
        TrainerError: ConfigInvalid naming the gate.
    """
    for gate in evaluation.gates:
        if gate.plain_metric.startswith(CONTINUAL):
            raise TrainerError(
                TrainerReason.CONFIG_INVALID,
                f"The gate '{gate.title}' compares with the model before training: its job measured that once; what it found stands.",
            )


def _needed(data: Data, evaluation: Evaluation) -> Data:
    """The training split is read only to hold out the validation split from it."""
    sources: set[Source] = {gate.source for gate in evaluation.gates}
    holds_out = "validation" in sources and data.validation_fraction is not None
    unused: dict[str, list[DataSource]] = {
        str(name): [] for name in ("validation", "test", "general") if name not in sources
    }
    if not holds_out:
        unused["train"] = []
    fraction = {} if holds_out else {"validation_fraction": None}
    return data.model_copy(update={**unused, **fraction})


def read_splits(run: RunConfig, store: ObjectStore, scratch: Path) -> dict[str, Split]:
    """The examples, as they lie in the store now; every model encodes them in its own way."""
    raw = read_data(
        run,
        lambda source: fetch_dataset(source, store=store, directory=scratch / "data"),
        allowed=definition_of(run).formats,
        by_task=definition_of(run).formats_by_task(),
    )
    release_detector()
    return {
        name: Split(name, [], examples, encode_split(name, [], lambda _: []).summary)
        for name, examples in raw.examples.items()
        if name not in {"train", "replay"}
    }


def _measure(
    attempt: Attempt,
    splits: Mapping[str, Split],
    files: PublishedFiles,
    *,
    device: torch.device,
    scorer: Scorer | None,
) -> Metrics:
    precision = choose_precision(attempt.config.training.precision, device)
    loaded = load_published(attempt.config, files, splits, device=device, precision=precision, scorer=scorer)
    tokens = max(TOKENS_PER_BATCH, attempt.config.data.max_sequence_length)
    try:
        return measure_splits(attempt, loaded.model, loaded.task, loaded.splits, tokens_per_batch=tokens)
    finally:
        del loaded
        release(device)


def _or_nothing(name: str, measure: Callable[[], Metrics]) -> Metrics:
    """What a gate compares with may be gone: then it has no number, and the others are judged all the same."""
    try:
        return measure()
    except TrainerError as error:
        logs.warning("not_measured", what=name, why=str(error))
        return {}
