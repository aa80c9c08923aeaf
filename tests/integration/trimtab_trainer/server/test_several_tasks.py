"""One trunk with several heads: the request names its task, and hears what an evaluation hears."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.published_tasks import MAX_LENGTH
from tests.support.rows import labelled, questions, tagged
from tests.support.serving import FolderSource, make_config, running, served
from tests.support.training import make_job

from trimtab_trainer.data.annotations import OfTask
from trimtab_trainer.data.formats import Example, read_row
from trimtab_trainer.data.splits import Split, encode_split
from trimtab_trainer.fetch.published import PublishedFiles, published_labels
from trimtab_trainer.model import load_model, prepare
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.published_model import load_published
from trimtab_trainer.publishing.export import export_model
from trimtab_trainer.tasks.entities import entities
from trimtab_trainer.tasks.multi_task import view

HEADS = [
    {"name": "tone", "head": {"sequenceClassification": {}}},
    {"name": "names", "head": {"tokenClassification": {}}},
    {"name": "asked", "head": {"questionAnswering": {"stride": 16}}},
]
TASK = {"multiTask": {"tasks": HEADS}}
LABELS = ("tone/no", "tone/yes", "names/B-PER", "names/I-PER", "names/O", "asked/start", "asked/end")
ROWS = {"tone": labelled(3), "names": tagged(3), "asked": questions(3)}
FORMATS: dict[str, Any] = {"tone": "labelled", "names": "tagged", "asked": "questionAnswers"}
REQUESTS: dict[str, Any] = {
    "tone": lambda row: ("/v1/classify", {"input": row["text"]}),
    "names": lambda row: (
        "/v1/token-classification",
        {"inputs": row["tokens"], "parameters": {"is_split_into_words": True}},
    ),
    "asked": lambda row: (
        "/v1/question-answering",
        {"inputs": {"question": row["question"], "context": row["context"]}},
    ),
}
JOB = make_job(task=TASK, method={"full": {}}, data={"maxSequenceLength": MAX_LENGTH, "packing": False})


@pytest.fixture(scope="module")
def version(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random heads, as the trainer publishes them."""
    definition = definition_of(JOB)
    processor = definition.load_processor(bases["bert"])
    module, _ = load_model(
        JOB,
        bases["bert"],
        auto_model=definition.auto_model,
        arguments=definition.load_arguments(JOB, LABELS),
        has_new_head=True,
        tokenizer=processor,
    )
    with torch.no_grad():
        for parameter in module.heads.parameters():
            parameter.normal_(0, 2)
    model = prepare(module, tokenizer=processor, device=torch.device("cpu"), precision=torch.float32, labels=LABELS)
    directory = tmp_path_factory.mktemp("several") / "version"
    export_model(model, JOB, directory)
    (directory / "labels.json").write_text(json.dumps(LABELS))
    return directory


async def test_each_task_says_what_the_evaluation_says(version: Path) -> None:
    cases = [(name, row) for name, rows in ROWS.items() for row in rows]
    examples = [
        Example(f"line {number}", OfTask(name, read_row(row, FORMATS[name], {})))
        for number, (name, row) in enumerate(cases)
    ]
    split = Split("test", [], examples, encode_split("test", [], lambda _: []).summary)
    files = PublishedFiles(version, None, published_labels(version))
    found = load_published(JOB, files, {"test": split}, device=torch.device("cpu"), precision=torch.float32)
    found.model.module.eval()
    tasks: Any = found.task
    encoded: Any = found.splits["test"].encoded
    expected = [tasks.tasks[one.task].answer(view(found.model, one.task), [one.inner])[0] for one in encoded]
    config = make_config(
        served("tone-v1", form="safetensors"), task=TASK, maxSequenceLength=MAX_LENGTH, offerBaseModel=False
    )
    async with running(config, FolderSource(version, {"tone-v1": version})) as server:

        async def ask(name: str, row: Any) -> Any:
            url, body = REQUESTS[name](row)
            return (await server.client.post(url, json={"model": "tone", "task": name, **body})).json()

        answers = await asyncio.gather(*(ask(name, row) for name, row in cases))
        for body, words in (
            ({}, "must be one of tone, names, asked; got nothing"),
            ({"task": "mood"}, "must be one of tone, names, asked; got 'mood'"),
            ({"task": "names"}, "'names' is for tokenClassification; use /v1/token-classification"),
        ):
            refused = await server.client.post("/v1/classify", json={"model": "tone", "input": "a", **body})
            assert (refused.status_code, words in refused.json()["error"]["message"]) == (400, True), refused.text
        metrics = (await server.client.get("/metrics")).text
        assert 'requests_total{code="200",endpoint="token-classification",version="tone-v1"} 3.0' in metrics
        assert 'requests_total{code="400",endpoint="classify",version="tone-v1"} 3.0' in metrics
        chat = await server.chat("Hi")
        assert "use /v1/classify or /v1/token-classification or /v1/question-answering" in chat.text
    for (name, row), own, answer in zip(cases, expected, answers, strict=True):
        CHECKS[name](answer, own, row)


def check_tone(answer: Any, own: list[float], _: Any) -> None:
    found = {entry["label"]: entry["score"] for entry in answer["data"][0]["scores"]}
    assert found == pytest.approx(dict(zip(("no", "yes"), own, strict=True)), abs=1e-5)


def check_names(answer: Any, own: Any, row: Any) -> None:
    expected = sorted(entities([tag for tag, _ in own]), key=lambda entity: entity[1:])
    assert [(one["entity_group"], one["word"]) for one in answer] == [
        (kind, " ".join(row["tokens"][first : last + 1])) for kind, first, last in expected
    ]


def check_asked(answer: Any, own: Any, _: Any) -> None:
    assert (answer["answer"], answer["start"], answer["end"]) == (own.text, own.start, own.end)
    assert answer["score"] == pytest.approx(own.score, abs=1e-5)


CHECKS = {"tone": check_tone, "names": check_names, "asked": check_asked}
