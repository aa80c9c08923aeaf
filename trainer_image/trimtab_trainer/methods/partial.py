"""Method partial: the last layers, the embeddings or chosen parameters move; every other weight stays bit-identical."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from trimtab_trainer.contract.methods import Partial
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.methods.frozen import frozen_prefix
from trimtab_trainer.methods.layers import Layers, is_below, is_head
from trimtab_trainer.methods.method import Method, invalid
from trimtab_trainer.methods.targets import check_patterns, full_names
from trimtab_trainer.methods.whole_models import with_adapter_folded_in
from trimtab_trainer.model_facts import ModelFacts


class PartialFineTuning(Method):
    """Some of the model's own weights."""

    learning_rate = 0.00005
    new_head_learning_rate = 0.0002

    def check(self, config: RunConfig, facts: ModelFacts) -> None:
        """There must be so many layers, and the patterns must be regular expressions."""
        partial, count = _settings(config), Layers(facts.shapes).count
        if partial.last_layers > count:
            raise invalid(
                f"`method.partial.lastLayers: {partial.last_layers}` is more than the model's {count} layers."
            )
        check_patterns(partial.patterns, field="method.partial.patterns")

    def trained_parameters(self, config: RunConfig, facts: ModelFacts) -> int:
        """By name; a new head is counted as one vector, which is about a class."""
        layers, is_language = Layers(facts.shapes), config.task.causal_language_modeling is not None
        count = 0 if is_language else facts.width
        for name, shape in facts.shapes.items():
            if is_head(name):
                count += math.prod(shape) * (is_language and not facts.config.get("tie_word_embeddings"))
            elif _moves(_settings(config), full_names(name, facts), layers.distance(name)):
                count += math.prod(shape)
        return count

    def kept_layers(self, config: RunConfig, facts: ModelFacts) -> int:
        """The layers from the lowest that moves up."""
        partial = _settings(config)
        return facts.layers if partial.patterns or partial.embeddings else max(1, partial.last_layers)

    def still_parts(self, base: Any) -> Sequence[nn.Module]:
        """The first layers and what is below them, as far as nothing moves."""
        prefix = frozen_prefix(base)
        return [*prefix.layers, *prefix.below]

    def apply(self, config: RunConfig, model: Any, new_parameters: Sequence[str], adapter: Path | None) -> Any:
        """An earlier version's adapter becomes part of the weights first.

        Raises:
            TrainerError: ConfigInvalid for a pattern that matches nothing.
        """
        partial = _settings(config)
        model = with_adapter_folded_in(model, adapter).requires_grad_(requires_grad=False)
        named = dict(model.named_parameters())
        for pattern in partial.patterns:
            if not any(re.fullmatch(pattern, name) for name in named):
                raise invalid(
                    f"`method.partial.patterns: {pattern}` matches no parameter of this model; they are named like "
                    f"{', '.join(list(named)[:3])} and must match as a whole (begin with `.*`)."
                )
        layers, trunk = Layers(named), model.base_model_prefix + "."
        for name, parameter in named.items():
            is_of_head = name in new_parameters or not name.startswith(trunk)
            parameter.requires_grad_(is_of_head or _moves(partial, (name,), layers.distance(name)))
        return model


def _moves(partial: Partial, names: Sequence[str], distance: int) -> bool:
    return (
        distance < partial.last_layers
        or (partial.embeddings and is_below(names[0]))
        or any(re.fullmatch(pattern, name) for pattern in partial.patterns for name in names)
    )


def _settings(config: RunConfig) -> Partial:
    if config.method.partial is None:
        raise TypeError("method.partial is not set")
    return config.method.partial
