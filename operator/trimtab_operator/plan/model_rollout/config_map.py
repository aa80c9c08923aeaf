"""What servers read when they start: one ServerConfig for each kind of server that may be there."""

import json
from collections.abc import Mapping

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.plan.model_rollout import children
from trimtab_operator.settings import Settings
from trimtab_operator.state import Manifest
from trimtab_trainer.contract.run_config import ServerConfig


def config_map(rollout: ModelRollout, configs: Mapping[str, ServerConfig], *, settings: Settings) -> Manifest:
    """The ConfigMap `<rollout>-server`. A pod mounts the one key that it was made for: a new base model never reaches old servers."""
    data = {
        f"{key}.json": json.dumps(config.to_sparse_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for key, config in configs.items()
    }
    if settings.status_ca:
        data["ca.crt"] = settings.status_ca
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": children.metadata(rollout, names.server(rollout.metadata.name)),
        "data": data,
    }
