"""Conditions are read before anything runs, evaluated on numbers only, and counted as Argo Rollouts counts."""

import math

import pytest

from trimtab_operator.expressions import (
    Conditions,
    ExpressionError,
    Limits,
    Phase,
    compile_expression,
    conclude,
    measure,
    problem_of,
    worst,
)

GOOD, BAD, OPEN, ERROR = Phase.SUCCESSFUL, Phase.FAILED, Phase.INCONCLUSIVE, Phase.ERROR


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        pytest.param("result >= 0.85", {"result": 0.85}, True, id="at the limit"),
        pytest.param("result <= baseline * 1.05", {"result": 1.06, "baseline": 1.0}, False, id="against the base model"),
        pytest.param("result <= baseline * 2", {"result": 1.5, "baseline": 1}, True, id="whole and broken numbers mix"),
        pytest.param("result > 1 && result < 3", {"result": 2.0}, True, id="and"),
        pytest.param("result > 3 || champion < 1", {"result": 2.0, "champion": 0.5}, True, id="or"),
        pytest.param("!(result > 3)", {"result": 2.0}, True, id="not"),
        pytest.param("result != 2", {"result": 2.0}, False, id="unequal is not not"),
        pytest.param("0 < result < 1", {"result": 0.5}, True, id="chain"),
        pytest.param("result > default(champion, 0.5)", {"result": 0.6}, True, id="default of what is missing"),
        pytest.param("result > default(champion, 0.5)", {"result": 0.6, "champion": 0.7}, False, id="default not needed"),
        pytest.param("isNaN(result)", {"result": math.nan}, True, id="no number"),
        pytest.param("!isNaN(result) && result < 1", {"result": math.nan}, False, id="no number that is asked for"),
        pytest.param("default(result, 0) < 1", {"result": math.nan}, True, id="default of what is no number"),
        pytest.param("default(result, 0) < 1", {"result": None}, True, id="default of what was not measured"),
        pytest.param("result <= max(baseline, champion) + -1e-3", {"result": 1, "baseline": 1, "champion": 2}, True, id="max"),
    ],
)  # fmt: skip
def test_holds(text: str, values: dict[str, float | None], holds: object) -> None:
    assert compile_expression(text).holds(values) is holds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "is no expression", id="empty"),
        pytest.param("result >", "is no expression", id="half"),
        pytest.param("result >= 0.85 )", "is no expression", id="parenthesis"),
        pytest.param("result", "is a number", id="no comparison"),
        pytest.param("result + 1", "is a number", id="arithmetic alone"),
        pytest.param("result > 1 && 3", "is a number", id="half a comparison"),
        pytest.param("accuracy > 1", "names 'accuracy'; there are result, baseline, champion", id="unknown name"),
        pytest.param("result = 1", "is no expression", id="assignment"),
        pytest.param("__import__('os')", "it may have numbers", id="string"),
        pytest.param("result.real > 1", "has something else", id="attribute"),
        pytest.param("result ** 9 > 1", "has something else", id="power"),
        pytest.param("result[0] > 1", "it may have numbers", id="index"),
        pytest.param("open(result) > 1", "has something else", id="function"),
        pytest.param("default(result) > 1", "takes 2 values", id="too few values"),
        pytest.param("(" * 400 + "result" + ")" * 400 + " > 1", "at most 512", id="too long"),
        pytest.param("(" * 240 + "result" + ")" * 240 + " > 1", "is no expression", id="too deep"),
        pytest.param("result > 1\nresult > 2", "it may have numbers", id="two lines"),
    ],
)
def test_what_cannot_be_read(text: str, says: str) -> None:
    assert says in problem_of(text)


