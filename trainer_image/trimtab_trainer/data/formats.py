"""Rows to examples: each read in one of the formats, each error with file and line."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import canonical_json, sha256_hex
from trimtab_trainer.contract.spec import DataFormat, DataSource
from trimtab_trainer.data.annotations import OfTask, read_multi_labelled, read_questioned, read_tagged
from trimtab_trainer.data.files import Row, RowError, rows
from trimtab_trainer.data.media import (
    Media,
    read_annotated_image,
    read_image_text,
    read_labelled_image,
    read_transcribed,
)
from trimtab_trainer.data.prompts import read_preference, read_prompt
from trimtab_trainer.data.templates import filled
from trimtab_trainer.data.values import Turns, label_of, text_of, turns_of
from trimtab_trainer.errors import TrainerError

ROLES_OF_FORMAT: dict[DataFormat, tuple[str, ...]] = {
    "messages": ("messages",),
    "promptCompletion": ("prompt", "completion"),
    "preference": ("prompt", "chosen", "rejected"),
    "labelled": ("text", "label"),
    "multiLabelled": ("text", "labels"),
    "tagged": ("tokens", "tags"),
    "questionAnswers": ("question", "context", "answers"),
    "labelledImage": ("image", "label"),
    "imageText": ("image", "text"),
    "annotatedImage": ("image", "objects"),
    "transcribedAudio": ("audio", "text"),
    "text": ("text",),
    "prompt": ("prompt",),
}
"""What a row of each format consists of, in the order in which formats are inferred."""
OPTIONAL_ROLES: dict[DataFormat, tuple[str, ...]] = {"imageText": ("label",)}
SHOWN_PROBLEMS = 3


@dataclass(frozen=True)
class Chat:
    """A conversation: `(role, content)` pairs."""

    messages: Turns

    @property
    def is_empty(self) -> bool:
        """No assistant message says anything."""
        return not any(role == "assistant" and content.strip() for role, content in self.messages)


@dataclass(frozen=True)
class Completion:
    """A prompt and the answer to it."""

    prompt: str
    completion: str

    @property
    def is_empty(self) -> bool:
        """Nothing to learn."""
        return not self.completion.strip()


@dataclass(frozen=True)
class Text:
    """Raw text."""

    text: str

    @property
    def is_empty(self) -> bool:
        """Nothing to learn."""
        return not self.text.strip()


@dataclass(frozen=True)
class Labelled:
    """A text and its label."""

    text: str
    label: str

    @property
    def is_empty(self) -> bool:
        """Nothing to read."""
        return not self.text.strip()


class Content(Protocol):
    """What a row says: a frozen dataclass of text, numbers, tuples and media."""

    @property
    def is_empty(self) -> bool:
        """Nothing to learn from."""


@dataclass(frozen=True)
class Example:
    """One row, and where it stands."""

    place: str
    """For messages: `s3://bucket/train.jsonl line 17`."""
    content: Content
    weight: float = 1.0
    """How often an epoch shows it; the data set's."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Its value in each column that results are compared by; a column that its row lacks is absent."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what it says: the same words have the same fingerprint wherever they stand."""
        fields = vars(self.content)
        return sha256_hex(
            canonical_json([type(self.content).__name__, {name: _plain(fields[name]) for name in sorted(fields)}])
        )


def _plain(value: Any) -> Any:
    if isinstance(value, OfTask):
        value = value.content
    if isinstance(value, Media):
        return value.sha256
    return {name: _plain(part) for name, part in sorted(vars(value).items())} if is_dataclass(value) else value


def read_examples(
    files: Iterable[tuple[str, Path]],
    source: DataSource,
    *,
    allowed: tuple[DataFormat, ...],
    group_columns: Sequence[str] = (),
) -> list[Example]:
    """Every row of `(name, path)` files, checked; `group_columns` are noted beside what a row says.

    Raises:
        TrainerError: DatasetInvalid naming file, line and remedy of the first bad rows, and how many there are, or where there
            are no rows; ConfigInvalid where `columns` or `format` cannot be meant.
    """
    check_columns(source, allowed)
    examples: list[Example] = []
    problems: list[str] = []
    count = 0
    for path, (place, row) in chain.from_iterable(_with_path(path, rows(path, name)) for name, path in files):
        try:
            if isinstance(row, RowError):
                raise row
            content = _content(row, source, allowed, directory=path.parent)
            groups = {name: _group(row[name]) for name in group_columns if row.get(name) is not None}
            examples.append(Example(place, content, source.weight, groups))
        except RowError as problem:
            count += 1
            if len(problems) < SHOWN_PROBLEMS:
                problems.append(f"{place}: {problem}")
    if problems:
        more = f" ... and {count - len(problems)} more rows." if count > len(problems) else ""
        raise TrainerError(TrainerReason.DATASET_INVALID, "; ".join(problems) + more)
    if not examples:
        raise TrainerError(TrainerReason.DATASET_INVALID, f"{source.uri} has no rows. Fill it, or leave it out.")
    return examples


