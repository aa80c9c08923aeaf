"""What a new task did to earlier ones, in the terms of the literature on continual learning.

Let a(j) be the accuracy on data set j now. Then (Lopez-Paz and Ranzato, 2017, arXiv:1706.08840; Chaudhry et al., 2018, arXiv:1801.10112)

    average accuracy    mean of a(j) over the new data set and all earlier ones
    backward transfer   mean over the earlier ones of a(j) - learned(j), the accuracy right after j was learned
    forgetting          mean over the earlier ones of best(j) - a(j), the best accuracy that any version of the chain had; 0 where j gained

Earlier data sets are those in `data.general`, by their names. What was learned and what was best travels from version to version in the
metrics of their manifests; for a data set that the chain did not learn under its name, both are what the base model had before training.
"""

from collections.abc import Mapping
from statistics import mean

from trimtab_trainer.contract.data_checks import CONTINUAL
from trimtab_trainer.contract.spec import Data
from trimtab_trainer.data.splits import DATA_SET
from trimtab_trainer.slices import of_group

ACCURACIES = ("accuracy", "exact_match", "f1", "token_accuracy")
"""What counts as accuracy, the most telling first; 1 is best."""
_MEANS = ("average_accuracy", "backward_transfer", "forgetting")
_OF_EACH = ("accuracy", "backward_transfer", "forgetting")
_LEARNED, _BEST = f"{CONTINUAL}learned_of_", f"{CONTINUAL}best_of_"


def continual_names(data: Data) -> list[str]:
    """What is measured where there is general data, for gates."""
    named = {one.name: None for one in data.general if one.name}
    of_each = [f"{CONTINUAL}{what}_of_{name}" for name in named for what in _OF_EACH]
    return [*(f"{CONTINUAL}{what}" for what in _MEANS), *of_each] if data.general else []


def continual_metrics(
    base: Mapping[str, float], tuned: Mapping[str, float], *, earlier: Mapping[str, float]
) -> dict[str, float]:
    """All that is known of the chain after this training; empty where nothing could be forgotten.

    Args:
        base: metrics before training.
        tuned: after it.
        earlier: of the version that training went on from.
    """
    for accuracy in ACCURACIES:
        if f"general_{accuracy}" in tuned and f"general_{accuracy}" in base:
            return {**_over_the_chain(accuracy, base, tuned, earlier), **_remembered(accuracy, tuned, earlier)}
    return _remembered(next((name for name in ACCURACIES if f"test_{name}" in tuned), ""), tuned, earlier)


def _over_the_chain(
    accuracy: str, base: Mapping[str, float], tuned: Mapping[str, float], earlier: Mapping[str, float]
) -> dict[str, float]:
    now, before = _by_name("general", accuracy, tuned), _by_name("general", accuracy, base)
    known = {name: value for name, value in now.items() if name in before}
    if not known:  # no data set has a name: all of them are one
        known, before = {"": tuned[f"general_{accuracy}"]}, {"": base[f"general_{accuracy}"]}
    transfer = {name: value - earlier.get(_LEARNED + name, before[name]) for name, value in known.items()}
    forgetting = {
        name: max(0.0, max(earlier.get(_BEST + name, before[name]), before[name]) - value)
        for name, value in known.items()
    }
    new = [tuned[f"test_{accuracy}"]] if f"test_{accuracy}" in tuned else []
    found = {
        f"{CONTINUAL}average_accuracy": mean([*new, *known.values()]),
        f"{CONTINUAL}backward_transfer": mean(transfer.values()),
        f"{CONTINUAL}forgetting": mean(forgetting.values()),
    }
    for name in filter(None, known):
        values = (known[name], transfer[name], forgetting[name])
        found |= {f"{CONTINUAL}{what}_of_{name}": value for what, value in zip(_OF_EACH, values, strict=True)}
        found[_LEARNED + name] = earlier.get(_LEARNED + name, before[name])
        found[_BEST + name] = max(earlier.get(_BEST + name, before[name]), before[name], known[name])
    return found


def _remembered(accuracy: str, tuned: Mapping[str, float], earlier: Mapping[str, float]) -> dict[str, float]:
    """What the new task's data sets have reached, for later versions; and what those that are not measured now had reached."""
    kept = {name: value for name, value in earlier.items() if name.startswith((_LEARNED, _BEST))}
    measured = _by_name("general", accuracy, tuned)
    new = {
        f"{prefix}{name}": value
        for name, value in _by_name("test", accuracy, tuned).items()
        if name not in measured
        for prefix in (_LEARNED, _BEST)
    }
    return {name: value for name, value in (kept | new).items() if name.rpartition("_of_")[2] not in measured}


def _by_name(split: str, accuracy: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The accuracy of each named data set of a split."""
    head, tail = of_group(f"{split}_{accuracy}", DATA_SET, "\0").split("\0")
    return {
        name.removeprefix(head).removesuffix(tail): value
        for name, value in metrics.items()
        if name.startswith(head) and name.endswith(tail)
    }


def render_continual(tuned: Mapping[str, float]) -> str:
    """The report's table over the named data sets of the chain, as Markdown; "" without any."""
    names = [name.removeprefix(_BEST) for name in tuned if name.startswith(_BEST)]
    names = [name for name in names if f"{CONTINUAL}accuracy_of_{name}" in tuned]
    rows = []
    for name in names:
        of_name = {what: tuned[f"{CONTINUAL}{what}_of_{name}"] for what in _OF_EACH}
        rows.append(
            f"| {name} | {tuned[_LEARNED + name]:.4g} | {tuned[_BEST + name]:.4g} | {of_name['accuracy']:.4g} | "
            f"{of_name['backward_transfer']:+.3g} | {of_name['forgetting']:.3g} |"
        )
    head = "| data set | learned | best | now | backward transfer | forgetting |\n|---|---:|---:|---:|---:|---:|\n"
    return "## What earlier data sets kept\n\nAccuracies.\n\n" + head + "\n".join(rows) if rows else ""
