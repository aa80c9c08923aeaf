"""Which cluster and which store are used, and how a shell reaches them."""

import json
import os
import shutil
from pathlib import Path

import network
import store
from paths import IMAGES_ENV, KUBECONFIG, STATE
from progress import StepFailedError, output_of, succeeds

BIN = STATE / "bin"
_STORE_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "TRIMTAB_BUCKET",
    "TRIMTAB_PREFIX",
)


def users_cluster() -> str:
    """The user's own KUBECONFIG, or nothing; ours, exported by `make env`, does not count."""
    given = os.environ.get("KUBECONFIG", "")
    if not given or given == str(KUBECONFIG):
        return ""
    return given


def kind_is_usable() -> bool:
    """A container engine that answers, and kind: then there is no need to build a cluster from parts."""
    wanted = os.environ.get("TRIMTAB_CLUSTER", "")
    if wanted:
        return wanted == "kind"
    return all(map(shutil.which, ("docker", "kind", "kubectl", "helm"))) and succeeds(["docker", "info"])


def kind_gateway() -> str:
    """The host as seen from kind's containers, and from the host itself."""
    networks = json.loads(output_of(["docker", "network", "inspect", "kind"]))
    return str(next(config["Gateway"] for config in networks[0]["IPAM"]["Config"] if "." in config.get("Gateway", "")))


def users_store() -> bool:
    """Whether the store is the user's own. With a cluster of the user's own, whatever is set counts as that."""
    if not os.environ.get("AWS_ENDPOINT_URL"):
        return False
    return bool(users_cluster()) or not store.is_ours(
        os.environ["AWS_ENDPOINT_URL"], os.environ.get("AWS_ACCESS_KEY_ID")
    )


def tools_of_users_cluster() -> None:
    """With a cluster of the user's own nothing is installed: kubectl and helm must be there."""
    missing = [tool for tool in ("kubectl", "helm") if not ((BIN / tool).exists() or shutil.which(tool))]
    if missing:
        raise StepFailedError(
            f"With KUBECONFIG set, {' and '.join(missing)} must be on PATH: nothing is installed then."
        )


def link_programs(folders: list[tuple[Path, str]]) -> None:
    """One folder for PATH, whatever hash the programs are kept under."""
    BIN.mkdir(parents=True, exist_ok=True)
    for folder, program in folders:
        link = BIN / program
        if not (link.is_symlink() and link.readlink() == folder / program):
            link.unlink(missing_ok=True)
            link.symlink_to(folder / program)


def exports() -> dict[str, str]:
    """The variables of `make env`."""
    found = {"KUBECONFIG": users_cluster() or str(KUBECONFIG)}
    if users_store():
        missing = [name for name in _STORE_VARIABLES[:3] if not os.environ.get(name)]
        if missing:
            raise StepFailedError(f"AWS_ENDPOINT_URL is set: {', '.join(missing)} must be set too.")
        defaults = {"AWS_REGION": store.REGION, "TRIMTAB_BUCKET": store.BUCKET, "TRIMTAB_PREFIX": store.PREFIX}
        found |= {
            name: os.environ.get(name) or defaults[name]
            for name in _STORE_VARIABLES
            if os.environ.get(name) or name in defaults
        }
    elif users_cluster():
        raise StepFailedError(
            "With KUBECONFIG set, the S3 store must be yours too: set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and TRIMTAB_BUCKET. (A store on this machine might be out of your cluster's reach.)",
        )
    else:
        found |= store.environment(kind_gateway() if kind_is_usable() else network.choose_addresses().node)
    path = os.environ.get("PATH", "")
    found["PATH"] = path if str(BIN) in path.split(":") else f"{BIN}:{path}"
    return found


def users_images() -> dict[str, str]:
    """With a cluster of the user's own, the images come from the user's registry."""
    names = ("TRIMTAB_OPERATOR_IMAGE", "TRIMTAB_TRAINER_IMAGE")
    known = _written_images() | {name: os.environ[name] for name in names if os.environ.get(name)}
    missing = [name for name in names if name not in known]
    if missing:
        raise StepFailedError(
            f"With KUBECONFIG set, {' and '.join(missing)} must name images that your cluster can pull: build "
            "operator/Dockerfile and trainer_image/Dockerfile and push them to your registry.",
        )
    return known


def _written_images() -> dict[str, str]:
    if not IMAGES_ENV.exists():
        return {}
    return dict(line.split("=", 1) for line in IMAGES_ENV.read_text().splitlines() if "=" in line)
