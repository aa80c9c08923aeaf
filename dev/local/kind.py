"""Where docker and kind are: the cluster is kind's, the images are docker's, the store runs beside them."""

from pathlib import Path

import binaries
import environment
import processes
import store
from paths import KUBECONFIG, NAME, REPOSITORY, STATE
from progress import output_of, run, step


def up() -> None:
    """Make the cluster unless it exists; start the store on kind's gateway address."""
    STATE.mkdir(parents=True, exist_ok=True)
    if NAME not in output_of(["kind", "get", "clusters"], check=False).split():
        with step("Creating a kind cluster", "40-90 s"):
            run(
                ["kind", "create", "cluster", "--name", NAME, "--wait", "120s", "--kubeconfig", KUBECONFIG],
                log="kind",
            )
    run(["kind", "export", "kubeconfig", "--name", NAME, "--kubeconfig", KUBECONFIG], log="kind")
    if not environment.users_store():
        store.up(environment.kind_gateway(), binaries.object_store(), wrap=_on_the_host)


def _on_the_host(*command: str | Path) -> list[str | Path]:
    return list(command)


def down() -> None:
    """Delete the cluster and stop the store."""
    run(["kind", "delete", "cluster", "--name", NAME, "--kubeconfig", KUBECONFIG], log="kind")
    for name in processes.recorded():
        processes.stop(name)


def images() -> dict[str, str]:
    """Build with docker and load into kind; docker's own cache decides what is new."""
    built = {}
    for variable, name, folder, torch in (
        ("TRIMTAB_OPERATOR_IMAGE", "trimtab-operator", "operator", ""),
        ("TRIMTAB_TRAINER_IMAGE", "trimtab-trainer", "trainer_image", "torch"),
    ):
        with step(f"Building {name} with docker", "1-10 min the first time"):
            file = STATE / f"{name}.id"
            run(
                [
                    "docker",
                    "build",
                    "--iidfile",
                    file,
                    "--file",
                    f"{folder}/Dockerfile",
                    "--build-arg",
                    f"TORCH={torch}",
                    ".",
                ],
                log="images",
                cwd=REPOSITORY,
            )
            tag = f"localhost/{name}:{file.read_text().strip().removeprefix('sha256:')[:12]}"
            run(["docker", "tag", file.read_text().strip(), tag], log="images")
            run(["kind", "load", "docker-image", "--name", NAME, tag], log="images")
        built[variable] = tag
    return built
