"""vLLM beside the router: its command, its probes, and an end that waits for the router's last answer."""

from collections.abc import Sequence

from trimtab_operator import names
from trimtab_operator.api.v1alpha1.model_rollout import VllmServing
from trimtab_operator.api.v1alpha1.training_profile import TrainingProfileSpec
from trimtab_operator.plan import pods, volumes
from trimtab_operator.state import Manifest
from trimtab_trainer.contract import mounts

BASE_NAME = "base"
"""vLLM's name of what it was started with: the base model, which requests may use too, or a whole one."""
_LORAS = 2
"""Adapters in one batch: the stable version's and the canary's."""
_CPU_LORAS = 4
"""Adapters kept in memory: those two, one that drains, and one that takes its place."""
# The router makes the link when every byte of the model is verified.
_START = 'trap "exit 0" TERM; until [ -e "$0" ]; do sleep 1; done; exec "$@"'
_HEALTH = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{mounts.VLLM_PORT}/health', timeout=15)"


def add_vllm(pod: Manifest, vllm: VllmServing, profile: TrainingProfileSpec, *, base_models: Sequence[str]) -> Manifest:
    """The router's pod with vLLM in it. Who can reach vLLM's port can have it load adapters: it listens on loopback."""
    container = pods.Container(
        name=names.VLLM_CONTAINER,
        image=vllm.image,
        command=("/bin/sh", "-c", _START, str(mounts.VLLM_BASE_MODEL / "config.json"), *_serve(vllm)),
        environment={
            **({} if vllm.gateway else {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}),
            "VLLM_NO_USAGE_STATS": "1",
            # What it serves is on the disk, verified: nothing comes from anywhere else.
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
        },
        resources=vllm.resources,
        accelerators=vllm.accelerators,
        probes=_probes(),
    )
    chosen = [
        volumes.models_volume(profile.scratch_size, read_only=True),
        volumes.scratch_volume(profile.scratch_size),
        volumes.shared_memory_volume(),
        # The link to a base model in a claim leads there.
        *volumes.claim_volumes(base_models),
    ]
    return pods.add_container(pod, profile, container, volumes=chosen)


def _serve(vllm: VllmServing) -> list[str]:
    split = [f"--tensor-parallel-size={vllm.accelerators}"] if vllm.accelerators > 1 else []
    adapters = [
        "--enable-lora",
        f"--max-lora-rank={vllm.max_lora_rank}",
        f"--max-loras={_LORAS}",
        f"--max-cpu-loras={_CPU_LORAS}",
    ]
    return [
        "vllm",
        "serve",
        str(mounts.VLLM_BASE_MODEL),
        f"--served-model-name={BASE_NAME}",
        "--host=127.0.0.1",
        f"--port={mounts.VLLM_PORT}",
        *([] if vllm.gateway else adapters),
        *split,
        *vllm.arguments,
    ]


def _probes() -> dict[str, Manifest]:
    """By a program in the container: the kubelet does not reach loopback. Whether requests are answered, the router knows."""
    healthy = {"exec": {"command": ["python3", "-c", _HEALTH]}, "timeoutSeconds": 20}
    drained = f"until [ -e {mounts.VLLM_DRAINED_FILE} ]; do sleep 1; done"
    return {
        # An hour for the base model to arrive, to be loaded and compiled: a restart would begin anew.
        "startupProbe": {**healthy, "periodSeconds": 10, "failureThreshold": 360},
        "livenessProbe": {**healthy, "periodSeconds": 30, "failureThreshold": 4},
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", drained]}}},
    }
