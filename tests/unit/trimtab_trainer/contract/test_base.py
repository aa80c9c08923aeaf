"""Documents between two releases: what the later one adds does not trouble the earlier one while it is off."""

from typing import Any

import pytest
from pydantic import Field, ValidationError

from trimtab_trainer.contract.base import Document, OneOf


class Settings(Document):
    """Of a member of the union."""

    strength: float = 0.0


class Flavour(OneOf):
    """A union."""

    plain: Settings | None = None
    spicy: Settings | None = None


class OldSource(Document):
    """A part of a list."""

    uri: str
    columns: dict[str, str] = Field(default_factory=dict)


class OldRun(Document):
    """As an earlier release knows it."""

    sources: list[OldSource]
    flavour: Flavour = Flavour(spicy=Settings())
    rate: float = 0.5
    seed: int = 42


class NewSource(OldSource):
    """With a field more."""

    templates: list[str] = Field(default_factory=list)


class NewRun(Document):
    """As this release knows it."""

    sources: list[NewSource]
    flavour: Flavour = Flavour(spicy=Settings())
    rate: float = 0.5
    seed: int = 42
    smoothing: float = 0.0
    is_loud: bool = False
    label: str = ""
    limit: int | None = None


def run(**changes: Any) -> NewRun:
    return NewRun.model_validate({"sources": [{"uri": "s3://a"}]} | changes)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nothing said"),
        pytest.param({"rate": 0}, id="what is on by default is off"),
        pytest.param({"sources": [{"uri": "", "columns": {"text": ""}}]}, id="empty words that somebody said"),
        pytest.param({"flavour": {"spicy": {"strength": 0}}}, id="a member of a union without settings"),
    ],
)
def test_an_earlier_release_reads_the_same(changes: dict[str, Any]) -> None:
    said = run(**changes)
    assert OldRun.model_validate(said.to_sparse_json()) == OldRun.model_validate(said.to_json(), extra="ignore")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"isLoud": True}, id="on"),
        pytest.param({"smoothing": 0.1}, id="a number"),
        pytest.param({"sources": [{"uri": "s3://a", "templates": ["x"]}]}, id="in a part of a list"),
    ],
)
def test_what_an_earlier_release_cannot_do_it_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        OldRun.model_validate(run(**changes).to_sparse_json())


def test_what_is_on_by_default_is_said_so_that_another_default_changes_nothing_of_an_old_job() -> None:
    assert run().to_sparse_json() == {"sources": [{"uri": "s3://a"}], "flavour": {"spicy": {}}, "rate": 0.5, "seed": 42}
