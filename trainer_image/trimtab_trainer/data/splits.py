"""Data sets to splits: read, checked, separated, tokenised and summarised before anything trains."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import DataSummary
from trimtab_trainer.contract.run_config import ResolvedDataset, RunConfig
from trimtab_trainer.contract.spec import DataFormat, DataSource
from trimtab_trainer.data.annotations import OfTask
from trimtab_trainer.data.changes import augmented, normalized
from trimtab_trainer.data.encoded import ModelInput
from trimtab_trainer.data.formats import Example, read_examples
from trimtab_trainer.data.languages import in_expected_languages
from trimtab_trainer.data.quality import DataQuality, check_quality
from trimtab_trainer.errors import TrainerError

SPLITS = ("train", "validation", "test", "general")
DATA_SET = "data set"
"""The group of an example by its data set's name; no column can be called so."""
MEASURED_GENERAL_SHARE = 0.25
"""Of general data, where the rest is mixed into training."""


class FetchedFiles(Protocol):
    """A data set on the local disk."""

    @property
    def files(self) -> list[Path]:
        """The files, in a fixed order."""

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the listing."""

    @property
    def source(self) -> DataSource:
        """What was asked for."""


@dataclass(frozen=True)
class RawData:
    """Checked examples of each split, and what they were read from."""

    examples: Mapping[str, Sequence[Example]]
    datasets: Sequence[ResolvedDataset]
    warnings: Sequence[str] = ()
    quality: DataQuality | None = None


@dataclass(frozen=True)
class Split:
    """Tokenised examples of one split, those without anything to learn left out."""

    name: str
    encoded: Sequence[ModelInput]
    examples: Sequence[Example]
    """The same examples as text, in the same order."""
    summary: DataSummary
    lengths: Mapping[str, int] = field(default_factory=dict)
    """Percentiles of the token counts before cutting is counted: `{"5": 47, "50": 85, ...}`."""


def read_data(
    config: RunConfig,
    fetch: Callable[[DataSource], FetchedFiles],
    *,
    allowed: tuple[DataFormat, ...],
    by_task: Mapping[str, tuple[DataFormat, ...]] | None = None,
) -> RawData:
    """Fetch and read every data set; hold out the validation split if a fraction is asked for.

    Args:
        config: of the run.
        fetch: brings a data set onto the local disk.
        allowed: formats that the task reads.
        by_task: those of each task where there are several.

    Raises:
        TrainerError: DatasetInvalid, ConfigInvalid, or what `fetch` raises.
    """
    examples: dict[str, list[Example]] = {}
    datasets: list[ResolvedDataset] = []
    for split in SPLITS:
        examples[split] = []
        for source in getattr(config.data, split):
            formats = formats_of(source, allowed, by_task)
            check_format(source, allowed=formats, task=config.task.kind)
            fetched = fetch(source)
            columns = config.data.slices.columns if config.data.slices else []
            found = read_examples(named_files(fetched), source, allowed=formats, group_columns=columns)
            if config.data.normalization:
                found = normalized(found, config.data.normalization)
            examples[split] += [in_data_set(one, source.name) for one in of_task(found, source.task)]
            datasets.append(ResolvedDataset(uri=source.uri, digest=fetched.digest, examples=len(found)))
    dropped: list[str] = []
    if config.data.languages is not None:
        examples["train"], dropped = in_expected_languages(examples["train"], config.data.languages)
    if config.data.validation_fraction is not None:
        examples["train"], examples["validation"] = hold_out(examples["train"], config.data.validation_fraction)
    if config.data.mix_fraction is not None:
        examples["replay"], examples["general"] = set_aside(examples["general"])
    quality = check_quality(examples, config.data.languages)
    warnings = [*leakage(examples), *dropped, *quality.warnings()]
    if config.data.augmentation is not None:
        examples["train"] = augmented(examples["train"], config.data.augmentation, seed=config.training.seed)
    return RawData(examples, datasets, warnings, quality)


def formats_of(
    source: DataSource, allowed: tuple[DataFormat, ...], by_task: Mapping[str, tuple[DataFormat, ...]] | None
) -> tuple[DataFormat, ...]:
    """What a data set may hold, by the task that it names.

    Raises:
        TrainerError: ConfigInvalid where it must name one of several tasks, or names one where there are none.
    """
    if not by_task and not source.task:
        return allowed
    if not by_task or source.task not in by_task:
        remedy = f"must be one of: {', '.join(by_task)}." if by_task else "is for `task.multiTask` only; leave it out."
        raise TrainerError(
            TrainerReason.CONFIG_INVALID, f"`task: {source.task or '(absent)'}` of {source.uri} {remedy}"
        )
    return by_task[source.task]


def in_data_set(example: Example, name: str) -> Example:
    """In the group of its data set, where that has a name."""
    return replace(example, groups={**example.groups, DATA_SET: name}) if name else example


def of_task(examples: Sequence[Example], task: str) -> list[Example]:
    """Marked with the task that their data set names."""
    return [replace(one, content=OfTask(task, one.content)) for one in examples] if task else list(examples)


def check_format(source: DataSource, *, allowed: tuple[DataFormat, ...], task: str) -> None:
    """A format must fit the task."""
    if source.format and source.format not in allowed:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`format: {source.format}` of {source.uri} does not fit the task {task}; "
            f"must be one of: {', '.join(allowed)}.",
        )


def named_files(fetched: FetchedFiles) -> list[tuple[str, Path]]:
    """Each file with the name that messages use: its URI."""
    uri = fetched.source.uri
    if len(fetched.files) == 1 and Path(uri).name == fetched.files[0].name:
        return [(uri, fetched.files[0])]
    return [(f"{uri.rstrip('/')}/{file.name}", file) for file in fetched.files]


def hold_out(examples: Sequence[Example], fraction: float) -> tuple[list[Example], list[Example]]:
    """Split by a hash of what an example says: the same words always land on the same side, so doubles cannot leak.

    Raises:
        TrainerError: DatasetInvalid where that leaves a split empty.
    """
    limit = int(fraction * 2**64)
    held = [int(example.fingerprint[:16], 16) < limit for example in examples]
    train = [example for example, is_held in zip(examples, held, strict=True) if not is_held]
    validation = [example for example, is_held in zip(examples, held, strict=True) if is_held]
    if not train or not validation:
        raise TrainerError(
            TrainerReason.DATASET_INVALID,
            f"`validationFraction: {fraction}` of {len(examples)} training examples leaves {len(train)} for training and "
            f"{len(validation)} for validation; both must have one. Choose another fraction or give `data.validation`.",
        )
    return train, validation


def set_aside(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """General data for replay, and the quarter that is only measured, by a hash: a check for forgetting needs unseen examples.

    Raises:
        TrainerError: DatasetInvalid where there are too few.
    """
    try:
        return hold_out(examples, MEASURED_GENERAL_SHARE)
    except TrainerError as error:
        raise TrainerError(
            TrainerReason.DATASET_INVALID,
            f"`data.mixFraction` needs more than {len(examples)} general examples: a quarter is only measured, the rest is mixed in.",
        ) from error


def leakage(examples: Mapping[str, Sequence[Example]]) -> list[str]:
    """Warnings about examples of the training split that are also in a split that measures."""
    seen = {example.fingerprint for example in examples["train"]}
    found: list[str] = []
    for split in SPLITS[1:]:
        doubles = sum(example.fingerprint in seen for example in examples[split])
        if doubles:
            found.append(f"{doubles} of {len(examples[split])} {split} examples are also in the training split.")
    return found


def encode_split(
    name: str, examples: Sequence[Example], encode: Callable[[Sequence[Example]], Sequence[ModelInput]]
) -> Split:
    """Tokenise one split; leave out and count what is empty or has no token to learn from.

    Raises:
        TrainerError: DatasetInvalid where nothing is left.
    """
    filled = [example for example in examples if not example.content.is_empty]
    pairs = with_origins(filled, encode(filled))
    kept = [(example, item) for example, item in pairs if item.is_learnable]
    if examples and not kept:
        raise TrainerError(
            TrainerReason.DATASET_INVALID,
            f"No example of the {name} split can be learned from: {len(examples) - len(filled)} of {len(examples)} are empty, "
            f"{len(pairs)} have no token that carries loss within `maxSequenceLength`.",
        )
    encoded = [item for _, item in kept]
    return Split(
        name=name,
        encoded=encoded,
        examples=[example for example, _ in kept],
        lengths=percentiles([item.length for item in encoded]),
        summary=DataSummary(
            split=name,
            examples=len(kept),
            empty=len(examples) - len(filled),
            truncated=sum(item.cut for item in encoded),
            unsupervised=len(pairs) - len(kept),
            tokens=sum(item.length for item in encoded),
            supervised_tokens=sum(item.targets for item in encoded),
        ),
    )


def with_origins(examples: Sequence[Example], encoded: Sequence[ModelInput]) -> list[tuple[Example, ModelInput]]:
    """Each encoded piece with its example: one each, or as the pieces say."""
    origins = [getattr(item, "example", None) for item in encoded]
    if any(origin is not None for origin in origins):
        return [(examples[origin], item) for origin, item in zip(origins, encoded, strict=True) if origin is not None]
    return list(zip(examples, encoded, strict=True))


def percentiles(counts: Sequence[int]) -> dict[str, int]:
    """Token counts at 5, 50, 95 and 100 percent."""
    if not counts:
        return {}
    return {str(percent): int(np.percentile(counts, percent)) for percent in (5, 50, 95, 100)}