def _content(row: dict[str, Any], source: DataSource, allowed: tuple[DataFormat, ...], *, directory: Path) -> Content:
    if source.templates:
        return Completion(*filled(row, source.templates))
    chosen = source.format or infer_format(row, source.columns, allowed)
    return read_row(row, chosen, source.columns, directory=directory)


def _group(value: Any) -> str:
    """A cell as the name of a group."""
    return value if isinstance(value, str) else json.dumps(value)


def _with_path(path: Path, found: Iterable[Row]) -> Iterable[tuple[Path, Row]]:
    return ((path, row) for row in found)


def check_columns(source: DataSource, allowed: tuple[DataFormat, ...]) -> None:
    """`columns` may only name roles that its format (or, without one, any that the task reads) has; `templates` stand instead of both."""
    if source.templates and ("promptCompletion" not in allowed or source.format or source.columns):
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`templates` of {source.uri} make prompts and completions of its rows: they stand instead of `format` and `columns`, with "
            f"`task.causalLanguageModeling` and `objective.supervised`. This run reads: {', '.join(allowed)}.",
        )
    formats: Iterable[DataFormat] = (source.format,) if source.format else allowed
    known = list(dict.fromkeys(role for name in formats for role in _roles(name)))
    unknown = [role for role in source.columns if role not in known]
    if unknown:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`columns` of {source.uri} names the role '{unknown[0]}'; a row has: {', '.join(known)}.",
        )


def _roles(name: DataFormat) -> tuple[str, ...]:
    return ROLES_OF_FORMAT[name] + OPTIONAL_ROLES.get(name, ())


def infer_format(row: dict[str, Any], columns: dict[str, str], allowed: tuple[DataFormat, ...]) -> DataFormat:
    """The first allowed format all of whose columns are there."""
    for name, roles in ROLES_OF_FORMAT.items():
        if name in allowed and all(columns.get(role, role) in row for role in roles):
            return name
    wanted = " or ".join(f"{name} ({', '.join(ROLES_OF_FORMAT[name])})" for name in allowed)
    raise RowError(
        f"columns {', '.join(map(str, row)) or 'none'} fit no format; need {wanted}. "
        "Name the columns in `columns`, for example {prompt: question, completion: answer}."
    )


def read_row(row: dict[str, Any], chosen: DataFormat, columns: dict[str, str], *, directory: Path = Path()) -> Content:
    """One row as `chosen` reads it; images and recordings are named relative to `directory`."""
    names = {role: columns.get(role, role) for role in _roles(chosen)}
    for role in ROLES_OF_FORMAT[chosen]:
        if names[role] not in row:
            raise RowError(f"column '{names[role]}' is missing; the row has: {', '.join(map(str, row)) or 'nothing'}")
    cells = {role: row.get(column) for role, column in names.items()}
    if chosen == "prompt":
        return read_prompt(cells["prompt"], names["prompt"], row)
    return READERS[chosen](cells, names, directory)


def _read_chat(cells: Mapping[str, Any], columns: Mapping[str, str]) -> Chat:
    del columns
    return Chat(turns_of(cells["messages"], "messages"))


def _read_completion(cells: Mapping[str, Any], columns: Mapping[str, str]) -> Completion:
    return Completion(text_of(cells["prompt"], columns["prompt"]), text_of(cells["completion"], columns["completion"]))


def _read_labelled(cells: Mapping[str, Any], columns: Mapping[str, str]) -> Labelled:
    return Labelled(text_of(cells["text"], columns["text"]), label_of(cells["label"], columns["label"]))


def _read_text(cells: Mapping[str, Any], columns: Mapping[str, str]) -> Text:
    return Text(text_of(cells["text"], columns["text"]))


Reader = Callable[[Mapping[str, Any], Mapping[str, str], Path], Content]


def _without_files(read: Callable[[Mapping[str, Any], Mapping[str, str]], Content]) -> Reader:
    return lambda cells, columns, _: read(cells, columns)


READERS: Mapping[DataFormat, Reader] = {
    "messages": _without_files(_read_chat),
    "promptCompletion": _without_files(_read_completion),
    "labelled": _without_files(_read_labelled),
    "multiLabelled": _without_files(read_multi_labelled),
    "tagged": _without_files(read_tagged),
    "questionAnswers": _without_files(read_questioned),
    "labelledImage": read_labelled_image,
    "imageText": read_image_text,
    "annotatedImage": read_annotated_image,
    "transcribedAudio": read_transcribed,
    "preference": _without_files(read_preference),
    "text": _without_files(_read_text),
}
"""From cells by role, the columns' names by role and the data file's folder, to what the row says."""
