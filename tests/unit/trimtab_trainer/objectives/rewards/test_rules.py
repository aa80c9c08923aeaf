"""What the built-in rewards say of single answers."""

from typing import Any

import pytest

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.objectives import Grpo
from trimtab_trainer.contract.rewards import Reward
from trimtab_trainer.data.prompts import Prompt
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.objectives.rewards.rules import Answer, rule_of
from trimtab_trainer.objectives.rewards.scorer import Scorer

PROMPT = Prompt("How many?", (("reference", " 42 "), ("good", "the red fox")))


def answer(text: str, *, tokens: int = 5, finished: bool = True) -> Answer:
    return Answer(PROMPT, text, tokens, finished)


@pytest.mark.parametrize(
    ("term", "text", "expected"),
    [
        pytest.param({"exactMatch": {}}, "42\n", 1, id="the same but for white space"),
        pytest.param({"exactMatch": {}}, "It is 42", 0, id="more than the reference"),
        pytest.param({"exactMatch": {"extract": r"-?\d+"}}, "7 and 35 make 42.", 1, id="the last number"),
        pytest.param({"exactMatch": {"extract": r"-?\d+"}}, "42, no, 43", 0, id="another last number"),
        pytest.param({"exactMatch": {"extract": "answer: *(.*)"}}, "So... answer:  42", 1, id="a group"),
        pytest.param({"exactMatch": {"extract": "answer: (.*)"}}, "42", 0, id="nothing to extract"),
        pytest.param({"exactMatch": {"column": "good"}}, "The red fox", 0, id="another case"),
        pytest.param({"exactMatch": {"column": "good", "ignoreCase": True}}, "The Red fox", 1, id="case ignored"),
        pytest.param({"wordOverlap": {"column": "good"}}, "A red fox!", 1, id="articles and marks do not count"),
        pytest.param({"wordOverlap": {"column": "good"}}, "red", 2 / 3, id="half of the words"),
        pytest.param({"wordOverlap": {"column": "good"}}, "", 0, id="no words"),
        pytest.param({"regularExpression": {"pattern": r"\bfox\b"}}, "the fox runs", 1, id="found"),
        pytest.param({"regularExpression": {"pattern": "fox", "whole": True}}, "the fox", 0, id="not the whole"),
        pytest.param({"regularExpression": {"pattern": "the.*", "whole": True}}, " the fox\n", 1, id="the whole"),
        pytest.param({"jsonDocument": {}}, '{"a": 1}\n', 1, id="JSON"),
        pytest.param({"jsonDocument": {}}, '{"a": NaN}', 0, id="NaN is no JSON"),
        pytest.param({"jsonDocument": {}}, 'Sure: {"a": 1}', 0, id="words around JSON"),
        pytest.param({"jsonDocument": {}}, "[" * 100_000, 0, id="brackets without end"),
        pytest.param({"jsonDocument": {"requiredKeys": ["a"]}}, '{"a": null, "b": 2}', 1, id="with its key"),
        pytest.param({"jsonDocument": {"requiredKeys": ["a"]}}, '{"b": 2}', 0, id="without its key"),
        pytest.param({"jsonDocument": {"requiredKeys": ["a"]}}, '["a"]', 0, id="no object"),
    ],
)
def test_rewards_of_texts(term: dict[str, Any], text: str, expected: float) -> None:
    rule = rule_of(Reward.model_validate(term))
    assert rule is not None
    assert rule(answer(text)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("bounds", "tokens", "expected"),
    [
        ({"maximumTokens": 10}, 10, 1),
        ({"maximumTokens": 10}, 11, 0),
        ({"maximumTokens": 10, "toleranceTokens": 4}, 11, 0.75),
        ({"maximumTokens": 10, "toleranceTokens": 4}, 20, 0),
        ({"minimumTokens": 3, "toleranceTokens": 2}, 2, 0.5),
        ({"minimumTokens": 3, "maximumTokens": 5}, 4, 1),
    ],
)
def test_rewards_of_lengths(bounds: dict[str, int], tokens: int, expected: float) -> None:
    rule = rule_of(Reward.model_validate({"length": bounds}))
    assert rule is not None
    assert rule(answer("x", tokens=tokens)) == pytest.approx(expected)


def test_the_reward_is_the_weighted_sum_less_the_penalty() -> None:
    rewards = [
        {"exactMatch": {"weight": 2}},
        {"regularExpression": {"pattern": "4", "weight": -0.5}},
        {"exactMatch": {}},
    ]
    scorer = Scorer.of(Grpo.model_validate({"rewards": rewards, "unfinishedPenalty": 0.25}), None)
    assert scorer.names == ("exact_match", "regular_expression", "exact_match_2")
    found = scorer.score([answer("42"), answer("4", finished=False), answer("")])
    assert [one.total for one in found] == [2.5, -0.75, 0]
    assert [one.terms for one in found] == [(1, 1, 1), (0, 1, 0), (0, 0, 0)]


@pytest.mark.parametrize(
    "term", [{"regularExpression": {"pattern": "(a+"}}, {"exactMatch": {"extract": "[z"}}], ids=["pattern", "extract"]
)
def test_what_is_no_pattern_is_refused(term: dict[str, Any]) -> None:
    with pytest.raises(TrainerError, match="must be a regular expression") as refused:
        rule_of(Reward.model_validate(term))
    assert refused.value.reason is TrainerReason.CONFIG_INVALID


def test_a_pattern_that_backtracks_without_end_is_refused() -> None:
    rule = rule_of(Reward.model_validate({"regularExpression": {"pattern": "(a|aa|b)+$", "whole": True}}))
    assert rule is not None
    with pytest.raises(TrainerError, match="took more than 1 s"):
        rule(answer("a" * 200 + "c"))
