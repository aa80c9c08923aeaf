"""The methods by their names in `spec.method`."""

from collections.abc import Mapping

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.methods.full import FullFineTuning
from trimtab_trainer.methods.head_only import HeadOnly
from trimtab_trainer.methods.lora import LowRankAdapters
from trimtab_trainer.methods.method import Method
from trimtab_trainer.methods.own_methods import BottleneckAdapters, RepresentationFineTuning
from trimtab_trainer.methods.partial import PartialFineTuning
from trimtab_trainer.methods.prefix_tuning import VirtualTokens
from trimtab_trainer.methods.qlora import QuantizedLowRankAdapters

METHODS: Mapping[str, Method] = {
    "lora": LowRankAdapters(),
    "full": FullFineTuning(),
    "headOnly": HeadOnly(),
    "partial": PartialFineTuning(),
    "qlora": QuantizedLowRankAdapters(),
    "adapter": BottleneckAdapters(),
    "prefixTuning": VirtualTokens(),
    "reft": RepresentationFineTuning(),
}


def method_of(config: RunConfig) -> Method:
    """What `spec.method` names."""
    return METHODS[config.method.kind]
