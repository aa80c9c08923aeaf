"""What computed: versions and processor, for provenance and report."""

import platform
from pathlib import Path

import peft
import torch
import transformers


def software_versions() -> dict[str, str]:
    """What computed this."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "threads": str(torch.get_num_threads()),
        "machine": platform.machine(),
        "processor": processor_name(),
    }


def processor_name() -> str:
    """What computed: the same seed gives the same losses on the same type of machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
