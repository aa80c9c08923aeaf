"""What an HTTPRoute says: who answers, and whether its Gateways have taken it."""

from typing import Any

import pytest

from trimtab_operator.gateway_api import Manifest, Route

PUBLIC, INSIDE = {"name": "public", "namespace": "gateways", "sectionName": "https"}, {"name": "inside"}
NAMED_IN_FULL = INSIDE | {"namespace": "demo", "group": "gateway.networking.k8s.io", "kind": "Gateway"}


def says(parent: Manifest, generation: int = 3, **verdicts: str) -> Manifest:
    conditions = [
        {"type": kind, "status": status, "reason": "Because", "message": "so", "observedGeneration": generation}
        for kind, status in ({"Accepted": "True", "ResolvedRefs": "True"} | verdicts).items()
    ]
    return {"parentRef": parent, "controllerName": "example.com/gateway", "conditions": conditions}


def route(*told: Manifest, **spec: Any) -> Route:
    backends = [{"name": "one", "weight": 90}, {"name": "two", "weight": 0}, {"name": "three"}]
    whole = {"parentRefs": [PUBLIC, INSIDE], "rules": [{"backendRefs": backends}]} | spec
    metadata = {"name": "tone", "namespace": "demo", "generation": 3}
    return Route.parse({"metadata": metadata, "spec": whole, "status": {"parents": list(told)}})


@pytest.mark.parametrize(
    ("told", "is_followed", "is_refused", "trouble"),
    [
        pytest.param([], False, False, "", id="no controller has looked"),
        pytest.param([says(PUBLIC), says(INSIDE)], True, False, "", id="all have taken it"),
        pytest.param([says(PUBLIC), says(NAMED_IN_FULL)], True, False, "", id="a controller fills references in"),
        pytest.param([says(PUBLIC)], False, False, "", id="one has not looked"),
        pytest.param([says(PUBLIC), says(INSIDE, generation=2)], False, False, "", id="one knows an older route"),
        pytest.param(
            [says(PUBLIC), says(INSIDE | {"namespace": "elsewhere"})], False, False, "", id="a namesake's word"
        ),
        pytest.param(
            [says(PUBLIC), says(INSIDE, Accepted="False")],
            False,
            False,
            "Gateway 'inside' says Accepted=False: Because: so",
            id="one refuses it",
        ),
        pytest.param(
            [says(PUBLIC), says(INSIDE, generation=2, Accepted="False")],
            False,
            False,
            "",
            id="one refused an older route",
        ),
        pytest.param(
            [says(PUBLIC, Accepted="False"), says(INSIDE, Accepted="False")],
            False,
            True,
            "Gateway 'public' says Accepted=False: Because: so; Gateway 'inside' says Accepted=False: Because: so",
            id="all refuse it",
        ),
        pytest.param(
            [says(PUBLIC, ResolvedRefs="False"), says(INSIDE)],
            False,
            False,
            "Gateway 'public' says ResolvedRefs=False: Because: so",
            id="one misses a Service",
        ),
    ],
)
def test_what_gateways_say(told: list[Manifest], is_followed: bool, is_refused: bool, trouble: str) -> None:  # noqa: FBT001 - a case
    found = route(*told)
    assert (found.is_followed, found.is_refused, found.trouble) == (is_followed, is_refused, trouble)


def test_shares_are_by_service_and_one_without_a_word_has_gateway_apis_default() -> None:
    assert route().weights == {"one": 90, "two": 0, "three": 1}
