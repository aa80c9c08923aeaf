"""The words for what a data set is expected to be, and by which of its columns results are compared."""

from typing import Annotated, Final, Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document

LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
DataSetName = Annotated[str, Field(max_length=24, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")]
SliceColumn = Annotated[str, Field(min_length=1, max_length=24, pattern=r"^[A-Za-z0-9_.@-]+$")]


class Languages(Document):
    """In which languages the texts should be. Short and mixed texts whose language cannot be told are let through."""

    expected: list[LanguageCode] = Field(min_length=1, max_length=32)
    """ISO 639 codes, for example `[en, de]`."""
    others: Literal["Count", "Drop"] = "Count"
    """Texts in another language are counted, with a warning; or left out of the training split too (and of what is held out from it)."""


class Slices(Document):
    """Groups of held-out examples that are measured by themselves, to see for whom a model works worse."""

    columns: list[SliceColumn] = Field(min_length=1, max_length=4)
    """Columns of the rows of the measured splits: one group for each value, `gender` or `region` for example. At most 32 values."""
    minimum_examples: int = Field(default=10, ge=1, le=1000000)
    """Groups with fewer examples are shown, and not compared: their numbers are chance."""


CONTINUAL: Final = "continual_"
"""Begins the names of what a new task did to earlier ones; they belong to no single split."""


def is_of_group(metric: str) -> bool:
    """Whether a metric is of a single group of examples: `test_accuracy[region=north]`."""
    return "[" in metric
