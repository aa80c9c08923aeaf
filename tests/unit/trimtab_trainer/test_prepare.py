"""Which rows share a batch: like lengths only where a task always pads them."""

from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.training import make_job

from trimtab_trainer.prepare import make_plan


@pytest.mark.parametrize(
    ("task", "groups"),
    [({"causalLanguageModeling": {}}, False), ({"sequenceClassification": {"labels": ["a", "b"]}}, True)],
    ids=["rows one after the other", "padded rows"],
)
def test_like_lengths_share_a_batch_only_where_rows_are_padded(task: dict[str, Any], *, groups: bool) -> None:
    config = make_job(task=task, data={"train": [{"uri": "s3://data/train.jsonl"}], "packing": False})
    examples: Any = [SimpleNamespace(length=length, weight=1.0) for length in range(1, 101)]
    split: Any = SimpleNamespace(encoded=examples, examples=examples)
    plan = make_plan(config, {"train": split})
    assert plan.group_by_length is groups
