"""Every task's endpoint says what an evaluation says of the same rows."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.published_tasks import CASES, MAX_LENGTH, Version, publish
from tests.support.serving import FolderSource, Running, make_config, running, served
from transformers import AutoTokenizer

from trimtab_trainer.tasks.entities import entities
from trimtab_trainer.tasks.question_answering import normalised
from trimtab_trainer.tasks.scores import edit_distance, precision_recall_f1
from trimtab_trainer.tasks.token_classification import split_words

LORA = {"lora": {"r": 4}}


async def ask(server: Running, version: Version, row: dict[str, Any]) -> httpx.Response:
    body = version.case.request(row, version.folder)
    if "file" in body:
        return await server.client.post(version.case.url, data={"model": "tone"}, files={"file": body["file"]})
    return await server.client.post(version.case.url, json={"model": "tone", **body})


async def served_answers(version: Version) -> list[Any]:
    """All rows, asked at once."""
    config = make_config(
        served("tone-v1", form=version.format),
        task=version.case.task,
        maxSequenceLength=MAX_LENGTH,
        offerBaseModel=False,
    )
    async with running(config, FolderSource(version.base, {"tone-v1": version.path})) as server:
        answers = await asyncio.gather(*(ask(server, version, row) for row in version.rows))
    assert [answer.status_code for answer in answers] == [200] * len(answers), answers[0].text
    assert {answer.headers["x-trimtab-version"] for answer in answers} == {"tone-v1"}
    return [answer.json() for answer in answers]


def plain(kind: str, answer: Any, version: Version, labels: tuple[str, ...], row: dict[str, Any]) -> Any:
    """A task's own answer, in the words of its endpoint."""
    if kind in {"texts", "texts of a decoder", "pictures"}:
        return dict(zip(labels, answer, strict=True))
    if kind == "choices":
        return dict(zip(["red", "blue", "green"], answer, strict=True))
    if kind == "words":
        return sorted(entities([tag for tag, _ in answer]), key=lambda entity: entity[1:])
    if kind == "questions":
        return {"answer": answer.text, "score": answer.score, "start": answer.start, "end": answer.end}
    if kind == "scenes":
        return [
            (labels[label], score, box)
            for label, score, box in zip(answer.labels, answer.scores, answer.boxes, strict=True)
        ]
    return answer


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *((kind, {"full": {}}) for kind in CASES),
        ("texts of a decoder", {"prefixTuning": {"virtualTokens": 4}}),
        ("texts", {"adapter": {}}),
        ("words", LORA),
        ("words", {"reft": {"r": 2}}),
        ("questions", LORA),
        ("questions", {"prefixTuning": {"virtualTokens": 4}}),
        ("pictures", LORA),
        ("choices", LORA),
        ("scenes", LORA),
        ("recordings", {"adapter": {}}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
async def test_answers_are_those_of_the_evaluation(
    kind: str, method: dict[str, Any], bases: dict[str, Path], tmp_path: Path
) -> None:
    case = replace(CASES[kind], method=method)
    version = publish(case, bases[case.model], tmp_path)
    measurable, metrics = version.measured()
    encoded = measurable.splits["test"].encoded
    answers = await served_answers(version)
    labels = measurable.model.labels
    if kind == "rewards":
        check_rewards(measurable, answers, encoded)
        return
    if kind == "choices":
        check_choices(version, answers, metrics)
        return
    task: Any = measurable.task
    expected = [task.answer(measurable.model, [one])[0] for one in encoded]
    for row, found, own in zip(version.rows, answers, expected, strict=True):
        CHECKS[kind](found, plain(kind, own, version, labels, row), row)
    check_metrics(kind, version, answers, metrics)


def scores_of(found: Any) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in found}


def check_texts(found: Any, expected: dict[str, float], _: dict[str, Any]) -> None:
    assert scores_of(found["data"][0]["scores"]) == pytest.approx(expected, abs=1e-5)


def check_pictures(found: Any, expected: dict[str, float], _: dict[str, Any]) -> None:
    assert scores_of(found) == pytest.approx(expected, abs=1e-5)


def check_words(found: Any, expected: Any, row: dict[str, Any]) -> None:
    words, text = row["tokens"], " ".join(row["tokens"])
    assert [(one["entity_group"], one["word"]) for one in found] == [
        (kind, " ".join(words[first : last + 1])) for kind, first, last in expected
    ]
    assert all(text[one["start"] : one["end"]] == one["word"] and 0 < one["score"] <= 1 for one in found)


