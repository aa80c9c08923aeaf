from typing import Any

import pytest
from tests.support.manifests import changed, smallest

from trimtab_operator.api.v1alpha1 import TrainingProfile
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedProfile
from trimtab_operator.validation.training_profile.compose import check


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({}, [], id="empty"),
        pytest.param(
            {"spec.resources": {"requests": {"cpu": "500m", "memory": 2}, "limits": {"cpu": 1, "memory": "2Gi"}}},
            [],
            id="requests fit",
        ),
        pytest.param(
            {"spec.resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1000m"}}},
            [],
            id="the same, spelled differently",
        ),
        pytest.param(
            {"spec.serverResources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "2G"}}},
            ["spec.serverResources.requests['memory'] is 2Gi, but must be at most the limit, 2G."],
            id="request above limit",
        ),
        pytest.param(
            {"spec.resources": {"limits": {"cpu": "two"}}},
            ["spec.resources.limits['cpu']: 'two' is not a quantity; write for example 500m, 2 or 4Gi."],
            id="no quantity",
        ),
        pytest.param(
            {"spec.scratchSize": "much"},
            ["spec.scratchSize: 'much' is not a quantity; write for example 500m, 2 or 4Gi."],
            id="scratch",
        ),
    ],
)
def test_check(changes: dict[str, Any], says: list[str]) -> None:
    profile = TrainingProfile.parse(changed(smallest("TrainingProfile"), changes))
    problems = check(ObservedProfile(profile), settings=Settings())
    assert [problem.message for problem in problems] == says
