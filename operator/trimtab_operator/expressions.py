"""Conditions of metrics, and what measurements come to: the grammar of Argo Rollouts' analysis, for gates and for rollouts.

A condition is an expression over numbers, `result <= baseline * 1.05 && result < champion`, evaluated by simpleeval on a
syntax tree that holds nothing but numbers, names, comparisons and arithmetic (docs/decisions/0011).
"""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from simpleeval import InvalidExpression, SimpleEval

VARIABLES = ("result", "baseline", "champion")
"""What a condition may name: the candidate's value, the base model's or the stable version's, and that of the version that serves."""
MAX_CHARACTERS = 512
PATTERN = r"^[A-Za-z0-9_.()<>=!&|+*/%, \t-]+$"
"""Characters of a condition: the schema refuses others at admission."""

Values = Mapping[str, float | None]
"""Variables by name; None where there is no such number."""


class ExpressionError(ValueError):
    """A condition cannot be read, or cannot be evaluated on these values. The message says why."""


class Phase(StrEnum):
    """What a measurement, or all of a metric's measurements together, came to."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    """Neither good nor bad by its conditions: a person decides."""
    ERROR = "Error"
    """Not measured: says nothing about the model."""
    RUNNING = "Running"
    """More measurements are to come."""


SEVERITY = (Phase.FAILED, Phase.ERROR, Phase.INCONCLUSIVE, Phase.RUNNING, Phase.SUCCESSFUL)
"""Worst first."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """When a measurement is good, and when it is bad; either may be empty."""

    success: str = ""
    failure: str = ""

    @property
    def names(self) -> frozenset[str]:
        """Variables that they ask for."""
        return frozenset().union(*(compile_expression(text).names for text in (self.success, self.failure) if text))


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement."""

    phase: Phase
    message: str = ""
    """Why it is an error; empty otherwise."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many measurements there are, and how many of them may be other than good. A negative limit is none."""

    count: int = 1
    failure: int = 0
    inconclusive: int = 0
    consecutive_error: int = 4


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition that was read."""

    text: str
    tree: ast.expr
    names: frozenset[str]
    """Variables in it."""
    required: frozenset[str]
    """Those that have no `default(...)`."""
    guarded: frozenset[str]
    """Those that `isNaN(...)` or `default(...)` asks about: who wrote it thought of NaN."""

    def holds(self, values: Values) -> bool:
        """Whether it is true of these values.

        Raises:
            ExpressionError: a value is missing, or the arithmetic is impossible.
        """
        missing = sorted(name for name in self.required if values.get(name) is None)
        if missing:
            raise ExpressionError(f"there is no {' and no '.join(missing)} to compare with in `{self.text}`")
        for name in sorted(self.names - self.guarded):
            if math.isnan(values.get(name) or 0):
                raise ExpressionError(
                    f"{name} is NaN in `{self.text}`: isNaN({name}) or default({name}, 0) can judge that"
                )
        evaluator = SimpleEval(names={name: values.get(name) for name in self.names}, functions=dict(_FUNCTIONS))
        try:
            return bool(evaluator.eval(self.text, previously_parsed=self.tree))
        except (InvalidExpression, ArithmeticError, TypeError, ValueError) as error:
            raise ExpressionError(f"`{self.text}` cannot be evaluated: {error}") from error


def value_of(part: ast.expr, values: Values) -> float:
    """The value of one side of a condition that was read, for messages.

    Raises:
        ExpressionError: a value is missing, or the arithmetic is impossible.
    """
    evaluator = SimpleEval(names=dict(values), functions=dict(_FUNCTIONS))
    try:
        return float(evaluator.eval("", previously_parsed=part))
    except (InvalidExpression, ArithmeticError, TypeError, ValueError) as error:
        raise ExpressionError(str(error)) from error


@lru_cache(maxsize=1024)
def compile_expression(text: str, variables: tuple[str, ...] = VARIABLES) -> Expression:
    """Read a condition; it must say yes or no.

    Raises:
        ExpressionError: it cannot be read, names something unknown, or is a number.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"a condition has at most {MAX_CHARACTERS} characters")
    try:
        tree = SimpleEval.parse(_python_spelling(text))
    except (InvalidExpression, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"`{text}` is no expression: {_said(error)}") from error
    if not isinstance(tree, ast.Expr):
        raise ExpressionError(f"`{text}` is no expression: write a comparison such as `result >= 0.85`")
    names: set[str] = set()
    required: set[str] = set()
    _check(tree.value, text, variables, names, required)
    guarded = {
        node.args[0].id
        for node in ast.walk(tree.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and isinstance(node.args[0], ast.Name)
        if node.func.id in ("isNaN", "default")
    }
    if not _says_yes_or_no(tree.value):
        raise ExpressionError(f"`{text}` is a number: compare it, for instance `result >= 0.85`")
    return Expression(text, tree.value, frozenset(names), frozenset(required), frozenset(guarded))


def problem_of(text: str, variables: tuple[str, ...] = VARIABLES) -> str:
    """Why a condition cannot be used; empty when it can."""
    try:
        compile_expression(text, variables)
    except ExpressionError as error:
        return str(error)
    return ""


def measure(conditions: Conditions, values: Values) -> Measured:
    """One measurement, as Argo Rollouts has it: failure first; between two conditions lies Inconclusive."""
    try:
        good = compile_expression(conditions.success).holds(values) if conditions.success else None
        bad = compile_expression(conditions.failure).holds(values) if conditions.failure else None
    except ExpressionError as error:
        return Measured(Phase.ERROR, str(error))
    if good is None and bad is None:
        return Measured(Phase.SUCCESSFUL)
    if bad or (bad is None and not good):
        return Measured(Phase.FAILED)
    if good or good is None:
        return Measured(Phase.SUCCESSFUL)
    return Measured(Phase.INCONCLUSIVE)


def conclude(phases: Sequence[Phase], limits: Limits) -> Phase:
    """What a metric's measurements, oldest first, come to. Errors do not count as measurements."""
    if 0 <= limits.failure < phases.count(Phase.FAILED):
        return Phase.FAILED
    if 0 <= limits.inconclusive < phases.count(Phase.INCONCLUSIVE):
        return Phase.INCONCLUSIVE
    if 0 <= limits.consecutive_error < _errors_at_the_end(phases):
        return Phase.ERROR
    done = sum(phase is not Phase.ERROR for phase in phases)
    return Phase.SUCCESSFUL if done >= limits.count else Phase.RUNNING


def worst(phases: Sequence[Phase]) -> Phase:
    """What several metrics come to together. Leave out those that run dry."""
    return min(phases, key=SEVERITY.index, default=Phase.SUCCESSFUL)


# ── Inside ──

_FUNCTIONS: dict[str, Callable[..., float | bool]] = {
    "abs": abs,
    "min": min,
    "max": max,
    "isNaN": math.isnan,
    "default": lambda value, otherwise: otherwise if value is None or math.isnan(value) else value,
}
_ARGUMENTS = {"abs": (1, 1), "isNaN": (1, 1), "default": (2, 2), "min": (2, 8), "max": (2, 8)}
_SPELLINGS = ((re.compile(r"&&"), " and "), (re.compile(r"\|\|"), " or "), (re.compile(r"!(?!=)"), " not "))
_OPERATORS = (
    ast.And, ast.Or, ast.Not, ast.USub, ast.UAdd, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.Load,
)  # fmt: skip
_NODES = (ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, *_OPERATORS)


def _python_spelling(text: str) -> str:
    """`&&`, `||` and `!` as Python spells them. There are no strings in a condition that this could touch."""
    if not re.match(PATTERN, text):
        raise ValueError("it may have numbers, names, parentheses and + - * / % < > = ! & | only")
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    return text.strip()


def _check(node: ast.AST, text: str, variables: tuple[str, ...], names: set[str], required: set[str]) -> None:
    """Refuse whatever is not arithmetic, comparison or logic, before anything is evaluated."""
    match node:
        case ast.Constant(value=bool() | int() | float()):
            return
        case ast.Name(id=name):
            if name not in variables:
                raise ExpressionError(f"`{text}` names '{name}'; there are {', '.join(variables)}")
            names.add(name)
            required.add(name)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _ARGUMENTS:
            least, most = _ARGUMENTS[name]
            if not least <= len(args) <= most:
                raise ExpressionError(
                    f"`{text}`: {name}() takes {least if least == most else f'{least} to {most}'} values"
                )
            first_may_be_missing = name == "default"
            for index, argument in enumerate(args):
                _check(argument, text, variables, names, set() if first_may_be_missing and index == 0 else required)
        case _ if isinstance(node, _NODES):
            for child in ast.iter_child_nodes(node):
                _check(child, text, variables, names, required)
        case _:
            raise ExpressionError(
                f"`{text}` has something else than numbers, {', '.join(variables)}, comparisons, arithmetic, "
                f"&&, ||, ! and {', '.join(sorted(_ARGUMENTS))}()"
            )


def _says_yes_or_no(node: ast.expr) -> bool:
    match node:
        case ast.Compare() | ast.UnaryOp(op=ast.Not()) | ast.Constant(value=bool()):
            return True
        case ast.BoolOp(values=values):
            return all(map(_says_yes_or_no, values))
        case ast.Call(func=ast.Name(id="isNaN")):
            return True
    return False


def _errors_at_the_end(phases: Sequence[Phase]) -> int:
    errors = 0
    for phase in reversed(phases):
        if phase is not Phase.ERROR:
            break
        errors += 1
    return errors


def _said(error: BaseException) -> str:
    return str(error.msg if isinstance(error, SyntaxError) else error) or type(error).__name__
