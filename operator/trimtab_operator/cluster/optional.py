"""Kinds that a cluster may lack: read by name when an object is looked at, not watched, so that nothing breaks where they are missing."""

from dataclasses import dataclass

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.resources import resource_of
from trimtab_operator.errors import NotFoundError, RejectedError
from trimtab_operator.state import Manifest, Problem


@dataclass(frozen=True, slots=True)
class OptionalKind:
    """One of them, and what an administrator does so that rollouts can use it."""

    kind: str
    install: str
    """What brings it."""
    value: str
    """The chart's value that lets the operator read it."""
    not_installed: Reason
    not_permitted: Reason

    async def read(self, client: Client, namespace: str, name: str) -> Manifest | Problem | None:
        """The object; None where there is none of that name, a Problem where there can be none.

        Raises:
            RetryableError: the API server does not answer.
        """
        resource = resource_of(self.kind)
        try:
            return await client.get(resource, namespace, name)
        except NotFoundError:
            if await client.serves(resource):
                return None
            message = (
                f"This cluster has no {self.kind}s ({resource.api_version}): have an administrator install {self.install}; "
                "the rollout goes on by itself then."
            )
            return Problem(self.not_installed, message, who="platform")
        except RejectedError as error:
            message = f"The operator may not read {self.kind}s ({error}): have an administrator set {self.value} in the chart's values."
            return Problem(self.not_permitted, message, who="platform")
