"""Groups of held-out examples measured by themselves: for whom a model works worse than for others.

The numbers of single groups have names like `test_accuracy[gender=f]`; they are for the report. What gates and versions have of
them is the largest gap between groups, `test_accuracy_gap_by_gender`, and the worst group, `test_accuracy_worst_by_gender`.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from trimtab_trainer.contract.data_checks import Slices, is_of_group
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.data.splits import DATA_SET, Split
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.tasks.task import LOWER_IS_BETTER

MAXIMUM_GROUPS = 32
EXAMPLES = "examples"
"""In the place of a metric: how many examples a group has."""
_DETAIL = re.compile(r"^(?P<metric>[^\[]+)\[(?P<column>[^=]+)=(?P<value>.*)\]$", re.DOTALL)


def headlines(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without the numbers of single groups."""
    return {name: value for name, value in metrics.items() if not is_of_group(name)}


def comparison_names(slices: Slices | None, metrics: Sequence[str]) -> list[str]:
    """What is known of each metric by each column, without a split's prefix."""
    columns = slices.columns if slices else []
    return [f"{metric}_{what}_by_{column}" for column in columns for metric in metrics for what in ("gap", "worst")]


def check_columns(slices: Slices | None, splits: Mapping[str, Split]) -> None:
    """A column must be in some measured split, and have few values.

    Raises:
        TrainerError: ConfigInvalid naming the column.
    """
    for column in slices.columns if slices else ():
        values = {
            example.groups[column]
            for split in splits.values()
            for example in split.examples
            if column in example.groups
        }
        if not values or len(values) > MAXIMUM_GROUPS:
            found = f"has {len(values)} values" if values else "is in no row of the validation, test or general split"
            raise TrainerError(
                TrainerReason.CONFIG_INVALID,
                f"`data.slices.columns: {column}` {found}; name a column of the measured rows with at most {MAXIMUM_GROUPS} values.",
            )


def groups_of(split: Split, column: str) -> dict[str, Split]:
    """The examples by their value in a column; those without one are in no group."""
    members: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(split.examples):
        if column in example.groups:
            members[example.groups[column]].append(number)
    return {
        value: replace(
            split,
            encoded=[split.encoded[number] for number in numbers],
            examples=[split.examples[number] for number in numbers],
        )
        for value, numbers in sorted(members.items())
    }


def measure_data_sets(
    split: Split, whole: Mapping[str, float], measure: Callable[[Split], Mapping[str, float]]
) -> dict[str, float]:
    """Metrics of each data set that has a name, as `accuracy[data set=news]`; `whole` are those of the whole split."""
    found: dict[str, float] = {}
    for name, group in groups_of(split, DATA_SET).items():
        metrics = whole if len(group.examples) == len(split.examples) else measure(group)
        found[f"{EXAMPLES}[{DATA_SET}={name}]"] = float(len(group.examples))
        found |= {of_group(metric, DATA_SET, name): value for metric, value in metrics.items() if math.isfinite(value)}
    return found


def of_group(metric: str, column: str, value: str) -> str:
    """The name of a group's metric."""
    return f"{metric}[{column}={value}]"


def measure_slices(slices: Slices, split: Split, measure: Callable[[Split], Mapping[str, float]]) -> dict[str, float]:
    """Metrics of each group, and their comparison; names without the split's prefix.

    Args:
        slices: columns, and from how many examples a group is compared.
        split: encoded examples beside what their rows say.
        measure: the metrics of some of them. Every rank calls it for the same groups in the same order.
    """
    found: dict[str, float] = {}
    for column in slices.columns:
        compared: dict[str, list[float]] = defaultdict(list)
        for value, group in groups_of(split, column).items():
            found[f"{EXAMPLES}[{column}={value}]"] = float(len(group.examples))
            for metric, number in measure(group).items():
                if math.isfinite(number):
                    found[of_group(metric, column, value)] = number
                    if len(group.examples) >= slices.minimum_examples:
                        compared[metric].append(number)
        for metric, numbers in compared.items():
            if len(numbers) > 1:
                worst = max if metric.endswith(LOWER_IS_BETTER) else min
                found[f"{metric}_gap_by_{column}"] = max(numbers) - min(numbers)
                found[f"{metric}_worst_by_{column}"] = worst(numbers)
    return found


def render_slices(base: Mapping[str, float], tuned: Mapping[str, float]) -> str:
    """A table for each column, as Markdown; "" without groups."""
    rows: dict[str, list[str]] = defaultdict(list)
    for name, number in tuned.items():
        match = _DETAIL.match(name)
        if match is None or match["metric"].endswith(f"_{EXAMPLES}"):
            continue
        split = match["metric"].partition("_")[0]
        count = tuned.get(f"{split}_{EXAMPLES}[{match['column']}={match['value']}]", 0)
        before = f"{base[name]:.4g}" if name in base else ""
        value = match["value"].replace("|", "\\|").replace("\n", " ")
        rows[match["column"]].append(f"| {value} | {count:.0f} | {match['metric']} | {before} | {number:.4g} |")
    head = "| group | examples | metric | base | tuned |\n|---|---:|---|---:|---:|\n"
    return "\n\n".join(f"## By {column}\n\n{head}" + "\n".join(sorted(lines)) for column, lines in rows.items())
