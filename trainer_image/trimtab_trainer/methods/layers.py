"""Where in a model a parameter lies, by its name: below the layers, in one of them, or above.

transformers names layers `<stack>.<number>.<rest>`: `model.layers.3.mlp.up_proj.weight`, `bert.encoder.layer.0...`. Models with
several stacks (encoder and decoder, two towers) are counted stack by stack, each from its own top.
"""

import re
from collections.abc import Iterable

_NUMBERED = re.compile(r"^(?P<stack>.+?)\.(?P<number>\d+)(\.|$)")
_BELOW = ("embed", "wte", "wpe", "patch", "feature_extractor", "feature_projection", "conv1", "conv2")
"""Words of names that lie below the layers."""
_ABOVE = frozenset(
    [
        "lm_head",
        "embed_out",
        "classifier",
        "classification_head",
        "score",
        "qa_outputs",
        "head",
        "heads",
        "cls",
        "predictions",
        "pre_classifier",
        "fc",
        "class_labels_classifier",
        "bbox_predictor",
        "text_projection",
        "visual_projection",
        "logit_scale",
    ]
)
"""Parts of names that belong to a head, whatever else the name says."""


class Layers:
    """The layers of a model, found in the names of its parameters."""

    def __init__(self, names: Iterable[str]) -> None:
        self._heights: dict[str, int] = {}
        for name in names:
            place = _place(name)
            if place is not None:
                stack, number = place
                self._heights[stack] = max(self._heights.get(stack, 0), number + 1)

    @property
    def count(self) -> int:
        """Layers of the deepest stack."""
        return max(self._heights.values(), default=0)

    def distance(self, name: str) -> int:
        """Layers above a parameter's own: 0 in the last layer, in the norm after it and in the head; `count` in the embeddings."""
        place = _place(name)
        if place is not None:
            stack, number = place
            return self._heights[stack] - 1 - number
        return self.count if is_below(name) else 0


def is_below(name: str) -> bool:
    """Whether a parameter lies below all layers: embeddings of tokens, positions or patches."""
    return not is_head(name) and _place(name) is None and any(word in name for word in _BELOW)


def is_stack(name: str) -> bool:
    """Whether the module of this name is a list of layers, and not one of experts within a layer."""
    place = _place(f"{name}.0")
    return place is not None and place[0] == name


def is_in_layer(name: str) -> bool:
    """Whether a parameter belongs to a numbered layer."""
    return _place(name) is not None


def _place(name: str) -> tuple[str, int] | None:
    """Stack and number of a layer; None outside of the layers."""
    match = _NUMBERED.match(name)
    if match is None or is_head(match["stack"]) or any(word in match["stack"] for word in _BELOW):
        return None
    return match["stack"], int(match["number"])


def is_head(name: str) -> bool:
    """Whether a name says that it belongs to a head."""
    return not _ABOVE.isdisjoint(name.split("."))
