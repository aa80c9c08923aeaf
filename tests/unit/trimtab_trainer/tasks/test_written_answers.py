"""Answers that a model writes while it is measured: which examples are asked, and what ROUGE makes of the answers."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from tests.support.tiny_models import byte_tokenizer
from tests.support.training import make_job

from trimtab_trainer.contract.tasks import WrittenAnswers
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Chat, Completion, Content, Example, Text
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.preflight import check_config
from trimtab_trainer.tasks.rouge import rouge
from trimtab_trainer.tasks.written_answers import WritingLanguageModeling, prompt_length

NAMES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


def sentence(seed: int, length: int) -> str:
    return " ".join(
        random.Random(seed).choices(["the", "Cat", "sat", "on", "a", "mat,", "x-ray", "2_3", "end."], k=length)
    )


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        pytest.param("The cat sat on the mat.", "the cat is on the mat", id="a paraphrase"),
        pytest.param("mat the on sat cat the", "the cat sat on the mat", id="all words in another order"),
        pytest.param("the the the the", "the cat", id="words repeated"),
        pytest.param("", "the cat", id="no answer"),
        pytest.param("...", "the cat", id="no words"),
        pytest.param('{"desk": "Home"}', '{"desk": "Health"}', id="JSON"),
        *(pytest.param(sentence(n, 3 + n), sentence(-n, 30 - 2 * n), id=f"random {n}") for n in range(14)),
    ],
)  # fmt: skip
def test_scores_are_those_of_rouge_score(answer: str, reference: str) -> None:
    expected = RougeScorer(list(NAMES.values()), use_stemmer=False).score(reference, answer)
    assert rouge(answer, reference) == pytest.approx(
        {name: expected[theirs].fmeasure for name, theirs in NAMES.items()}
    )


def test_words_of_every_alphabet_count() -> None:
    assert rouge("Привет, мир", "привет мир") == {"rouge_1": 1.0, "rouge_2": 1.0, "rouge_l": 1.0}


@pytest.mark.parametrize(
    ("content", "limit", "answer"),
    [
        pytest.param(Completion("Say 1", "one"), 100, "one<|im_end|>", id="a completion"),
        pytest.param(
            Chat((("user", "1?"), ("assistant", "one"), ("user", "2?"), ("assistant", "two"))),
            200,
            "two<|im_end|>",
            id="the last answer of a conversation",
        ),
        pytest.param(Text("nothing is asked"), 100, None, id="raw text"),
        pytest.param(Completion("Say 1", "one " * 40), 60, None, id="an answer that is cut"),
    ],
)
def test_what_is_asked(content: Content, limit: int, answer: str | None) -> None:
    tokenizer = byte_tokenizer()
    (encoded,) = TextEncoder(tokenizer, limit).encode([Example("here", content)])
    start = prompt_length(encoded)
    assert (tokenizer.decode(encoded.ids[start:]).strip() if start else None) == answer
    if start:
        assert not encoded.supervised[start - 1]


def test_an_example_without_targets_asks_nothing() -> None:
    assert prompt_length(Encoded(np.zeros(4, np.int32), np.zeros(4, np.bool_))) == 0


def test_so_many_examples_are_answered_and_always_the_same_ones() -> None:
    rows = [Example("here", Completion(f"Say {number}", "one")) for number in range(9)]
    encoded = TextEncoder(byte_tokenizer(), 100).encode([*rows, Example("here", Text("nothing is asked"))])
    chosen = []
    for examples in (encoded, encoded[::-1]):
        task = WritingLanguageModeling(torch.device("cpu"), 257, None, settings=WrittenAnswers(examples=4))
        task.begin_measuring(None, examples)  # type: ignore[arg-type]
        chosen.append(task.chosen)
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"objective": {"dpo": {}}}, "needs `objective.supervised`", id="another objective"),
        pytest.param(
            {"objective": {"supervised": {"lossOnPrompt": True}}}, "without `lossOnPrompt`", id="loss on prompts"
        ),
        pytest.param({"training": {"adversarial": {"fgm": {}}}}, "does not go with `training.adversarial`", id="attacks"),
        pytest.param({"data": {"maxSequenceLength": 64}}, "must be less than `data.maxSequenceLength: 64`", id="no room"),
        pytest.param(
            {"training": {"selectBestBy": {"metric": "eval_rouge_x"}}}, "exact_match, eval_rouge_1, eval_rouge_2", id="typo"
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_with_answers_is_refused(changes: dict[str, Any], words: str) -> None:
    config = make_job(task={"causalLanguageModeling": {"writtenAnswers": {}}}, **changes)
    with pytest.raises(TrainerError, match=words):
        check_config(config, world_size=1)
