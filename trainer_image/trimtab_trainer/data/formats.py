"""Files to examples: JSONL, JSON, CSV and Parquet rows, read in one of the four formats, each error with file and line."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import canonical_json, sha256_hex
from trimtab_trainer.contract.spec import DataFormat, DataSource
from trimtab_trainer.errors import TrainerError

ROLES_OF_FORMAT: dict[DataFormat, tuple[str, ...]] = {
    "messages": ("messages",),
    "promptCompletion": ("prompt", "completion"),
    "labelled": ("text", "label"),
    "text": ("text",),
}
"""What a row of each format consists of, in the order in which formats are inferred."""
MESSAGE_ROLES = ("system", "developer", "user", "assistant", "tool")
SHOWN_PROBLEMS = 3


@dataclass(frozen=True)
class Chat:
    """A conversation: `(role, content)` pairs."""

    messages: tuple[tuple[str, str], ...]

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


Content = Chat | Completion | Text | Labelled


@dataclass(frozen=True)
class Example:
    """One row, and where it stands."""

    place: str
    """For messages: `s3://bucket/train.jsonl line 17`."""
    content: Content

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what it says: the same words have the same fingerprint wherever they stand."""
        fields = vars(self.content)
        return sha256_hex(
            canonical_json([type(self.content).__name__, {name: fields[name] for name in sorted(fields)}])
        )


class RowError(Exception):
    """A row that cannot be read; the text follows its place."""


def read_examples(
    files: Iterable[tuple[str, Path]], source: DataSource, *, allowed: tuple[DataFormat, ...]
) -> list[Example]:
    """Every row of `(name, path)` files, checked.

    Raises:
        TrainerError: DatasetInvalid naming file, line and remedy of the first bad rows, and how many there are;
            ConfigInvalid where `columns` or `format` cannot be meant.
    """
    check_columns(source)
    examples: list[Example] = []
    problems: list[str] = []
    count = 0
    for place, row in chain.from_iterable(rows(path, name) for name, path in files):
        try:
            if isinstance(row, RowError):
                raise row
            chosen = source.format or infer_format(row, source.columns, allowed)
            examples.append(Example(place, read_row(row, chosen, source.columns)))
        except RowError as problem:
            count += 1
            if len(problems) < SHOWN_PROBLEMS:
                problems.append(f"{place}: {problem}")
    if problems:
        more = f" ... and {count - len(problems)} more rows." if count > len(problems) else ""
        raise TrainerError(TrainerReason.DATASET_INVALID, "; ".join(problems) + more)
    return examples


def check_columns(source: DataSource) -> None:
    """`columns` may only name roles that its format (or, without one, any format) has."""
    known = ROLES_OF_FORMAT[source.format] if source.format else sorted({*chain(*ROLES_OF_FORMAT.values())})
    unknown = [role for role in source.columns if role not in known]
    if unknown:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`columns` of {source.uri} names the role '{unknown[0]}'; a row has: {', '.join(known)}.",
        )


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


def read_row(row: dict[str, Any], chosen: DataFormat, columns: dict[str, str]) -> Content:
    """One row as `chosen` reads it."""
    values: dict[str, Any] = {}
    for role in ROLES_OF_FORMAT[chosen]:
        column = columns.get(role, role)
        if column not in row:
            raise RowError(f"column '{column}' is missing; the row has: {', '.join(map(str, row)) or 'nothing'}")
        values[role] = (
            _messages(row[column]) if role == "messages" else _text(row[column], column, is_label=role == "label")
        )
    if chosen == "messages":
        return Chat(values["messages"])
    if chosen == "promptCompletion":
        return Completion(values["prompt"], values["completion"])
    if chosen == "labelled":
        return Labelled(values["text"], values["label"])
    return Text(values["text"])


def _text(value: Any, column: str, *, is_label: bool) -> str:
    if isinstance(value, str):
        if is_label and not value.strip():
            raise RowError(f"column '{column}' is empty; every row needs a label")
        return value
    if is_label and isinstance(value, bool | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise RowError(f"column '{column}' must be text{' or a whole number' if is_label else ''}; got {_type_name(value)}")


def _messages(value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:  # a CSV cell holds the list as JSON
            value = json.loads(value)
        except ValueError as error:
            raise RowError(f"'messages' is not valid JSON ({error})") from error
    if not isinstance(value, list):
        raise RowError(f"'messages' must be a list of {{role, content}}; got {_type_name(value)}")
    return tuple(_message(number, message) for number, message in enumerate(value, start=1))


def _message(number: int, message: Any) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise RowError(f"message {number} must be an object with role and content; got {_type_name(message)}")
    role, content = message.get("role"), message.get("content")
    if role not in MESSAGE_ROLES:
        raise RowError(f"message {number} has the role {role!r}; must be one of {', '.join(MESSAGE_ROLES)}")
    if not isinstance(content, str):
        raise RowError(f"message {number} must have text in 'content'; got {_type_name(content)}")
    return role, content


def _type_name(value: Any) -> str:
    names = {"NoneType": "nothing", "dict": "an object", "list": "a list", "str": "text", "bool": "true or false"}
    return names.get(type(value).__name__, "a number" if isinstance(value, int | float) else type(value).__name__)


Row = tuple[str, dict[str, Any] | RowError]


def rows(path: Path, name: str) -> Iterator[Row]:
    """`(place, row)` of one file; its kind is told by its ending, JSONL without one."""
    kind = Path(name).suffix.lower()
    if kind == ".parquet":
        yield from _parquet_rows(path, name)
    elif kind in {".csv", ".tsv"}:
        yield from _csv_rows(path, name, delimiter="\t" if kind == ".tsv" else ",")
    elif kind == ".json" and _starts_with_list(path):
        yield from _json_rows(path, name)
    else:
        yield from _jsonl_rows(path, name)


def _jsonl_rows(path: Path, name: str) -> Iterator[Row]:
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if raw.strip():
                yield f"{name} line {number}", _parsed(raw)


def _parsed(raw: bytes) -> dict[str, Any] | RowError:
    try:
        row = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return RowError(f"not valid UTF-8 ({error.reason} at byte {error.start}). Save the file as UTF-8.")
    except ValueError as error:
        return RowError(f"not valid JSON ({error}). Each line must be one JSON object.")
    return row if isinstance(row, dict) else RowError(f"must be a JSON object; got {_type_name(row)}")


def _starts_with_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _json_rows(path: Path, name: str) -> Iterator[Row]:
    try:
        items = json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        yield name, RowError(f"not valid JSON ({error}). The file must be a list of objects, or JSON Lines.")
        return
    for number, item in enumerate(items, start=1):
        yield f"{name} item {number}", item if isinstance(item, dict) else RowError("must be a JSON object")


def _csv_rows(path: Path, name: str, *, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                yield f"{name} line {reader.line_num}", _csv_row(row, len(reader.fieldnames or ()))
        except (csv.Error, UnicodeDecodeError) as error:
            yield f"{name} line {reader.line_num}", RowError(f"not valid CSV ({error})")


def _csv_row(row: dict[str | None, Any], width: int) -> dict[str, Any] | RowError:
    if None in row or None in row.values():
        return RowError(
            f"has another number of fields than the header's {width}. Quote fields that hold the delimiter."
        )
    return {str(name): value for name, value in row.items()}


def _parquet_rows(path: Path, name: str) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet  # noqa: PLC0415 - half a second that JSONL need not pay

    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield f"{name} row {number}", row
    except (ArrowException, OSError) as error:
        yield name, RowError(f"not a readable Parquet file ({error})")
