"""Cells of a row to values, each mistake in the user's words."""

import json
from typing import Any

from trimtab_trainer.data.files import RowError, type_name

Turns = tuple[tuple[str, str], ...]
"""A conversation: `(role, content)` of each message."""
MESSAGE_ROLES = ("system", "developer", "user", "assistant", "tool")


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


def turns_of(value: Any, column: str) -> Turns:
    """A list of messages; in CSV files a cell holds it as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parsed_cell(value, column)
    if not isinstance(value, list):
        raise RowError(f"'{column}' must be a list of {{role, content}}; got {type_name(value)}")
    return tuple(_message(number, message) for number, message in enumerate(value, start=1))


def _message(number: int, message: Any) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise RowError(f"message {number} must be an object with role and content; got {type_name(message)}")
    role, content = message.get("role"), message.get("content")
    if role not in MESSAGE_ROLES:
        raise RowError(f"message {number} has the role {role!r}; must be one of {', '.join(MESSAGE_ROLES)}")
    if not isinstance(content, str):
        raise RowError(f"message {number} must have text in 'content'; got {type_name(content)}")
    return role, content
