import pytest
from tests.support.manifests import changed, smallest

from trimtab_operator.api.v1alpha1 import StorageProfile
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedStorage
from trimtab_operator.validation.storage_profile.compose import check


@pytest.mark.parametrize(
    ("bundle", "reasons"),
    [
        pytest.param("", [], id="the system's authorities"),
        pytest.param("-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n", [], id="PEM"),
        pytest.param("LS0tLS1CRUdJTg==", ["SpecInvalid"], id="base64 of PEM"),
    ],
)
def test_ca_bundle(bundle: str, reasons: list[str]) -> None:
    profile = StorageProfile.parse(changed(smallest("StorageProfile"), {"spec.caBundle": bundle}))
    assert [problem.reason for problem in check(ObservedStorage(profile, None), settings=Settings())] == reasons
