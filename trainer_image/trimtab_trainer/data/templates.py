"""Templates of instruction tuning (Wei et al., 2022, arXiv:2109.01652): rows of any columns as prompts and completions."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab_trainer.contract.manifests import canonical_json, sha256_hex
from trimtab_trainer.contract.templates import Template
from trimtab_trainer.data.files import RowError

_COLUMN = re.compile(r"\{([A-Za-z_][\w-]*)\}")
"""Other braces stand for themselves, as those of JSON do."""


def filled(row: Mapping[str, Any], templates: Sequence[Template]) -> tuple[str, str]:
    """Prompt and completion by one of the templates, which follows from what the row says.

    Raises:
        RowError: the row lacks a column, or has nothing in it.
    """
    chosen = templates[0]
    if len(templates) > 1:
        chosen = templates[int(sha256_hex(canonical_json(_plain(row))), 16) % len(templates)]
    return _fill(chosen.prompt, row), _fill(chosen.completion, row)


def _plain(row: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): _text(cell) for name, cell in row.items()}


def _fill(text: str, row: Mapping[str, Any]) -> str:
    def cell(match: re.Match[str]) -> str:
        name = match.group(1)
        if row.get(name) is None:
            raise RowError(
                f"a template names the column '{name}', which the row does not have; it has: {', '.join(map(str, row)) or 'nothing'}"
            )
        return _text(row[name])

    return _COLUMN.sub(cell, text)


def _text(cell: Any) -> str:
    """Words as they are, everything else as JSON."""
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str)
