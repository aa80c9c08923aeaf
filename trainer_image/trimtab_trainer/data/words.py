"""The words of an example, whatever its format."""

from dataclasses import fields, is_dataclass
from typing import Any

from trimtab_trainer.data.annotations import OfTask

_ROLES = {"system", "user", "assistant", "tool"}


def text_of(content: Any) -> str:
    """All words of an example but its label, with the roles of a conversation; "" for pictures and recordings."""
    return "\n".join(piece for value in _values(content) for piece in _pieces(value))


def said_in(content: Any) -> str:
    """The same without tags and the names of roles, which are English in every language."""
    return "\n".join(piece for value in _values(content, "tags") for piece in _pieces(value) if piece not in _ROLES)


def _values(content: Any, *left_out: str) -> list[Any]:
    if isinstance(content, OfTask):
        content = content.content
    if not is_dataclass(content):
        return []
    return [getattr(content, item.name) for item in fields(content) if item.name not in {"label", "labels", *left_out}]


def _pieces(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [piece for one in value for piece in _pieces(one)] if isinstance(value, tuple) else []
