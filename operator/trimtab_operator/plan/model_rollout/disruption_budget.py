"""How many servers a drain may take away at once."""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.plan.model_rollout import children
from trimtab_operator.state import Manifest


def disruption_budgets(rollout: ModelRollout) -> tuple[Manifest, ...]:
    """The PodDisruptionBudget of several servers. Once made, it stays: with one replica it allows every eviction."""
    servers = rollout.spec.serving.servers
    return (_disruption_budget(rollout),) if servers is not None and servers.replicas > 1 else ()


def _disruption_budget(rollout: ModelRollout) -> Manifest:
    """`<rollout>-server`. It never blocks the drain of a single server's node for ever."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": children.metadata(rollout, names.server(rollout.metadata.name)),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": children.selector(rollout)},
            # A server that cannot become ready must not keep its node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
