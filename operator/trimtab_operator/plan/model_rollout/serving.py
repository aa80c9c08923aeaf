"""What the servers are told, from the stored status: never more than was recorded."""

from collections.abc import Sequence

from trimtab_operator.plan.model_rollout import steps
from trimtab_operator.plan.model_rollout.server_config import config_key, server_config
from trimtab_operator.state import ObservedRollout, Problem, ServerSetting, fit_on_one_server
from trimtab_trainer.contract.run_config import ServerConfig


def servers_of(observed: ObservedRollout, problems: Sequence[Problem]) -> ServerSetting | None:
    """What the Deployment is made for."""
    stable, wanted = observed.stable, observed.wanted
    if stable is None:
        return None if problems else observed.wanted_setting
    if problems or wanted is None or fit_on_one_server(stable, wanted) or _is_kept_out(observed):
        return observed.stable_setting or (None if problems else observed.wanted_setting)
    return observed.wanted_setting


def configs(observed: ObservedRollout, problems: Sequence[Problem]) -> dict[str, ServerConfig]:
    """By key; the first one is that of the planned Deployment. Others are of servers that it takes the place of."""
    setting, rollout = servers_of(observed, problems), observed.rollout
    if setting is None:
        return {}
    stable, revision = observed.stable, rollout.status.routing.revision
    if stable is None or not fit_on_one_server(stable, setting.version):
        alone = [(setting.version, steps.FULL)]
        told = [server_config(rollout, setting, alone, revision=revision)]
        if stable is not None and observed.stable_setting is not None:
            told.append(server_config(rollout, observed.stable_setting, [(stable, steps.FULL)], revision=revision))
    else:
        routed = [
            (version, each.weight)
            for each in rollout.status.routing.versions
            if (version := observed.version(each.version)) is not None and fit_on_one_server(version, setting.version)
        ]
        told = [server_config(rollout, setting, routed or [(stable, steps.FULL)], revision=revision)]
    return {config_key(config): config for config in told}


def _is_kept_out(observed: ObservedRollout) -> bool:
    """The wanted version was rolled back, or must not come."""
    spec, canary = observed.rollout.spec, observed.rollout.status.canary
    return spec.abort or (canary is not None and canary.version == spec.version and canary.rollback is not None)
