"""Documentation that must not fall behind the code."""

from pathlib import Path

import pytest

from trimtab_operator.api.v1alpha1.reasons import Reason

PAGE = (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text()


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_explained(reason: Reason) -> None:
    assert f"`{reason.value}`" in PAGE
