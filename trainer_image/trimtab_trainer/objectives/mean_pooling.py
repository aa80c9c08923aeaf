"""What a sentence encoder says of a text is the mean over its tokens; the classifiers of transformers read the first token.

One more layer brings them together: its attention looks at all tokens alike, so that the first one becomes their mean. What is
published stays an ordinary model of its architecture.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "camembert")
"""Their layers add, normalise and attend as this needs it, and their heads begin with a layer of tanh."""
STRENGTH = 64.0
"""Of the mean beside the token itself, which is added to it before the norm."""
GENTLE = 0.5
"""Slope of the head's first layer: of values around 1, tanh then keeps nearly everything."""


def pools_by_mean(directory: Path) -> bool:
    """The model's files say that its texts are the means of their tokens, as sentence-transformers writes it down."""
    try:
        settings = json.loads((directory / "1_Pooling" / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(settings, dict):
        return False
    modes = {name for name, value in settings.items() if name.startswith("pooling_mode") and value is True}
    return modes == {"pooling_mode_mean_tokens"} or settings.get("pooling_mode") == "mean"


@torch.no_grad()
def pool_by_mean(model: Any) -> bool:
    """Add the layer, and let the head begin with what it reads; False where the architecture has no place for it."""
    if model.config.model_type not in ARCHITECTURES:
        return False
    layers = getattr(model, model.base_model_prefix).encoder.layer
    layers.append(_mean_layer(layers[-1], len(layers)))
    model.config.num_hidden_layers = len(layers)
    trunk = getattr(model, model.base_model_prefix)
    _set(trunk.pooler.dense if getattr(trunk, "pooler", None) is not None else model.classifier.dense, GENTLE)
    return True


def _mean_layer(last: Any, number: int) -> Any:
    """A layer after which every token is the normalised mean of all: attention without preference, and nothing fed forward."""
    layer = copy.deepcopy(last)
    attention = layer.attention.self
    if hasattr(attention, "layer_idx"):
        attention.layer_idx = number
    _set(attention.query, 0.0)
    _set(attention.key, 0.0)
    _set(attention.value, 1.0)
    _set(layer.attention.output.dense, STRENGTH)
    nn.init.zeros_(layer.output.dense.weight)
    nn.init.zeros_(layer.output.dense.bias)
    layer.attention.output.LayerNorm.reset_parameters()
    layer.output.LayerNorm.reset_parameters()
    return layer


def _set(linear: nn.Linear, factor: float) -> None:
    """The layer multiplies by this number."""
    nn.init.eye_(linear.weight).mul_(factor)
    nn.init.zeros_(linear.bias)
