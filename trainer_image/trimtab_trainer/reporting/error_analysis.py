"""Where a model goes wrong: the held-out examples with the highest loss, and for classifiers which labels it confuses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from trimtab_trainer.contract.base import Document
from trimtab_trainer.data.annotations import MultiLabelled
from trimtab_trainer.data.batches import micro_batches
from trimtab_trainer.data.formats import Chat, Completion, Example, Labelled
from trimtab_trainer.data.media import LabelledImage
from trimtab_trainer.data.splits import Split
from trimtab_trainer.interruption import Interruption
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.reporting.pictures import blank_axes, png

WORST, CHANGED = 10, 5
COMPARED_EXAMPLES = 200
"""How many of them the base model is asked about, too."""
LANGUAGE_EXAMPLES, LABELLED_EXAMPLES = 64, 2000
"""How many examples of the split are looked at: a confusion matrix needs many, and each costs little."""
SHOWN_LABELS = 20
SHOWN_CHARACTERS = 240


@dataclass(frozen=True)
class Finding:
    """What a model makes of one example."""

    loss: float
    """Mean over the example's targets."""
    predicted: int = -1
    """Class index; -1 for tasks without one class an example."""
    true: int = -1
    """What it should have been."""


@runtime_checkable
class Examining(Protocol):
    """A task that can tell of single examples."""

    def examine(self, model: TrainableModel, batch: Any) -> list[Finding]:
        """One finding for each example of a batch, in its order, without gradients."""


class WorstExample(Document):
    """An example with a high loss."""

    text: str
    """What the model was given."""
    expected: str
    """What it should have said; empty for raw text."""
    predicted: str = ""
    """The label that it chose."""
    loss: float


class ChangedExample(Document):
    """An example on which training changed the model's mind."""

    text: str
    expected: str
    before: str = ""
    """The label that the base model chose; with a new head, a guess."""
    after: str = ""
    loss_before: float
    loss_after: float


class Confusion(Document):
    """Which labels are taken for which."""

    labels: list[str]
    counts: list[list[int]]
    """Rows are the true labels, columns the predicted ones."""


class ErrorAnalysis(Document):
    """Where the tuned model goes wrong."""

    split: str
    examined: int
    """Examples that were looked at."""
    worst: list[WorstExample] = Field(default_factory=list)
    """Highest loss first."""
    confusion: Confusion | None = None
    changed: list[ChangedExample] = Field(default_factory=list)
    """The largest changes of the loss, in both directions; of classifiers, of examples whose label changed."""


@dataclass(frozen=True)
class Before:
    """The base model's findings, by example: loss and predicted class."""

    losses: Sequence[float] = ()
    predicted: Sequence[int] = ()


def analyse(
    model: TrainableModel,
    task: object,
    split: Split,
    *,
    tokens_per_batch: int,
    stop: Callable[[], bool],
    before: Before | None = None,
) -> ErrorAnalysis | None:
    """Look at single examples of a split, and compare with before; None where the task cannot, or there are none.

    Raises:
        Interruption: SIGTERM came.
    """
    findings = examine(model, task, split, tokens_per_batch=tokens_per_batch, stop=stop)
    if not findings:
        return None
    order = sorted(findings, key=lambda index: (-findings[index].loss, index))
    return ErrorAnalysis(
        split=split.name,
        examined=len(findings),
        worst=[_worst(split.examples[index], findings[index], model.labels) for index in order[:WORST]],
        confusion=_confusion(list(findings.values()), model.labels),
        changed=_changed(split, findings, before or Before(), model.labels),
    )


def examine(
    model: TrainableModel,
    task: object,
    split: Split,
    *,
    tokens_per_batch: int,
    stop: Callable[[], bool],
    limit: int = LABELLED_EXAMPLES,
) -> dict[int, Finding]:
    """Findings of the first examples, by their numbers; empty where the task cannot tell of single ones.

    Raises:
        Interruption: SIGTERM came.
    """
    if not isinstance(task, Examining) or not split.encoded:
        return {}
    count = min(len(split.encoded), limit, LABELLED_EXAMPLES if model.labels else LANGUAGE_EXAMPLES)
    rows = sorted(((index,) for index in range(count)), key=lambda row: -split.encoded[row[0]].length)
    findings: dict[int, Finding] = {}
    model.module.eval()
    for batch in micro_batches(
        rows, size=None, tokens=tokens_per_batch, length=lambda row: split.encoded[row[0]].length
    ):
        if stop():
            raise Interruption("SIGTERM while looking at examples")
        indices = [index for row in batch for index in row]
        collated = task.collate([split.encoded[index] for index in indices])  # type: ignore[attr-defined]
        findings |= dict(zip(indices, task.examine(model, collated), strict=True))
    model.train()
    return findings