def check_questions(found: Any, expected: dict[str, Any], row: dict[str, Any]) -> None:
    assert found == {**expected, "score": pytest.approx(expected["score"], abs=1e-5)}
    assert row["context"][found["start"] : found["end"]] == found["answer"]


def check_scenes(found: Any, expected: Any, _: dict[str, Any]) -> None:
    assert [(one["label"], one["score"]) for one in found] == [
        (label, pytest.approx(float(score), abs=1e-5)) for label, score, _ in expected
    ]
    for one, (_, _, box) in zip(found, expected, strict=True):
        places = [one["box"][edge] for edge in ("xmin", "ymin", "xmax", "ymax")]
        assert places == pytest.approx([32 * float(edge) for edge in box], abs=0.51)


def check_recordings(found: Any, expected: str, _: dict[str, Any]) -> None:
    assert found == {"text": expected}


CHECKS = {
    "texts": check_texts,
    "texts of a decoder": check_texts,
    "words": check_words,
    "questions": check_questions,
    "pictures": check_pictures,
    "scenes": check_scenes,
    "recordings": check_recordings,
}


def check_rewards(measurable: Any, answers: list[Any], encoded: Any) -> None:
    """A pair's margin is a difference of rewards; here the chosen ones are asked for."""
    rewards = [measurable.task.rewards(measurable.model, measurable.task.collate([pair])) for pair in encoded]
    expected = [float(reward.chosen[0]) for reward in rewards]
    assert [one["data"][0]["score"] for one in answers] == pytest.approx(expected, abs=1e-4)
    assert {one["data"][0]["label"] for one in answers} == {"reward"}


def check_choices(version: Version, answers: list[Any], metrics: dict[str, float]) -> None:
    """The same sentences, the same images: as often right as the evaluation says."""
    right = [found[0]["label"] == row["label"] for row, found in zip(version.rows, answers, strict=True)]
    assert sum(right) / len(right) == pytest.approx(metrics["zero_shot_accuracy"])
    assert all(sum(scores_of(found).values()) == pytest.approx(1) for found in answers)


def check_metrics(kind: str, version: Version, answers: list[Any], metrics: dict[str, float]) -> None:
    """What can be computed from the served answers alone."""
    rows = version.rows
    if kind == "words":
        right = predicted = true = 0
        for row, found in zip(rows, answers, strict=True):
            words = [(one["entity_group"], one["word"]) for one in found]
            truths = [(tag, " ".join(row["tokens"][a : b + 1])) for tag, a, b in entities(row["tags"])]
            right += len(set(words) & set(truths))
            predicted, true = predicted + len(words), true + len(truths)
        assert precision_recall_f1(right, predicted, true)[2] == pytest.approx(metrics["f1"])
    if kind == "questions":
        hits = [
            normalised(found["answer"]) == normalised(row["answers"]["text"][0])
            for row, found in zip(rows, answers, strict=True)
        ]
        assert sum(hits) / len(hits) == pytest.approx(metrics["exact_match"])
    if kind == "pictures":
        hits = [found[0]["label"] == row["label"] for row, found in zip(rows, answers, strict=True)]
        assert sum(hits) / len(hits) == pytest.approx(metrics["accuracy"])
    if kind == "recordings":
        edits = sum(edit_distance(row["text"].upper(), found["text"]) for row, found in zip(rows, answers, strict=True))
        assert edits / sum(len(row["text"]) for row in rows) == pytest.approx(metrics["character_error_rate"])


def test_words_of_a_running_text() -> None:
    text = 'Ann Lee-Smith left "Paris", at 9.30 (U.N. time).'
    found = [text[start:end] for start, end in split_words(text)]
    assert found == [
        "Ann", "Lee-Smith", "left", '"', "Paris", '"', ",", "at", "9.30", "(", "U.N", ".", "time", ")", "."
    ]  # fmt: skip


async def test_a_rendered_conversation_scores_as_its_messages(bases: dict[str, Path], tmp_path: Path) -> None:
    version = publish(CASES["rewards"], bases["llama"], tmp_path, steps=5)
    messages = [{"role": "user", "content": "Help"}, {"role": "assistant", "content": "Gladly"}]
    text = AutoTokenizer.from_pretrained(version.path).apply_chat_template(messages, tokenize=False)
    config = make_config(served("tone-v1", form="safetensors"), task=version.case.task, offerBaseModel=False)
    async with running(config, FolderSource(version.base, {"tone-v1": version.path})) as server:
        bodies: list[dict[str, Any]] = [{"messages": messages}, {"input": text}]
        answers = [await server.client.post("/v1/classify", json={"model": "tone", **body}) for body in bodies]
    scores = [answer.json()["data"][0]["score"] for answer in answers]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
