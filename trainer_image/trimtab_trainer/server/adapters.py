"""Several LoRA adapters on one model in memory, each row of a batch with its own.

peft applies `adapter_names` layer by layer, but its `forward(adapter_names=...)` registers a hook on every layer at
every step: 15 to 20 ms of a step of 60 ms (SmolLM2-135M, one core). Here the hooks are registered once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils.other import ModulesToSaveWrapper
from safetensors import SafetensorError
from safetensors.torch import load_file

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError

NO_ADAPTER = "__base__"
"""peft's name for rows that use the base model alone."""
WEIGHTS_FILE = "adapter_model.safetensors"
_PLAIN = {
    "bias": "none",
    "use_dora": False,
    "layer_replication": None,
    "megatron_config": None,
    "alora_invocation_tokens": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "lora_bias": False,
    "use_qalora": False,
    "velora_config": None,
    "monteclora_config": None,
    "use_bdlora": None,
    "arrow_config": None,
    "kasa_config": None,
}
"""Settings that would change the shared base model, run other code, or cannot be mixed in one batch."""
_PLAIN_INITIALISATION = (True, False, "gaussian", "orthogonal", "eva")
"""Others (PiSSA, OLoRA, LoftQ, CorDA) rewrite the base model's weights when they are loaded."""


class Adapters:
    """The adapters of one model. Only the engine's thread may use it."""

    def __init__(self, model: Any, *, mixes: bool) -> None:
        """Begin without adapters.

        Args:
            model: the transformers model.
            mixes: rows of one batch may have different adapters; needs plain LoRA.
        """
        self.model = model
        self._mixes = mixes
        self._peft: Any = None
        self._names: list[str] = []
        self._hooks: list[Any] = []
        self._active = ""

    @property
    def loaded(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._peft.peft_config) if self._peft is not None else ()

    def load(self, key: str, directory: Path) -> None:
        """Add an adapter.

        Args:
            key: its name from now on, without dots.
            directory: verified files in peft's format.

        Raises:
            TrainerError: ModelInvalid, naming what does not fit; the other adapters are as before.
        """
        config = _checked_config(directory, mixes=self._mixes)
        config.base_model_name_or_path = self.model.name_or_path
        try:
            self._add(key, directory, config)
        except (ValueError, RuntimeError, KeyError, TypeError, OSError, SafetensorError) as error:
            self._forget(key)
            raise TrainerError(
                TrainerReason.MODEL_INVALID, f"The adapter does not fit the base model: {error}"
            ) from error
        self._register_hooks()

    def unload(self, key: str) -> None:
        """Remove an adapter and its memory."""
        self._forget(key)
        self._register_hooks()

    def choose_for_rows(self, keys: Sequence[str]) -> None:
        """The adapter of each row, or NO_ADAPTER, until the next call."""
        self._names[:] = keys

    def choose_for_all(self, key: str) -> None:
        """One adapter, or NO_ADAPTER, for whole batches until the next call."""
        if self._peft is None or key == self._active:
            return
        if key == NO_ADAPTER:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.base_model.set_adapter(key, inference_mode=True)
        self._active = key

    def _add(self, key: str, directory: Path, config: Any) -> None:
        if self._peft is None:
            self._peft = get_peft_model(self.model, config, adapter_name=key, low_cpu_mem_usage=True)
        else:
            self._peft.add_adapter(key, config, low_cpu_mem_usage=True)
        # Not `load_adapter`: it looks for a pickle where safetensors are missing.
        weights = load_file(directory / WEIGHTS_FILE, device=str(self.model.device))
        result = set_peft_model_state_dict(self._peft, weights, adapter_name=key, low_cpu_mem_usage=True)
        if result.unexpected_keys:
            raise ValueError(f"the base model has no place for {result.unexpected_keys[0]}")
        for name, parameter in self._peft.named_parameters():
            if parameter.is_meta:
                raise ValueError(f"its files lack {name.replace(f'.{key}', '')}")
        self._peft.eval()

    def _forget(self, key: str) -> None:
        if self._peft is not None and key in self._peft.peft_config:
            self._deactivate()
            if len(self._peft.peft_config) > 1:
                self._peft.delete_adapter(key)
            else:
                # peft cannot add an adapter where saved modules of deleted ones remain: back to the plain model.
                self._peft.unload()
                self._peft = None
        self._active = ""

    def _deactivate(self) -> None:
        """No adapter is peft's active one; its `set_adapter([])` for whole models refuses saved modules."""
        for module in self._peft.modules():
            if isinstance(module, LoraLayer | ModulesToSaveWrapper):
                module.set_adapter([], inference_mode=True)

    def _register_hooks(self) -> None:
        """Hand each layer the adapters of its rows, as peft's own forward does."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if not self._mixes or self._peft is None:
            return
        # A saved module that some adapters lack is bypassed for all rows while such an adapter is the active one.
        self._deactivate()
        for module in self._peft.modules():
            if isinstance(module, LoraLayer | ModulesToSaveWrapper):
                self._hooks.append(module.register_forward_pre_hook(self._give_names, with_kwargs=True))

    def _give_names(self, module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        names = self._names
        if isinstance(module, ModulesToSaveWrapper):
            # Unlike LoRA layers it does not accept adapters that it lacks.
            names = [name if name in module.modules_to_save else NO_ADAPTER for name in names]
        return args, {**kwargs, "adapter_names": names}


def _checked_config(directory: Path, *, mixes: bool) -> Any:
    if not (directory / WEIGHTS_FILE).is_file():
        raise TrainerError(TrainerReason.MODEL_INVALID, f"The adapter must contain {WEIGHTS_FILE}.")
    try:
        config = PeftConfig.from_pretrained(str(directory))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise TrainerError(TrainerReason.MODEL_INVALID, f"adapter_config.json cannot be read: {error}") from error
    if not isinstance(config, LoraConfig):
        raise TrainerError(
            TrainerReason.MODEL_INVALID, f"The server can load LoRA adapters; this is {config.peft_type}."
        )
    for name, plain in _PLAIN.items():
        given = getattr(config, name, plain)
        if given != plain and given and (mixes or name != "use_dora"):
            raise TrainerError(
                TrainerReason.MODEL_INVALID, f"`{name}` of the adapter must be {plain!r} here; got {given!r}."
            )
    if config.init_lora_weights not in _PLAIN_INITIALISATION:
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            f"`init_lora_weights: {config.init_lora_weights}` changes the base model; convert the adapter to plain LoRA.",
        )
    config.init_lora_weights = True
    config.inference_mode = True
    return config