@pytest.mark.parametrize(
    ("text", "values", "says"),
    [
        pytest.param("result > champion", {"result": 1.0}, "there is no champion", id="missing value"),
        pytest.param("result > champion", {"result": None, "champion": None}, "no champion and no result", id="both"),
        pytest.param("result / baseline > 1", {"result": 1.0, "baseline": 0.0}, "cannot be evaluated", id="division by zero"),
        pytest.param("result < 1", {"result": math.nan}, "result is NaN", id="no number is neither small nor large"),
        pytest.param("result >= 1", {"result": math.nan}, "result is NaN", id="and not the other way round"),
        pytest.param("default(result, 0) < champion", {"result": 1.0, "champion": math.nan}, "champion is NaN", id="no number beside it"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated(text: str, values: dict[str, float | None], says: str) -> None:
    with pytest.raises(ExpressionError, match=says):
        compile_expression(text).holds(values)
    assert measure(Conditions(success=text), values).phase is ERROR


@pytest.mark.parametrize(
    ("conditions", "result", "phase"),
    [
        pytest.param(Conditions("result > 2"), 3, GOOD, id="good"),
        pytest.param(Conditions("result > 2"), 1, BAD, id="not good is bad where only good is said"),
        pytest.param(Conditions(failure="result < 2"), 1, BAD, id="bad"),
        pytest.param(Conditions(failure="result < 2"), 3, GOOD, id="not bad is good where only bad is said"),
        pytest.param(Conditions("result > 2", "result < 1"), 3, GOOD, id="good of two"),
        pytest.param(Conditions("result > 2", "result < 1"), 0, BAD, id="bad of two"),
        pytest.param(Conditions("result > 2", "result < 1"), 1.5, OPEN, id="between two"),
        pytest.param(Conditions("result > 2", "result > 1"), 3, BAD, id="bad outranks good"),
        pytest.param(Conditions(), 3, GOOD, id="measured is enough"),
    ],
)
def test_a_measurement(conditions: Conditions, result: float, phase: Phase) -> None:
    assert measure(conditions, {"result": result}).phase is phase


@pytest.mark.parametrize(
    ("phases", "limits", "phase"),
    [
        pytest.param([], Limits(), Phase.RUNNING, id="nothing yet"),
        pytest.param([GOOD], Limits(), GOOD, id="one is enough"),
        pytest.param([GOOD, GOOD], Limits(count=3), Phase.RUNNING, id="two of three"),
        pytest.param([BAD], Limits(count=3), BAD, id="no failure is allowed"),
        pytest.param([BAD, GOOD, GOOD], Limits(count=3, failure=1), GOOD, id="one failure is allowed"),
        pytest.param([BAD, GOOD, BAD], Limits(count=5, failure=1), BAD, id="two are too many"),
        pytest.param([BAD, BAD, BAD], Limits(count=3, failure=-1), GOOD, id="failures do not matter"),
        pytest.param([OPEN], Limits(), OPEN, id="inconclusive"),
        pytest.param([OPEN, GOOD], Limits(count=2, inconclusive=1), GOOD, id="one inconclusive is allowed"),
        pytest.param([ERROR, ERROR, ERROR, ERROR], Limits(), Phase.RUNNING, id="four errors in a row are allowed"),
        pytest.param([ERROR] * 5, Limits(), ERROR, id="five are not"),
        pytest.param(
            [ERROR, ERROR, ERROR, ERROR, GOOD, ERROR, ERROR, ERROR, ERROR],
            Limits(count=2),
            Phase.RUNNING,
            id="not in a row",
        ),
        pytest.param([ERROR, GOOD], Limits(), GOOD, id="an error is no measurement"),
    ],
)
def test_many_measurements(phases: list[Phase], limits: Limits, phase: Phase) -> None:
    assert conclude(phases, limits) is phase


def test_the_worst_of_several_metrics() -> None:
    assert worst([GOOD, OPEN, ERROR, BAD]) is BAD
    assert worst([GOOD, OPEN, ERROR]) is ERROR
    assert worst([GOOD, Phase.RUNNING, OPEN]) is OPEN
    assert worst([GOOD, Phase.RUNNING]) is Phase.RUNNING
    assert worst([]) is GOOD


def test_the_variables_of_conditions() -> None:
    assert Conditions("result > default(champion, 1)", "result < baseline").names == {"result", "champion", "baseline"}
