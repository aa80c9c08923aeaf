"""From a RunConfig to everything the loop needs: data, model, task and plan, each checked as early as it can be."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trimtab_trainer import logs
from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import ResolvedDataset, RunConfig
from trimtab_trainer.contract.spec import Data, DataSource
from trimtab_trainer.data.batches import BatchPlan, pack, total_steps
from trimtab_trainer.data.encoding import LabelEncoder, TextEncoder
from trimtab_trainer.data.splits import SPLITS, RawData, Split, encode_split, labels_of, read_data
from trimtab_trainer.distributed import bytes_from_main, wait_for_all
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.base_model import BaseModel, fetch_base_model
from trimtab_trainer.fetch.by_uri import fetch_dataset
from trimtab_trainer.hardware import choose_precision, has_bfloat16_units
from trimtab_trainer.memory import MemoryEstimate, choose_micro_batch_size
from trimtab_trainer.model import TrainableModel, apply_method, load_model, load_tokenizer, prepare
from trimtab_trainer.model_facts import ModelFacts, read_model_facts
from trimtab_trainer.preflight import check_target_modules
from trimtab_trainer.quota import memory_limit
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.tasks.language_modeling import choose_layout
from trimtab_trainer.tasks.sequence_classification import SequenceClassification
from trimtab_trainer.tasks.task import Task

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class Prepared:
    """What preparation made."""

    splits: Mapping[str, Split]
    datasets: list[ResolvedDataset]
    model_digest: str
    facts: ModelFacts
    model: TrainableModel
    task: Task
    encoder: TextEncoder | LabelEncoder
    plan: BatchPlan
    total_steps: int
    micro_batch_size: int
    memory: MemoryEstimate


def prepare_run(attempt: Attempt, store: ObjectStore, device: torch.device, *, precision: str) -> Prepared:
    """Fetch, check, tokenise, load. `precision` is what an earlier attempt computed in, "" for the first.

    Raises:
        TrainerError: with the reason of whatever is wrong.
    """
    config = attempt.config
    with attempt.timed("reading data"):
        raw = read_data(config, lambda source: _fetch_dataset(attempt, store, source, device))
        labels = labels_of(config.task, raw.examples["train"]) if config.task.sequence_classification else ()
    for warning in raw.warnings:
        attempt.warn(warning)
    attempt.reporter.update(datasets=list(raw.datasets))
    with attempt.timed("fetching the model"):
        base = _fetch_model(attempt, store, device)
        facts = read_model_facts(base.directory)
        check_target_modules(config, facts)
    attempt.reporter.update(urgent=True, model_digest=base.digest)
    dtype = _agreed_precision(attempt, device, precision)
    size, memory = _micro_batch_size(attempt, facts, device, dtype)
    with attempt.timed("tokenising"):
        tokenizer = load_tokenizer(base.adapter or base.directory)
        encoder = _make_encoder(config, base.directory, tokenizer, labels)
        splits = encode_splits(attempt, raw, encoder)
    with attempt.timed("loading the model"):
        loaded, new = load_model(config, base.directory, tokenizer=tokenizer, labels=labels)
        module = apply_method(config, loaded, new, adapter=base.adapter)
        model = prepare(module, tokenizer=tokenizer, device=device, precision=dtype, labels=labels)
        task = _make_task(attempt, model, splits["train"])
    plan = make_plan(config, splits["train"])
    steps = total_steps(plan, epochs=config.training.epochs, max_steps=config.training.max_steps)
    return Prepared(splits, list(raw.datasets), base.digest, facts, model, task, encoder, plan, steps, size, memory)


def make_plan(config: RunConfig, train: Split) -> BatchPlan:
    """The rows of the training split and their order. Only language modelling packs; other tasks batch by length."""
    lengths = [example.length for example in train.encoded]
    is_packed = config.data.packing and config.task.causal_language_modeling is not None
    capacity = config.data.max_sequence_length
    rows = (
        pack(lengths, capacity=capacity, seed=config.training.seed)
        if is_packed
        else [(i,) for i in range(len(lengths))]
    )
    return BatchPlan(
        rows=rows,
        lengths=[sum(lengths[index] for index in row) for row in rows],
        global_batch_size=config.training.global_batch_size,
        seed=config.training.seed,
        group_by_length=not is_packed,
    )


def encode_splits(attempt: Attempt, raw: RawData, encoder: TextEncoder | LabelEncoder) -> dict[str, Split]:
    """Tokenise every split and report what the data check found."""
    splits = {}
    for name, examples in raw.examples.items():
        splits[name] = encode_split(name, examples, encoder.encode)
        summary = splits[name].summary
        if examples:
            logs.fact(
                "data_checked",
                **summary.model_dump(),
                **{f"p{at}": count for at, count in splits[name].lengths.items()},
            )
        if summary.truncated:
            attempt.warn(
                f"{summary.truncated} of {summary.examples} {name} examples are longer than maxSequenceLength "
                f"({attempt.config.data.max_sequence_length}) and were cut."
            )
    if isinstance(encoder, TextEncoder):
        untaught = sum(
            1 for item in splits["train"].encoded if not item.cut and int(item.ids[-1]) not in encoder.stop_ids
        )
        last_is_masked = sum(
            1 for item in splits["train"].encoded if not _teaches_stop(item.ids, item.supervised, encoder.stop_ids)
        )
        if untaught == last_is_masked == len(splits["train"].encoded):
            attempt.warn(
                "No training example ends in one of the model's stop tokens: the model is not taught when to stop."
            )
    attempt.reporter.update(urgent=True, data=[split.summary for split in splits.values() if split.examples])
    return splits


def _teaches_stop(ids: Any, supervised: Any, stop_ids: frozenset[int]) -> bool:
    return any(int(token) in stop_ids for token in ids[supervised])


def _fetch_dataset(attempt: Attempt, store: ObjectStore, source: DataSource, device: torch.device) -> Any:
    pins = {pin.uri: pin.digest for pin in attempt.config.pins.datasets}
    _wait_for_turn(attempt, device)
    fetched = fetch_dataset(
        source,
        store=store,
        directory=attempt.scratch / f"data-{attempt.world.local_rank}",
        pin=pins.get(source.uri, ""),
        field=_field_of(source, attempt.config.data),
    )
    _same_everywhere(fetched.digest, source.uri, device)
    return fetched


def _field_of(source: DataSource, data: Data) -> str:
    """The field that names a source, as its user wrote it."""
    named = ((split, number, known) for split in SPLITS for number, known in enumerate(getattr(data, split)))
    return next(f"data.{split}[{number}].uri" for split, number, known in named if known is source)


def _fetch_model(attempt: Attempt, store: ObjectStore, device: torch.device) -> BaseModel:
    _wait_for_turn(attempt, device)
    found = fetch_base_model(
        attempt.config, store=store, directory=attempt.scratch / f"model-{attempt.world.local_rank}"
    )
    _same_everywhere(found.digest, attempt.config.model.uri, device)
    return found


def _wait_for_turn(attempt: Attempt, device: torch.device) -> None:
    """Several ranks start together."""
    if attempt.world.world_size > 1:
        wait_for_all(device)


def _same_everywhere(digest: str, uri: str, device: torch.device) -> None:
    """All ranks must have read the same bytes."""
    main = bytes_from_main(digest.encode(), device).decode()
    if digest != main:
        raise TrainerError(
            TrainerReason.DIGEST_MISMATCH,
            f"{uri} changed while the processes of this attempt read it: {digest} and {main}.",
        )


def _agreed_precision(attempt: Attempt, device: torch.device, earlier: str) -> torch.dtype:
    """Rank 0 decides for all; a resumed run computes as it began."""
    wanted = attempt.config.training.precision
    chosen = PRECISIONS[earlier] if earlier else choose_precision(wanted, device)
    name = bytes_from_main(str(chosen).removeprefix("torch.").encode(), device).decode()
    if name == "bfloat16" and device.type == "cpu" and not has_bfloat16_units():
        attempt.warn(
            "This CPU has no bfloat16 units (AMX or AVX512_BF16): bfloat16 is emulated, about three times slower than float32."
        )
    return PRECISIONS[name]


def _micro_batch_size(
    attempt: Attempt, facts: ModelFacts, device: torch.device, dtype: torch.dtype
) -> tuple[int, MemoryEstimate]:
    config = attempt.config
    if device.type == "cuda":
        limit: int | None = torch.cuda.get_device_properties(device).total_memory
    else:
        limit = min(filter(None, (config.memory_limit_bytes, memory_limit())), default=None)
    share = -(-config.training.global_batch_size // attempt.world.world_size)
    size, estimate = choose_micro_batch_size(
        config, facts, share=share, device_type=device.type, bytes_per_value=dtype.itemsize, limit=limit
    )
    logs.fact("memory_estimated", micro_batch_size=size, bytes=estimate.total, limit=limit)
    return size, estimate


def _make_encoder(
    config: RunConfig, directory: Path, tokenizer: Any, labels: tuple[str, ...]
) -> TextEncoder | LabelEncoder:
    length = config.data.max_sequence_length
    if labels:
        return LabelEncoder(tokenizer, length, labels)
    if tokenizer.eos_token_id is None:
        raise TrainerError(TrainerReason.MODEL_INVALID, "The model's tokenizer has no end-of-text token (eos_token).")
    supervised = config.objective.supervised
    return TextEncoder(
        tokenizer, length, bool(supervised and supervised.loss_on_prompt), stop_ids(directory, tokenizer)
    )


def stop_ids(directory: Path, tokenizer: Any) -> frozenset[int]:
    """The tokens at which generation stops: the tokenizer's EOS and those of `generation_config.json`."""
    try:
        found = json.loads((directory / "generation_config.json").read_text("utf-8")).get("eos_token_id")
    except (OSError, ValueError):
        found = None
    several = found if isinstance(found, list) else [found]
    return frozenset({tokenizer.eos_token_id, *(token for token in several if isinstance(token, int))})


def _make_task(attempt: Attempt, model: TrainableModel, train: Split) -> Task:
    if attempt.config.task.sequence_classification is not None:
        return SequenceClassification(model.device, model.tokenizer.pad_token_id)
    task, why = choose_layout(model, train.encoded)
    if why:
        attempt.warn(why)
    return task
