"""Module names that adapters are put on, as peft matches them."""

import re
from collections.abc import Iterable, Mapping, Sequence

from trimtab_trainer.contract.methods import Lora
from trimtab_trainer.methods.method import invalid
from trimtab_trainer.model_facts import ModelFacts

ALL_LINEAR = "all-linear"
SHOWN_MODULES = 20


def is_target(module: str, targets: Sequence[str]) -> bool:
    """Whether peft puts an adapter on a module: the name, or its end after a dot."""
    return list(targets) == [ALL_LINEAR] or any(module == target or module.endswith("." + target) for target in targets)


def is_chosen(module: str, lora: Lora, facts: ModelFacts) -> bool:
    """Whether a module gets an adapter."""
    if lora.target_pattern is None:
        return is_target(module, lora.target_modules)
    return any(re.fullmatch(lora.target_pattern, name) for name in full_names(module, facts))


def full_names(name: str, facts: ModelFacts) -> tuple[str, ...]:
    """What a parameter or module of the files may be called in the loaded model: files of a bare trunk lack its prefix."""
    return name, f"model.{name}", f"{facts.config.get('model_type', 'model')}.{name}"


def pattern_value(module: str, pattern: Mapping[str, int], default: int) -> int:
    """A module's value in `rankPattern`, as peft finds it: the first key that matches the name's end."""
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def check_patterns(patterns: Iterable[str], *, field: str) -> None:
    """They must be regular expressions.

    Raises:
        TrainerError: ConfigInvalid quoting the one that is none.
    """
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise invalid(f"`{field}` must be regular expressions; '{pattern}' is none: {error}.") from error


def check_targets(lora: Lora, facts: ModelFacts, *, field: str) -> None:
    """Every name and pattern must match a layer of this model.

    Raises:
        TrainerError: ConfigInvalid listing the names that exist.
    """
    if lora.target_pattern is not None:
        check_patterns([lora.target_pattern], field=f"{field}.targetPattern")
    else:
        _check_modules(lora.target_modules, facts, field=f"{field}.targetModules")
    chosen = [name for name in facts.linear_layers if is_chosen(name, lora, facts)]
    if not chosen:
        chosen_by = "targetModules" if lora.target_pattern is None else f"targetPattern: {lora.target_pattern}"
        raise _unmatched(f"{field}.{chosen_by}", facts)
    for name, pattern in (("rankPattern", lora.rank_pattern), ("alphaPattern", lora.alpha_pattern)):
        check_patterns(pattern, field=f"{field}.{name}")
        for key in pattern:
            if not any(pattern_value(module, {key: 1}, 0) for module in chosen):
                raise _unmatched(f"{field}.{name}: {key}", facts)


def _check_modules(targets: Sequence[str], facts: ModelFacts, *, field: str) -> None:
    if list(targets) == [ALL_LINEAR]:
        return
    for target in targets:
        if target == ALL_LINEAR:
            raise invalid(f"`{field}` must be either [all-linear] or module names.")
        if not any(is_target(name, [target]) for name in facts.linear_layers):
            raise _unmatched(f"{field}: {target}", facts)


def _unmatched(what: str, facts: ModelFacts) -> Exception:
    if not facts.linear_layers:
        return invalid(f"`{what}` needs linear layers below the head, which this model has not; use `method.full`.")
    names = sorted({name.rpartition(".")[2] for name in facts.linear_layers})[:SHOWN_MODULES]
    return invalid(f"`{what}` matches no layer of this model that gets an adapter. It has: {', '.join(names)}.")
