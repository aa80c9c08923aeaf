"""Module names that adapters are put on, as peft matches them."""

from collections.abc import Sequence

from trimtab_trainer.methods.method import invalid
from trimtab_trainer.model_facts import ModelFacts

ALL_LINEAR = "all-linear"
SHOWN_MODULES = 20


def is_target(module: str, targets: Sequence[str]) -> bool:
    """Whether peft puts an adapter on a module: the name, or its end after a dot."""
    return list(targets) == [ALL_LINEAR] or any(module == target or module.endswith("." + target) for target in targets)


def check_target_modules(targets: Sequence[str], facts: ModelFacts, *, field: str) -> None:
    """Every name must match a layer of this model.

    Raises:
        TrainerError: ConfigInvalid listing the names that exist.
    """
    if list(targets) == [ALL_LINEAR]:
        return
    layers = facts.linear_layers
    for target in targets:
        if target == ALL_LINEAR:
            raise invalid(f"`{field}` must be either [all-linear] or module names.")
        if not any(is_target(name, [target]) for name in layers):
            names = sorted({name.rpartition(".")[2] for name in layers})[:SHOWN_MODULES]
            raise invalid(f"`{field}: {target}` matches no layer of this model. It has: {', '.join(names)}.")
