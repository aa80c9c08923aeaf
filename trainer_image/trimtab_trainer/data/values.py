"""Cells of a row to values, each mistake in the user's words."""

import json
from typing import Any

from trimtab_trainer.data.files import RowError, type_name


def text_of(value: Any, column: str) -> str:
    """Text as it stands."""
    if isinstance(value, str):
        return value
    raise RowError(f"column '{column}' must be text; got {type_name(value)}")


def label_of(value: Any, column: str) -> str:
    """A label: text, a whole number, or true and false."""
    if isinstance(value, str):
        if not value.strip():
            raise RowError(f"column '{column}' is empty; every row needs a label")
        return value
    if isinstance(value, bool | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise RowError(f"column '{column}' must be text or a whole number; got {type_name(value)}")


def list_of(value: Any, column: str) -> list[Any]:
    """A list; in CSV files a cell holds it as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parsed_cell(value, column)
    if not isinstance(value, list):
        raise RowError(f"column '{column}' must be a list; got {type_name(value)}")
    return value


def object_of(value: Any, column: str) -> dict[str, Any]:
    """An object; in CSV files a cell holds it as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = parsed_cell(value, column)
    if not isinstance(value, dict):
        raise RowError(f"column '{column}' must be an object; got {type_name(value)}")
    return value


def parsed_cell(value: str, column: str) -> Any:
    """JSON within a cell."""
    try:
        return json.loads(value)
    except ValueError as error:
        raise RowError(f"column '{column}' is not valid JSON ({error})") from error
