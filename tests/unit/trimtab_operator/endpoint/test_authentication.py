"""Who may speak for a job: a table of tokens, pods and Jobs."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.manifests import smallest

from trimtab_operator.cluster.resources import Resource
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.endpoint.authentication import Authenticator
from trimtab_operator.endpoint.refusals import Refusal
from trimtab_operator.errors import NotFoundError, RetryableError
from trimtab_operator.state import Manifest

AUDIENCE = "trimtab.dev/status"


def controlled(kind: str, name: str, owner: Manifest | None = None, *, owner_kind: str = "") -> Manifest:
    metadata: Manifest = {"name": name, "namespace": "demo", "uid": f"uid-{name}", "resourceVersion": "5"}
    if owner is not None:
        controller = {
            "kind": owner_kind or owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
        }
        metadata["ownerReferences"] = [{**controller, "controller": True}]
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def fine_tune_job(name: str = "sample", attempts: int = 2) -> Manifest:
    job = smallest("FineTuneJob")
    job["metadata"] |= {"name": name, "uid": f"uid-{name}", "resourceVersion": "9"}
    job["status"] = {"attempts": [{"number": n, "jobName": f"{name}-a{n}"} for n in range(1, attempts + 1)]}
    return job


SAMPLE, OTHER = fine_tune_job(), fine_tune_job("other")
OLD, CURRENT = controlled("Job", "sample-a1", SAMPLE), controlled("Job", "sample-a2", SAMPLE)
STRAY = controlled("Job", "sample-x", SAMPLE)
OBJECTS = (
    SAMPLE,
    OTHER,
    OLD,
    CURRENT,
    STRAY,
    controlled("Job", "other-a2", OTHER),
    controlled("Pod", "current", CURRENT),
    controlled("Pod", "old", OLD),
    controlled("Pod", "stray", STRAY),
    controlled("Pod", "of-other", controlled("Job", "other-a2", OTHER)),
    controlled("Pod", "bare"),
    controlled("Pod", "of-set", controlled("ReplicaSet", "rs")),
)


def tone() -> Manifest:
    rollout = smallest("ModelRollout")
    rollout["metadata"] |= {"name": "tone", "uid": "uid-tone", "resourceVersion": "9"}
    return rollout


TONE = tone()
DEPLOYMENT = controlled("Deployment", "tone-server", TONE)
SERVERS = (
    TONE,
    DEPLOYMENT,
    controlled("Pod", "server", controlled("ReplicaSet", "tone-server-5f7")),
    controlled("Pod", "of-another", controlled("ReplicaSet", "mood-server-5f7")),
    controlled("Deployment", "tone-server-v2", TONE),
    controlled("Pod", "of-a-version", controlled("ReplicaSet", "tone-server-v2-5f7")),
)


class Reviewer:
    """An API server whose tokens say whom they are for: `<pod>` or `<pod>/<what is odd about it>`."""

    def __init__(self) -> None:
        self.reviews = 0
        self.away = False
        self.live: dict[tuple[str, str], Manifest] = {}

    async def create(self, manifest: Manifest) -> Manifest:
        self.reviews += 1
        if self.away:
            raise RetryableError("away")
        assert manifest["spec"]["audiences"] == [AUDIENCE]
        pod, _, odd = manifest["spec"]["token"].partition("/")
        extra: dict[str, Any] = {
            "authentication.kubernetes.io/pod-name": [pod],
            "authentication.kubernetes.io/pod-uid": [f"uid-{pod}"],
        }
        namespace = "elsewhere" if odd == "elsewhere" else "demo"
        user = {"username": f"system:serviceaccount:{namespace}:default", "extra": {} if odd == "unbound" else extra}
        if odd == "person":
            user["username"] = "jane"
        status = {"authenticated": True, "audiences": [AUDIENCE], "user": user}
        if odd == "audience":
            status["audiences"] = ["https://kubernetes.default.svc"]
        if odd == "expired":
            status = {"authenticated": False, "error": "token has expired"}
        return {"status": status}

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
        if (resource.kind, name) not in self.live:
            raise NotFoundError(f"{namespace}/{name}")
        return self.live[resource.kind, name]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def reviewer() -> Reviewer:
    return Reviewer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Store:
    store = Store()
    for body in OBJECTS:
        store.put(Stored.of(body))
    return store


@pytest.fixture
def authenticator(reviewer: Reviewer, store: Store, clock: Clock) -> Authenticator:
    return Authenticator(reviewer, store, clock=clock)


async def code_of(
    authenticator: Authenticator, authorization: str, name: str = "sample", namespace: str = "demo"
) -> tuple[int, str]:
    try:
        await authenticator.speaker(authorization, namespace=namespace, name=name)
    except Refusal as refusal:
        return refusal.code, str(refusal)
    return 200, ""


@pytest.mark.parametrize(
    ("authorization", "name", "code", "says"),
    [
        pytest.param("Bearer current", "sample", 200, "", id="the current attempt's pod"),
        pytest.param("bearer current", "sample", 200, "", id="the scheme's case does not matter"),
        pytest.param("", "sample", 401, "Authorization: Bearer", id="no token"),
        pytest.param("Basic current", "sample", 401, "Authorization: Bearer", id="another scheme"),
        pytest.param("Bearer ", "sample", 401, "Authorization: Bearer", id="an empty token"),
        pytest.param("Bearer current/expired", "sample", 401, "expired", id="expired"),
        pytest.param("Bearer current/audience", "sample", 401, AUDIENCE, id="a token for the API server"),
        pytest.param("Bearer current/unbound", "sample", 401, "not bound to a pod", id="a token of no pod"),
        pytest.param("Bearer current/person", "sample", 401, "not bound to a pod", id="a person"),
        pytest.param("Bearer current/elsewhere", "sample", 403, "namespace 'elsewhere'", id="another namespace"),
        pytest.param("Bearer current", "nobody", 404, "does not exist", id="no such job"),
        pytest.param("Bearer current", "other", 403, "does not belong", id="another job"),
        pytest.param("Bearer of-other", "sample", 403, "does not belong", id="another job's pod"),
        pytest.param("Bearer old", "sample", 409, "attempt 1 is over", id="a zombie of an earlier attempt"),
        pytest.param("Bearer stray", "sample", 403, "no attempt", id="a Job that is no attempt"),
        pytest.param("Bearer bare", "sample", 403, "not the pod of a Job", id="a pod of nobody"),
        pytest.param("Bearer of-set", "sample", 403, "not the pod of a Job", id="a pod of something else"),
        pytest.param("Bearer gone", "sample", 403, "no longer exists", id="a pod that is gone"),
    ],
)
async def test_who_may_speak(authenticator: Authenticator, authorization: str, name: str, code: int, says: str) -> None:
    found = await code_of(authenticator, authorization, name)

    assert found[0] == code
    assert says in found[1]


async def test_the_attempt_is_that_of_the_pod(authenticator: Authenticator) -> None:
    speaker = await authenticator.speaker("Bearer current", namespace="demo", name="sample")

    assert (speaker.attempt, speaker.job.uid) == (2, "uid-sample")


async def test_a_pod_that_the_watch_has_not_shown_yet_is_read_live(
    authenticator: Authenticator, reviewer: Reviewer, store: Store
) -> None:
    store.remove("uid-current", 100)
    assert (await code_of(authenticator, "Bearer current"))[0] == 403
    reviewer.live["Pod", "current"] = controlled("Pod", "current", CURRENT)

    assert (await code_of(authenticator, "Bearer current"))[0] == 200


async def test_a_new_pod_of_the_same_name_is_not_the_one_of_the_token(
    authenticator: Authenticator, reviewer: Reviewer, store: Store
) -> None:
    store.remove("uid-current", 100)
    impostor = controlled("Pod", "current", CURRENT)
    impostor["metadata"]["uid"] = "another"
    reviewer.live["Pod", "current"] = impostor

    assert (await code_of(authenticator, "Bearer current"))[0] == 403


@pytest.mark.parametrize(
    ("token", "seconds", "reviews"),
    [
        pytest.param("current", 59, 1, id="a good one is remembered"),
        pytest.param("current", 61, 2, id="for a minute"),
        pytest.param("current/expired", 9, 1, id="a bad one too"),
        pytest.param("current/expired", 11, 2, id="for ten seconds"),
    ],
)
async def test_reviews_are_remembered(
    authenticator: Authenticator, reviewer: Reviewer, clock: Clock, token: str, seconds: float, reviews: int
) -> None:
    await code_of(authenticator, f"Bearer {token}")
    clock.now += seconds
    await code_of(authenticator, f"Bearer {token}")

    assert reviewer.reviews == reviews


async def test_what_changes_after_the_review_counts_at_once(authenticator: Authenticator, store: Store) -> None:
    assert (await code_of(authenticator, "Bearer current"))[0] == 200
    newer = fine_tune_job(attempts=3)
    newer["metadata"]["resourceVersion"] = "10"
    store.put(Stored.of(newer))

    assert (await code_of(authenticator, "Bearer current"))[0] == 409


@pytest.mark.parametrize(
    ("requests", "pause", "code"),
    [
        pytest.param(20, 0.0, 200, id="a burst is fine"),
        pytest.param(21, 0.0, 429, id="a flood is not"),
        pytest.param(200, 0.25, 200, id="four a second for ever"),
    ],
)
async def test_one_token_cannot_flood(
    authenticator: Authenticator, clock: Clock, requests: int, pause: float, code: int
) -> None:
    for _ in range(requests):
        clock.now += pause
        last = await code_of(authenticator, "Bearer current")

    assert last[0] == code


async def test_made_up_tokens_cannot_flood_the_api_server(authenticator: Authenticator, reviewer: Reviewer) -> None:
    codes = [(await code_of(authenticator, f"Bearer current{n}/expired"))[0] for n in range(300)]

    assert reviewer.reviews <= 60
    assert codes[-1] == 429


async def test_an_api_server_that_is_away_is_no_verdict(authenticator: Authenticator, reviewer: Reviewer) -> None:
    reviewer.away = True
    assert (await code_of(authenticator, "Bearer current"))[0] == 503
    reviewer.away = False

    assert (await code_of(authenticator, "Bearer current"))[0] == 200


def test_every_answer_is_a_sentence() -> None:
    make: Callable[[int, str], Refusal] = Refusal
    assert str(make(401, "because")) == "because"


@pytest.mark.parametrize(
    ("token", "name", "code", "says"),
    [
        pytest.param("server", "tone", 200, "", id="a server of the rollout"),
        pytest.param("of-a-version", "tone", 200, "", id="a server of one version"),
        pytest.param("of-another", "tone", 403, "is no server", id="another rollout's server"),
        pytest.param("current", "tone", 403, "is no server", id="a trainer"),
        pytest.param("bare", "tone", 403, "is no server", id="a pod of nobody"),
        pytest.param("server", "mood", 404, "does not exist", id="no such rollout"),
        pytest.param("server/elsewhere", "tone", 403, "namespace 'elsewhere'", id="another namespace"),
        pytest.param("server/expired", "tone", 401, "expired", id="expired"),
    ],
)
async def test_who_may_speak_for_a_rollout(
    authenticator: Authenticator, store: Store, token: str, name: str, code: int, says: str
) -> None:
    for body in SERVERS:
        store.put(Stored.of(body))
    try:
        speaker = await authenticator.server(f"Bearer {token}", namespace="demo", name=name)
    except Refusal as refusal:
        found = (refusal.code, str(refusal))
    else:
        found = (200, "")
        assert (speaker.pod, speaker.rollout.uid) == (token, "uid-tone")
    assert found[0] == code
    assert says in found[1]


async def test_a_deployment_of_somebody_else_makes_no_servers(authenticator: Authenticator, store: Store) -> None:
    for body in (TONE, controlled("Deployment", "tone-server"), SERVERS[2]):
        store.put(Stored.of(body))
    with pytest.raises(Refusal, match="is no server"):
        await authenticator.server("Bearer server", namespace="demo", name="tone")