def _changed(
    split: Split, findings: Mapping[int, Finding], before: Before, labels: Sequence[str]
) -> list[ChangedExample]:
    """The most improved and the most worsened."""
    known = [index for index in findings if index < len(before.losses)]
    if all(findings[index].predicted >= 0 for index in known):
        known = [index for index in known if findings[index].predicted != before.predicted[index]]
    order = sorted(known, key=lambda index: (findings[index].loss - before.losses[index], index))
    chosen = order if len(order) <= 2 * CHANGED else [*order[:CHANGED], *order[-CHANGED:]]
    found = []
    for index in chosen:
        text, expected = _said(split.examples[index])
        was, now = before.predicted[index], findings[index].predicted
        found.append(
            ChangedExample(
                text=text,
                expected=expected,
                before=labels[was] if was >= 0 else "",
                after=labels[now] if now >= 0 else "",
                loss_before=before.losses[index],
                loss_after=findings[index].loss,
            )
        )
    return found


def _worst(example: Example, finding: Finding, labels: Sequence[str]) -> WorstExample:
    text, expected = _said(example)
    predicted = labels[finding.predicted] if finding.predicted >= 0 else ""
    return WorstExample(text=text, expected=expected, predicted=predicted, loss=finding.loss)


def _said(example: Example) -> tuple[str, str]:
    content = example.content
    if isinstance(content, Completion):
        return content.prompt, content.completion
    if isinstance(content, Labelled):
        return content.text, content.label
    if isinstance(content, Chat):
        last = max(number for number, (role, _) in enumerate(content.messages) if role == "assistant")
        return (content.messages[last - 1][1] if last else "", content.messages[last][1])
    if isinstance(content, MultiLabelled):
        return content.text, ", ".join(content.labels)
    if isinstance(content, LabelledImage):
        return str(content.image.path.name if content.image.path else example.place), content.label
    return str(getattr(content, "text", "")), ""


def _confusion(findings: Sequence[Finding], labels: Sequence[str]) -> Confusion | None:
    if any(finding.true < 0 for finding in findings):
        return None
    counts = [[0] * len(labels) for _ in labels]
    for finding in findings:
        counts[finding.true][finding.predicted] += 1
    return Confusion(labels=list(labels), counts=counts)


def render_errors(errors: ErrorAnalysis | None) -> str:
    """The part of `report.md`."""
    if errors is None or not errors.worst:
        return ""
    head = (
        f"## Where it goes wrong\n\n{errors.examined:,} examples of the {errors.split} split were looked at one by one."
    )
    parts = (head, _confusion_table(errors.confusion), _worst_table(errors), _changed_table(errors))
    return "\n\n".join(part for part in parts if part)


def _worst_table(errors: ErrorAnalysis) -> str:
    has_labels = errors.confusion is not None
    rows = [
        f"| {one.loss:.3g} | {_cell(one.text)} | {_cell(one.expected)} |"
        + (f" {_cell(one.predicted)} |" if has_labels else "")
        for one in errors.worst
    ]
    head = "| loss | given | expected |" + (" predicted |" if has_labels else "")
    line = "|---:|---|---|" + ("---|" if has_labels else "")
    return "Highest loss first:\n\n" + "\n".join([head, line, *rows])


def _changed_table(errors: ErrorAnalysis) -> str:
    if not errors.changed:
        return ""
    rows = [
        f"| {one.loss_before:.3g} | {one.loss_after:.3g} | {_cell(one.text)} | {_cell(one.expected)} |"
        + (f" {_cell(one.before)} | {_cell(one.after)} |" if one.after else "")
        for one in errors.changed
    ]
    has_labels = any(one.after for one in errors.changed)
    head = "| loss before | after | given | expected |" + (" predicted before | after |" if has_labels else "")
    line = "|---:|---:|---|---|" + ("---|---|" if has_labels else "")
    return "What training changed most, the largest gains first, then the largest losses:\n\n" + "\n".join(
        [head, line, *rows]
    )


def _confusion_table(confusion: Confusion | None) -> str:
    if confusion is None:
        return ""
    picture = "![Confusion matrix](confusion.png)"
    if len(confusion.labels) > SHOWN_LABELS:
        return picture
    labels = [_cell(label) for label in confusion.labels]
    head = f"| true \\ predicted | {' | '.join(labels)} |\n|---|{'---:|' * len(labels)}"
    rows = [
        f"| **{label}** | {' | '.join(map(str, row))} |" for label, row in zip(labels, confusion.counts, strict=True)
    ]
    return f"{picture}\n\n{head}\n" + "\n".join(rows)


def _cell(text: str) -> str:
    return text[:SHOWN_CHARACTERS].replace("\n", " ").replace("|", "\\|").strip() or "*(nothing)*"


def draw_confusion(confusion: Confusion, *, title: str) -> bytes:
    """PNG: shares of each true label, counts written into the cells."""
    labels, counts = confusion.labels, confusion.counts
    side = max(5.0, 1.5 + 0.5 * len(labels))
    axes = blank_axes(side + 1, side)
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, values in enumerate(counts):
        for column, count in enumerate(values):
            colour = "white" if shares[row][column] > 0.5 else "black"  # noqa: PLR2004 - the middle of the scale
            axes.text(column, row, str(count) if count else "", ha="center", va="center", color=colour, fontsize=9)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=45, ha="right", fontsize=9)
    axes.set_yticks(ticks, labels, fontsize=9)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    return png(axes)
