"""The commands behind the Makefile."""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

import binaries
import checks
import environment
import image_import
import kind
import locks
import packages
import processes
import status
from paths import CACHE, IMAGES_ENV, write
from progress import StepFailedError, say, side_by_side

import cluster
import images


def up() -> None:
    """Start the cluster and the store, unless the user has their own."""
    if own := environment.users_cluster():
        environment.tools_of_users_cluster()
        environment.exports()  # complains about a store that is missing
        say(f"Using the cluster of KUBECONFIG={own}; nothing is started on this machine.")
    elif environment.kind_is_usable():
        kind.up()
    else:
        cluster.up()


def down() -> None:
    """Stop what `up` started."""
    if environment.users_cluster():
        say("The cluster of KUBECONFIG is yours: nothing to stop.")
    elif environment.kind_is_usable():
        kind.down()
    else:
        cluster.down()


def env() -> None:
    """Print shell exports."""
    for name, value in environment.exports().items():
        print(f"export {name}={shlex.quote(value)}")


def build_images() -> None:
    """Build both images and hand them to the cluster."""
    if environment.users_cluster():
        references = environment.users_images()
    elif environment.kind_is_usable():
        references = kind.images()
    else:
        references = {
            "TRIMTAB_OPERATOR_IMAGE": images.OPERATOR.ensure(),
            "TRIMTAB_TRAINER_IMAGE": images.TRAINER.ensure(),
        }
        if processes.running("containerd"):
            for name in references.values():
                image_import.load(name)
        else:
            say("The cluster is down: the images are built, `make up images` imports them.")
    write(IMAGES_ENV, "".join(f"{name}={value}\n" for name, value in references.items()))
    for name, value in references.items():
        say(f"   {name}={value}")
    say(f"   (written to {IMAGES_ENV})")


def vllm_stand_in() -> None:
    """Print the image that takes vLLM's place in end-to-end tests, built and in the cluster."""
    name = images.VLLM_STAND_IN.ensure()
    image_import.load(name)
    print(name)


def setup() -> None:
    """What every other command needs on this machine."""
    CACHE.mkdir(parents=True, exist_ok=True)
    packages.ensure_venv()


def prepare() -> None:
    """Compile and build side by side what a fresh machine lacks: one waits for the processor, the other for downloads."""
    setup()
    if environment.users_cluster() or environment.kind_is_usable():
        return
    packages.ensure_cluster_tools()
    packages.ensure_image_tools()
    side_by_side(cluster.prepare, _build_locally)


def _build_locally() -> None:
    images.OPERATOR.ensure()
    images.TRAINER.ensure()


def kstatus() -> None:
    """Print the path of the kstatus program, compiled where it is not there yet."""
    print(binaries.kstatus())


def kubernetes() -> None:
    """Print the folder of Kubernetes' programs, compiled where they are not there yet; your own with KUBECONFIG."""
    if environment.users_cluster():
        environment.tools_of_users_cluster()
        print(Path(shutil.which("kubectl") or environment.BIN / "kubectl").parent)
    else:
        packages.ensure_cluster_tools()
        print(binaries.kubernetes())


def prometheus() -> None:
    """Print the path of a Prometheus for tests, fetched where it is not there yet."""
    print(shutil.which("prometheus") or packages.ensure_prometheus())


def model_signing() -> None:
    """Print the path of OpenSSF's model_signing for tests, installed where it is not there yet."""
    print(packages.ensure_model_signing())


COMMANDS = {
    "kubernetes": kubernetes,
    "kstatus": kstatus,
    "prometheus": prometheus,
    "model-signing": model_signing,
    "up": up,
    "down": down,
    "env": env,
    "images": build_images,
    "setup": setup,
    "vllm-stand-in": vllm_stand_in,
    "prepare": prepare,
    "status": status.show,
    "logs": status.logs,
    "lock": locks.write_locks,
    "lock-check": locks.check,
    "helm-lint": checks.helm_lint,
    "manifests": checks.manifests,
}


def main() -> int:
    """Run one command; a failure is told in one piece, without a stack trace."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=sorted(COMMANDS))
    command = parser.parse_args().command
    try:
        COMMANDS[command]()
    except StepFailedError as error:
        print(f"\n{command} failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
