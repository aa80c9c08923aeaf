"""Data files to rows: JSONL, JSON, CSV, Parquet, and folders of images or recordings; each row with its place."""

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trimtab_trainer.contract.spec import AUDIO_SUFFIXES, IMAGE_SUFFIXES


class RowError(Exception):
    """A row that cannot be read; the text follows its place."""


def type_name(value: Any) -> str:
    """What a value is, in a user's words."""
    names = {"NoneType": "nothing", "dict": "an object", "list": "a list", "str": "text", "bool": "true or false"}
    return names.get(type(value).__name__, "a number" if isinstance(value, int | float) else type(value).__name__)


_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half of a character beyond 16 bits; two together are one."""
Row = tuple[str, dict[str, Any] | RowError]


def rows(path: Path, name: str) -> Iterator[Row]:
    """`(place, row)` of one file; its kind is told by its ending, JSONL without one."""
    kind = Path(name).suffix.lower()
    if kind in {*IMAGE_SUFFIXES, *AUDIO_SUFFIXES}:
        # A folder without a list of rows: each file is one, and its own folder's name is the label.
        yield name, {"image" if kind in IMAGE_SUFFIXES else "audio": path.name, "label": path.parent.name}
    elif kind == ".parquet":
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
    except (ValueError, RecursionError) as error:
        return RowError(f"not valid JSON ({error}). Each line must be one JSON object.")
    return _checked(row) if _HALF.search(raw) else _object(row)


def _object(row: Any) -> dict[str, Any] | RowError:
    return row if isinstance(row, dict) else RowError(f"must be a JSON object; got {type_name(row)}")


def _checked(row: Any) -> dict[str, Any] | RowError:
    """JSON can spell half of a character, where a text was cut within an emoji: no tokenizer reads that."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        return RowError(f"has half of a character ({half}): a text was cut within an emoji. Cut it between characters.")
    return _object(row)


def _starts_with_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _json_rows(path: Path, name: str) -> Iterator[Row]:
    try:
        items = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        yield name, RowError(f"not valid JSON ({error}). The file must be a list of objects, or JSON Lines.")
        return
    for number, item in enumerate(items, start=1):
        yield f"{name} item {number}", _checked(item)


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
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        yield name, RowError(f"not a readable Parquet file ({error})")
