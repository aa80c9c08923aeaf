"""One trunk with several linear heads, saved so that plain libraries load it: the trunk by `AutoModel`, heads beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from trimtab_trainer.weight_files import load_weights

HEADS_FILE = "heads.safetensors"


@dataclass(frozen=True)
class HeadShape:
    """What a head makes of the trunk's states."""

    outputs: int
    of_whole_text: bool
    """It reads the mean over the tokens; otherwise every token."""


class MultiTaskModel(PreTrainedModel):
    """The trunk's last states go to the head that is asked for."""

    base_model_prefix = "trunk"
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, trunk: Any, heads: Mapping[str, HeadShape]) -> None:
        super().__init__(trunk.config)
        self.trunk = trunk
        self.shapes = dict(heads)
        width = trunk.config.get_text_config().hidden_size
        self.heads = nn.ModuleDict({f"{name}_head": nn.Linear(width, shape.outputs) for name, shape in heads.items()})
        self.all_tied_weights_keys: dict[str, str] = {}

    @classmethod
    def from_pretrained(cls, directory: Path, *, heads: Mapping[str, HeadShape], **options: Any) -> Any:
        """The model, and which weights the files did not have; heads of an earlier version are kept where they fit."""
        try:  # the heads read tokens: a pooler would be trained for nothing
            trunk, info = load_weights(AutoModel, directory, add_pooling_layer=False, **options)
        except TypeError:
            trunk, info = load_weights(AutoModel, directory, **options)
        model = cls(trunk, heads)
        saved = load_file(directory / HEADS_FILE) if (directory / HEADS_FILE).is_file() else {}
        new = []
        for name, parameter in model.heads.named_parameters():
            if name in saved and saved[name].shape == parameter.shape:
                with torch.no_grad():
                    parameter.copy_(saved[name])
            else:
                new.append(f"heads.{name}")
        missing = [f"trunk.{name}" for name in info["missing_keys"]]
        return model, {"missing_keys": [*missing, *new], "mismatched_keys": ()}

    def forward(self, head: str, input_ids: Tensor, attention_mask: Tensor, **inputs: Any) -> SimpleNamespace:
        """The logits of one head: [rows, outputs] of whole texts, else [rows, tokens, outputs]; spans have two outputs."""
        states = self.trunk(input_ids=input_ids, attention_mask=attention_mask, **inputs).last_hidden_state
        if self.shapes[head].of_whole_text:
            mask = attention_mask[..., None].to(states.dtype)
            states = (states * mask).sum(1) / mask.sum(1)
        logits = self.heads[f"{head}_head"](states)
        return SimpleNamespace(logits=logits, start_logits=logits[..., 0], end_logits=logits[..., -1])

    def get_input_embeddings(self) -> Any:
        """The trunk's."""
        return self.trunk.get_input_embeddings()

    def get_output_embeddings(self) -> None:
        """There are none."""

    def save_pretrained(self, directory: Path, **options: Any) -> None:
        """The trunk as it is loaded by `AutoModel`, and the heads in a file of their own."""
        self.trunk.save_pretrained(directory, **options)
        heads = {name: value.detach().contiguous() for name, value in self.heads.state_dict().items()}
        save_file(heads, Path(directory) / HEADS_FILE, metadata={"format": "pt"})
