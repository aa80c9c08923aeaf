"""What measurements say about gates: phase, whether it holds back, and a sentence with the numbers."""

from typing import Any

import pytest

from trimtab_operator.gates import judge, names_champion
from trimtab_trainer.contract.gates import Gate, GateMeasurement

FORGETTING = {"metric": "perplexity", "source": "general", "successCondition": "result <= baseline * 1.05"}
BETTER = {"metric": "accuracy", "successCondition": "result > champion"}
BOTH = {"metric": "accuracy", "successCondition": "result >= 0.9", "failureCondition": "result < 0.8"}


@pytest.mark.parametrize(
    ("gate", "numbers", "champion", "expected"),
    [
        pytest.param(FORGETTING, ("23", "22.95", None), "", ("Successful", False, "perplexity on general is 23, must be <= baseline * 1.05 = 24.1."), id="remembers"),
        pytest.param(FORGETTING, ("31.2", "22.95", None), "", ("Failed", True, "perplexity on general is 31.2, must be <= baseline * 1.05 = 24.1."), id="forgot"),
        pytest.param(FORGETTING | {"dryRun": True}, ("31.2", "22.95", None), "", ("Failed", False, "perplexity on general is 31.2 (dry run), must be"), id="a dry run"),
        pytest.param(FORGETTING | {"metric": "general_perplexity"}, ("23", "22.95", None), "", ("Successful", False, "perplexity on general"), id="with its prefix"),
        pytest.param(FORGETTING | {"name": "no-forgetting"}, ("40", "22.95", None), "", ("Failed", True, "no-forgetting: perplexity on general is 40"), id="with a name"),
        pytest.param(FORGETTING, (None, "22.95", None), "", ("Error", True, "it was not measured"), id="no number"),
        pytest.param(FORGETTING, ("nan", "22.95", None), "", ("Error", True, "no number"), id="not finite"),
        pytest.param(FORGETTING, ("23", None, None), "", ("Error", True, "there is no baseline"), id="no baseline"),
        pytest.param(BOTH, ("0.95", None, None), "", ("Successful", False, "must be >= 0.9"), id="good"),
        pytest.param(BOTH, ("0.85", None, None), "", ("Inconclusive", True, "neither passed (>= 0.9) nor failed (< 0.8)"), id="between"),
        pytest.param(BOTH | {"inconclusiveLimit": 1}, ("0.85", None, None), "", ("Inconclusive", False, "neither"), id="between, tolerated"),
        pytest.param(BOTH, ("0.7", None, None), "", ("Failed", True, "accuracy on test is 0.7, must be >= 0.9"), id="bad"),
        pytest.param({"metric": "loss", "failureCondition": "result > baseline"}, ("2", "1", None), "", ("Failed", True, "must be not > baseline = 1"), id="a failure condition alone"),
        pytest.param(BETTER, ("0.9", "0.5", "0.8"), "tone-v3", ("Successful", False, "must be > champion = 0.8"), id="beats the champion"),
        pytest.param(BETTER, ("0.8", "0.5", "0.8"), "tone-v3", ("Failed", True, "must be > champion = 0.8"), id="as good is not better"),
        pytest.param(BETTER, ("0.8", "0.5", None), "", ("Skipped", False, "no champion to compare with yet"), id="nobody to beat"),
        pytest.param(BETTER, ("0.8", "0.5", None), "tone-v3", ("Error", True, "there is no champion"), id="a champion that could not be measured"),
        pytest.param({"metric": "accuracy", "successCondition": "result > default(champion, 0.7)"}, ("0.8", None, None), "", ("Successful", False, "must be > default(champion, 0.7) = 0.7"), id="a champion that may be missing"),
        pytest.param({"metric": "accuracy", "successCondition": "result > 0.5 && result >= baseline"}, ("0.6", "0.7", None), "", ("Failed", True, "must be result > 0.5 && result >= baseline (baseline 0.7)"), id="no plain comparison"),
        pytest.param({"metric": "accuracy", "successCondition": "result >> 1"}, ("0.6", None, None), "", ("Error", True, "accuracy on test is 0.6"), id="unreadable"),
    ],
)  # fmt: skip
def test_a_gate(
    gate: dict[str, Any], numbers: tuple[str | None, ...], champion: str, expected: tuple[str, bool, str]
) -> None:
    result, baseline, rival = numbers
    measured = GateMeasurement(result=result, baseline=baseline, champion=rival)
    (found,) = judge([Gate.model_validate(gate)], [measured], champion)
    phase, holds_back, words = expected
    assert (found.phase, found.holds_back) == (phase, holds_back)
    assert words in found.message
    assert found.champion_version == champion


def test_gates_that_nobody_measured_are_errors() -> None:
    found = judge(
        [Gate.model_validate(FORGETTING), Gate.model_validate(BOTH)], [GateMeasurement(result="1", baseline="1")], ""
    )
    assert [result.phase for result in found] == ["Successful", "Error"]


@pytest.mark.parametrize(("gate", "expected"), [(FORGETTING, False), (BETTER, True)])
def test_whether_the_champion_is_named(gate: dict[str, Any], *, expected: bool) -> None:
    assert names_champion([Gate.model_validate(gate)]) is expected
