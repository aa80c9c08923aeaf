import pytest
from tests.support.fault_proxy import Fault, FaultProxy, Request
from tests.support.object_store import make_run_config, make_store

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import StoreProbe
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.store.probe import probe_store

pytestmark = pytest.mark.usefixtures("fast_retries")


def conditional(request: Request) -> bool:
    return request.method == "PUT" and "if-none-match" in request.headers


def probe(store: ObjectStore) -> StoreProbe:
    result = probe_store(store, make_run_config(make_store("http://unused")))
    assert not list(store.list(""))
    return result


def flags(result: StoreProbe) -> str:
    kept = {
        "conditional": result.conditional_writes,
        "read": result.read_after_write,
        "list": result.list_after_write,
        "multipart": result.multipart,
    }
    return " ".join(name for name, value in kept.items() if value)


@pytest.mark.parametrize(
    ("fault", "kept", "says"),
    [
        pytest.param(
            Fault("error", conditional, status=501, code="NotImplemented"),
            "read list multipart",
            "does not know",
            id="not implemented",
        ),
        pytest.param(
            Fault("error", conditional, status=412, code="PreconditionFailed"),
            "read list multipart",
            "0 were accepted",
            id="refuses all",
        ),
        pytest.param(
            Fault("strip", conditional), "read list multipart", "16 were accepted", id="ignores the condition"
        ),
        pytest.param(
            Fault("flip", lambda request: request.method == "GET" and request.key.endswith("/read")),
            "list multipart",
            "older bytes",
            id="reads something else",
        ),
        pytest.param(
            Fault("error", lambda request: "uploads" in request.query, status=400, code="InvalidRequest"),
            "read list",
            "multipart upload failed",
            id="no multipart",
        ),
    ],
)
def test_what_a_store_does_not_keep(
    faulty_store: ObjectStore, faults: FaultProxy, fault: Fault, kept: str, says: str
) -> None:
    fault.hits = 0
    faults.add(fault)
    result = probe(faulty_store)
    assert says in result.message
    assert set(kept.split()) <= set(flags(result).split()) | {"conditional"}
    assert flags(result).split() != ["conditional", "read", "list", "multipart"]


def test_a_store_that_keeps_everything_but_perhaps_atomicity(store: ObjectStore) -> None:
    """moto checks the condition before it reads the body: it may accept several."""
    result = probe(store)
    assert set(flags(result).split()) >= {"read", "list", "multipart"}
    assert result.conditional_writes == (result.message == "")


def test_denied_access_is_an_error_not_a_result(faulty_store: ObjectStore, faults: FaultProxy) -> None:
    faults.add(Fault("error", lambda request: request.method == "PUT", status=403, code="AccessDenied"))
    with pytest.raises(TrainerError) as caught:
        probe(faulty_store)
    assert caught.value.reason == TrainerReason.STORAGE_ACCESS_DENIED
