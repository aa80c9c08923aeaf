"""Tasks on texts besides language: alignment, windows, metrics as their reference libraries compute them, and learning."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from tests.support.learning import learn
from tests.support.rows import multi_labelled, questions, tagged
from tests.support.tiny_models import byte_tokenizer
from tests.support.training import make_job

from trimtab_trainer.contract.spec import QuestionAnswering
from trimtab_trainer.data.annotations import Questioned
from trimtab_trainer.data.formats import Example
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.tasks.entities import entities
from trimtab_trainer.tasks.multi_label import MultiLabel
from trimtab_trainer.tasks.question_answering import NO_ANSWER, QuestionEncoder, best_answer, normalised, word_f1
from trimtab_trainer.tasks.token_classification import IGNORED, TagEncoder, first_tokens, join_words

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-PER")


def test_entities_are_those_that_seqeval_finds() -> None:
    generator = np.random.default_rng(3)
    for _ in range(400):
        tags = [TAGS[number] for number in generator.integers(len(TAGS), size=generator.integers(1, 9))]
        assert entities(tags) == set(get_entities(tags)), tags


def test_parts_of_speech_are_counted_word_by_word() -> None:
    assert entities(["NOUN", "NOUN", "O", "VERB"]) == {("NOUN", 0, 0), ("NOUN", 1, 1), ("VERB", 3, 3)}


@pytest.mark.parametrize(
    ("words", "offsets", "expected"),
    [
        pytest.param(
            ["ab", "c"], [(0, 0), (0, 1), (1, 2), (3, 4), (0, 0)], {0: 1, 1: 3}, id="special tokens own nothing"
        ),
        pytest.param(["ab", "c"], [(0, 2), (2, 4)], {0: 0, 1: 1}, id="a token that begins with the space"),
        pytest.param(["ab", "c"], [(0, 1), (1, 2)], {0: 0}, id="the second word was cut off"),
        pytest.param(["a", "", "b"], [(0, 1), (3, 4)], {0: 0, 2: 1}, id="an empty word has no token"),
    ],
)
def test_a_word_is_tagged_at_its_first_token(words: list[str], offsets: Any, expected: dict[int, int]) -> None:
    assert first_tokens(join_words(words)[1], offsets) == expected


def test_tags_lie_on_the_first_bytes_of_words() -> None:
    encoder = TagEncoder(byte_tokenizer(), 64, ("B-PER", "I-PER", "O"))
    content = Example("here", _content("tagged", {"tokens": ["so", "Ann", "Lee"], "tags": ["O", "B-PER", "I-PER"]}))
    [found] = encoder.encode([content])
    assert {place: int(tag) for place, tag in enumerate(found.tags) if tag != IGNORED} == {0: 2, 3: 0, 7: 1}
    assert (found.targets, found.cut) == (3, False)
    [cut] = TagEncoder(byte_tokenizer(), 5, encoder.labels).encode([content])
    assert (cut.targets, cut.cut) == (2, True)


def test_an_unknown_tag_is_named_with_its_place() -> None:
    encoder = TagEncoder(byte_tokenizer(), 64, ("O", "B-PER"))
    with pytest.raises(TrainerError, match="line 3: the label 'B-LOC' is unknown; the labels are: O, B-PER"):
        encoder.encode([Example("line 3", _content("tagged", {"tokens": ["a"], "tags": ["B-LOC"]}))])


def _content(name: Any, row: dict[str, Any]) -> Any:
    from trimtab_trainer.data.formats import read_row  # noqa: PLC0415 - one helper needs it

    return read_row(row, name, {})


def test_windows_overlap_by_the_stride_and_hold_the_answer() -> None:
    context = "".join(str(number % 10) for number in range(100)) + " here"
    encoder = QuestionEncoder(byte_tokenizer(), 40, QuestionAnswering(stride=10))
    windows = encoder.windows("who?", context, [("here", 101)])
    spans = [(window.offsets[window.offsets[:, 0] >= 0][0, 0], window.offsets.max()) for window in windows]
    assert spans[0][0] == 0
    assert spans[-1][1] == len(context)
    assert {before[1] - after[0] for before, after in pairwise(spans)} == {10}
    holding = [window for window in windows if window.start != NO_ANSWER]
    assert holding
    for window in holding:
        assert context[window.offsets[window.start, 0] : window.offsets[window.end, 1]] == "here"
    assert all(window.start == window.end == NO_ANSWER for window in windows[:-2])


def test_a_question_without_room_for_its_context_is_refused() -> None:
    encoder = QuestionEncoder(byte_tokenizer(), 16, QuestionAnswering())
    with pytest.raises(TrainerError, match="line 1: the question leaves 4 of `maxSequenceLength`"):
        encoder.encode([Example("line 1", Questioned("twelve bytes", "c", (("c", 0),)))])


def test_the_best_span_is_searched_over_all_windows() -> None:
    encoder = QuestionEncoder(byte_tokenizer(), 24, QuestionAnswering(stride=4, max_answer_length=2))
    [question] = encoder.encode([Example("", Questioned("who?", "abcdefghijklmnopqrstuvwxyz", (("yz", 24),)))])
    count, width = len(question.windows), max(len(window.ids) for window in question.windows)
    starts, ends = torch.zeros(count, width), torch.zeros(count, width)
    last = question.windows[-1]
    starts[-1, last.start], ends[-1, last.end] = 5.0, 5.0
    starts[0, 0], ends[0, 0] = 20.0, -5.0  # the question itself is no answer
    starts[0, 8], ends[0, 14] = 9.0, 9.0  # too long
    assert best_answer(question, starts, ends, encoder.settings).text == "yz"
    assert best_answer(question, starts * 0, ends, encoder.settings).text == "jk"
    may_refuse = encoder.settings.model_copy(update={"unanswerable": True})
    starts[:, 0] = ends[:, 0] = 30.0
    assert best_answer(question, starts, ends, may_refuse).text == ""


@pytest.mark.parametrize(
    ("found", "expected", "f1"),
    [
        pytest.param("The cat!", "cat", 1.0, id="articles and punctuation do not count"),
        pytest.param("a black cat", "cat", 2 / 3, id="half of the words"),
        pytest.param("dog", "cat", 0.0, id="nothing in common"),
        pytest.param("", "", 1.0, id="rightly no answer"),
        pytest.param("cat", "", 0.0, id="an answer where there is none"),
        pytest.param("cat cat", "cat", 2 / 3, id="words are counted as often as they stand there"),
    ],
)
def test_squads_f1(found: str, expected: str, f1: float) -> None:
    assert word_f1(found, expected) == pytest.approx(f1)
    assert (normalised(found) == normalised(expected)) == (f1 == 1.0)


def test_multi_label_scores_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    true, predicted = generator.integers(0, 2, (40, 4)), generator.integers(0, 2, (40, 4))
    sums = {
        "loss": 1.0,
        "targets": 40.0,
        "exact": float((true == predicted).all(-1).sum()),
        "right": (true & predicted).sum(0).astype(float),
        "predicted": predicted.sum(0).astype(float),
        "true": true.sum(0).astype(float),
    }
    found = MultiLabel(torch.device("cpu"), 0).metrics(sums)
    assert found["f1_micro"] == pytest.approx(f1_score(true, predicted, average="micro"))
    assert found["f1_macro"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert found["precision"] == pytest.approx(precision_score(true, predicted, average="micro"))
    assert found["recall"] == pytest.approx(recall_score(true, predicted, average="micro"))
    assert found["subset_accuracy"] == pytest.approx(accuracy_score(true, predicted))


@pytest.mark.parametrize(
    ("task", "rows", "metrics"),
    [
        pytest.param(
            {"sequenceClassification": {"multiLabel": True}}, multi_labelled, {"f1_micro": 1.0}, id="multi-label"
        ),
        pytest.param({"tokenClassification": {}}, tagged, {"f1": 1.0, "accuracy": 1.0}, id="tags"),
        pytest.param({"questionAnswering": {"stride": 16}}, questions, {"exact_match": 0.8, "f1": 0.8}, id="questions"),
    ],
)
def test_a_tiny_model_learns(
    task: dict[str, Any], rows: Any, metrics: dict[str, float], job_files: Path, tmp_path: Path
) -> None:
    config = make_job(model={"uri": "s3://models/bert"}, task=task, method={"full": {}}, data={"maxSequenceLength": 64})
    learned = learn(config, job_files / "models" / "bert", rows(12), tmp_path, steps=30, rate=3e-3)
    assert learned.after["loss"] < 0.5 * learned.before["loss"]
    for name, at_least in metrics.items():
        assert learned.after[name] >= at_least, learned.after


def test_reports_of_seqeval_agree_with_ours(job_files: Path, tmp_path: Path) -> None:
    config = make_job(
        model={"uri": "s3://models/bert"},
        task={"tokenClassification": {}},
        method={"full": {}},
        data={"maxSequenceLength": 64},
    )
    learned = learn(config, job_files / "models" / "bert", tagged(24), tmp_path, steps=4, rate=3e-3)
    task = learned.task
    learned.model.module.eval()
    true, predicted = [], []
    for one in learned.encoded:
        batch = task.collate([one])
        with torch.no_grad():
            choice = task.logits(learned.model, batch)[0].argmax(-1)
        seen = batch.tags[0] != IGNORED
        true.append([task.labels[tag] for tag in batch.tags[0][seen]])
        predicted.append([task.labels[tag] for tag in choice[seen]])
    report = classification_report(true, predicted, output_dict=True, zero_division=0)["micro avg"]
    assert json.loads(json.dumps(learned.after["f1"])) == pytest.approx(float(report["f1-score"]))
    assert learned.after["precision"] == pytest.approx(float(report["precision"]))
