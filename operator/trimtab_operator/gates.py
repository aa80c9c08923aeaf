"""What a version's measurements say about its evaluation gates. Pure: the numbers come from the trainer, the verdict is ours.

| phase        | when                                                      | holds the version back            |
|--------------|-----------------------------------------------------------|-----------------------------------|
| Successful   | the conditions say so                                     | no                                |
| Failed       | the conditions say so                                     | yes                               |
| Inconclusive | two conditions, and neither holds                         | until approved; inconclusiveLimit |
| Error        | there is no number, or none that a condition can judge    | yes, until it is measured         |
| Skipped      | a condition compares with a champion, and there is none   | no                                |

A dry run holds nothing back.
"""

import ast
import math
from collections.abc import Mapping, Sequence

from trimtab_operator.api.v1alpha1.gates import GatePhase, GateResult
from trimtab_operator.expressions import (
    Conditions,
    ExpressionError,
    Phase,
    Values,
    compile_expression,
    measure,
    problem_of,
    value_of,
)
from trimtab_trainer.contract.gates import Gate, GateMeasurement

CHAMPION = "champion"
_PHASES: Mapping[Phase, GatePhase] = {
    Phase.SUCCESSFUL: "Successful",
    Phase.FAILED: "Failed",
    Phase.INCONCLUSIVE: "Inconclusive",
}
_COMPARISONS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_MESSAGE = 512


def names_champion(gates: Sequence[Gate]) -> bool:
    """Whether some condition compares with the champion."""
    return any(CHAMPION in compile_expression(text).names for gate in gates for text in _readable(gate))


def judge(gates: Sequence[Gate], measured: Sequence[GateMeasurement], champion: str) -> list[GateResult]:
    """One result per gate, in their order.

    Args:
        gates: as the spec has them.
        measured: their numbers, in the same order; what is missing was not measured.
        champion: name of the version that was compared with; empty without one.
    """
    missing = [GateMeasurement()] * (len(gates) - len(measured))
    return [_judge(gate, numbers, champion) for gate, numbers in zip(gates, [*measured, *missing], strict=False)]


def _judge(gate: Gate, numbers: GateMeasurement, champion: str) -> GateResult:
    values = {
        "result": _number(numbers.result),
        "baseline": _number(numbers.baseline),
        CHAMPION: _number(numbers.champion),
    }
    phase, why = _phase(gate, values, champion)
    result = GateResult(
        name=gate.title,
        metric=gate.plain_metric,
        source=gate.source,
        success_condition=gate.success_condition,
        failure_condition=gate.failure_condition,
        phase=phase,
        holds_back=_holds_back(gate, phase),
        dry_run=gate.dry_run,
        result=numbers.result or "",
        baseline=numbers.baseline or "",
        champion=numbers.champion or "",
        champion_version=champion,
    )
    return result.model_copy(update={"message": _message(gate, result, values, why)[:_MESSAGE]})


def _phase(gate: Gate, values: Values, champion: str) -> tuple[GatePhase, str]:
    """The phase, and for Error the reason."""
    if values["result"] is None:
        return "Error", "it was not measured, or its value is no number"
    if not champion and any(CHAMPION in compile_expression(text).required for text in _readable(gate)):
        return "Skipped", ""
    outcome = measure(Conditions(gate.success_condition, gate.failure_condition), values)
    if outcome.phase is Phase.ERROR:
        return "Error", outcome.message
    return _PHASES[outcome.phase], ""


def _holds_back(gate: Gate, phase: GatePhase) -> bool:
    if gate.dry_run or phase in ("Successful", "Skipped"):
        return False
    return phase != "Inconclusive" or gate.inconclusive_limit == 0


def _message(gate: Gate, result: GateResult, values: Values, why: str) -> str:
    measured = f"{gate.plain_metric} on {gate.source}"
    named = f"{gate.name}: {measured}" if gate.name else measured
    dry = " (dry run)" if gate.dry_run else ""
    value = values["result"]
    shown = "" if value is None else f" is {value:.4g}"
    match result.phase:
        case "Error":
            return f"{named}{shown}{dry}: {why}."
        case "Skipped":
            return f"{named}{shown}{dry}: there is no champion to compare with yet."
        case "Inconclusive":
            return (
                f"{named}{shown}{dry}: neither passed ({_bound(gate.success_condition, values)}) "
                f"nor failed ({_bound(gate.failure_condition, values)})."
            )
    must = _bound(gate.success_condition, values) or f"not {_bound(gate.failure_condition, values)}"
    return f"{named}{shown}{dry}, must be {must}."


def _bound(condition: str, values: Values) -> str:
    """`result <= baseline * 1.05` as `<= baseline * 1.05 = 24.1`; what is no plain comparison as it stands."""
    if not condition:
        return ""
    tree = compile_expression(condition).tree
    match tree:
        case ast.Compare(left=ast.Name(id="result"), ops=[operator], comparators=[right]):
            text = ast.unparse(right)
            bound = f"{_COMPARISONS[type(operator)]} {text}"
            if isinstance(right, ast.Constant):
                return bound
            try:
                return f"{bound} = {value_of(right, values):.4g}"
            except ExpressionError:
                return bound
    given = ", ".join(
        f"{name} {values[name]:.4g}"
        for name in ("baseline", CHAMPION)
        if name in condition and values[name] is not None
    )
    return f"{condition} ({given})" if given else condition


def _readable(gate: Gate) -> list[str]:
    return [text for text in gate.conditions if not problem_of(text)]


def _number(text: str | None) -> float | None:
    """What cannot be compared is no number."""
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
