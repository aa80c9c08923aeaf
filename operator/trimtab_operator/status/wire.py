"""The status as the API server stores it."""

from trimtab_operator.api.common import StatusModel
from trimtab_operator.state import Manifest


def to_wire(status: StatusModel) -> Manifest:
    """What is set, and nothing else: reading it back gives the same value, so that writing it again changes nothing."""
    wire = status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return {key: value for key, value in wire.items() if value not in ({}, [], "")}
