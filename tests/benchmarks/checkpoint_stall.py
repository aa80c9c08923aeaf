"""How long does a checkpoint keep training waiting?

    python -m tests.benchmarks.checkpoint_stall [--checkpoints 5] [--steps-between 20] [--rounds 3] [--output stall.json]

A loop that computes like LoRA training of a 135M-parameter model (30 layers, r = 16: 1,260 tensors, 63 MB with AdamW's moments)
on one thread saves in four ways against a real S3 server (versitygw on this machine, its CPU time included):

- `asynchronous`  CheckpointWriter.save: snapshot, upload and commit in the background
- `synchronous`   the same checkpoint, and the loop waits until it is committed
- `local files`   what Hugging Face's Trainer does: adapter as safetensors, optimizer by torch.save, to the local disk; no S3
- `local + S3`    the same, and the files are uploaded before training goes on

`stall` is how long the call keeps the loop waiting; `cost` is what a checkpoint adds to the run's time, slower steps during the
upload included: (time of the run - time of a run without checkpoints) / number of checkpoints.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# One thread computes, as where an accelerator does the work: cores for the upload are then free. Read when torch is imported.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

import torch
from safetensors.torch import save_file
from tests.support.object_store import make_run_config, make_store, write_credentials
from tests.support.versitygw import find_versitygw, versitygw

from trimtab_trainer.checkpoint import CheckpointWriter
from trimtab_trainer.store import ObjectStore

LAYERS, RANK, WIDTH, WIDE = 30, 16, 576, 1536
LINEAR_LAYERS = [(WIDTH, WIDTH)] * 4 + [(WIDTH, WIDE)] * 2 + [(WIDE, WIDTH)]
TOKENS = 16

State = dict[str, torch.Tensor]
Save = Callable[[State, int], float]


def make_state() -> State:
    """LoRA matrices of every linear layer, each with AdamW's two moments."""
    state = {}
    for layer in range(LAYERS):
        for module, (inputs, outputs) in enumerate(LINEAR_LAYERS):
            for matrix, shape in (("lora_A", (RANK, inputs)), ("lora_B", (outputs, RANK))):
                for kind in ("weights", "exp_avg", "exp_avg_sq"):
                    state[f"{kind}/layers.{layer}.{module}.{matrix}"] = torch.randn(shape)
    return state


class TrainingLike:
    """Steps that multiply like a forward and backward pass, and then change every tensor of the state."""

    def __init__(self) -> None:
        self.state = make_state()
        self._weights = [torch.randn(inputs, outputs) / inputs**0.5 for inputs, outputs in LINEAR_LAYERS]
        self._tokens = {width: torch.randn(TOKENS, width) for width in (WIDTH, WIDE)}

    def step(self) -> None:
        """One optimizer step."""
        for _ in range(LAYERS):
            for weight in self._weights:
                self._tokens[weight.shape[0]] @ weight
        torch._foreach_mul_(list(self.state.values()), 1.0001)


def run(
    save: Save | None, *, checkpoints: int, steps_between: int, wait: Callable[[], None]
) -> tuple[float, list[float], list[float]]:
    """Seconds of the whole run, of each stall, and of each step."""
    training = TrainingLike()
    for _ in range(3):
        training.step()
    stalls, steps = [], []
    started = time.perf_counter()
    for number in range(1, checkpoints + 1):
        for _ in range(steps_between):
            begun = time.perf_counter()
            training.step()
            steps.append(time.perf_counter() - begun)
        if save is not None:
            begun = time.perf_counter()
            save(training.state, number)
            stalls.append(time.perf_counter() - begun)
    for _ in range(steps_between):
        training.step()
    wait()
    return time.perf_counter() - started, stalls, steps


def save_like_the_trainer(directory: Path, upload: ObjectStore | None) -> Save:
    """Adapter and optimizer into files of their own, as `Trainer._save_checkpoint` does."""

    def save(state: State, number: int) -> float:
        folder = directory / f"checkpoint-{number}"
        folder.mkdir(parents=True)
        save_file(
            {name: tensor for name, tensor in state.items() if name.startswith("weights/")},
            folder / "adapter_model.safetensors",
        )
        torch.save(
            {name: tensor for name, tensor in state.items() if not name.startswith("weights/")}, folder / "optimizer.pt"
        )
        (folder / "trainer_state.json").write_text(json.dumps({"step": number}))
        if upload is not None:
            for path in sorted(folder.iterdir()):
                upload.upload_file(path, f"trainer/{number}/{path.name}")
        return 0.0

    return save


def save_with(writer: CheckpointWriter, *, wait: bool) -> Save:
    """Our own checkpoint, waited for or not."""

    def save(state: State, number: int) -> float:
        stall = writer.save(state, {"step": number}, step=number, metrics={"eval_loss": 1.0 / number})
        if wait:
            writer.wait()
        return stall

    return save


def measure(store: ObjectStore, directory: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Every way of saving, `--rounds` times in turn; medians over all rounds."""
    sizes = {"checkpoints": options.checkpoints, "steps_between": options.steps_between}
    results: dict[str, dict[str, list[float]]] = {}
    for number in range(options.rounds):

        def writer(attempt: int, number: int = number) -> CheckpointWriter:
            job = {"job": {"uid": f"round-{number}-{attempt}"}}
            return CheckpointWriter(store, make_run_config(make_store(""), changes=job), parent=None)

        asynchronous, synchronous = writer(1), writer(2)
        local, uploaded = (
            save_like_the_trainer(directory / f"{number}-{name}", to) for name, to in (("a", None), ("b", store))
        )
        ways: dict[str, tuple[Save | None, Callable[[], None]]] = {
            "no checkpoints": (None, lambda: None),
            "asynchronous": (save_with(asynchronous, wait=False), asynchronous.wait),
            "synchronous": (save_with(synchronous, wait=True), synchronous.wait),
            "local files": (local, lambda: None),
            "local + S3": (uploaded, lambda: None),
        }
        for name, (save, wait) in ways.items():
            total, stalls, steps = run(save, wait=wait, **sizes)
            print(f"  round {number + 1}/{options.rounds}  {name:<16} {total:6.1f} s", flush=True)
            way = results.setdefault(name, {"totals": [], "stalls": [], "steps": []})
            way["totals"].append(total)
            way["stalls"] += stalls
            way["steps"] += steps
        for done in (asynchronous, synchronous):
            done.close()
    return {name: summarize(way, results["no checkpoints"], options.checkpoints) for name, way in results.items()}


def summarize(way: dict[str, list[float]], without: dict[str, list[float]], checkpoints: int) -> dict[str, float]:
    """Milliseconds."""
    stalls = sorted(way["stalls"]) or [0.0]
    added = [total - plain for total, plain in zip(way["totals"], without["totals"], strict=True)]
    return {
        "stall_median_ms": 1000 * statistics.median(stalls),
        "stall_largest_ms": 1000 * stalls[-1],
        "cost_median_ms": 1000 * statistics.median(added) / checkpoints,
        "step_median_ms": 1000 * statistics.median(way["steps"]),
    }


def print_table(results: dict[str, dict[str, float]]) -> None:
    """What a person wants to see."""
    base = results["asynchronous"]["stall_median_ms"]
    print(f"\n{'':<16}{'stall, median':>15}{'largest':>11}{'ratio':>8}{'cost':>12}{'step':>10}")
    for name, row in results.items():
        ratio = f"{row['stall_median_ms'] / base:.1f}x" if row["stall_median_ms"] else ""
        print(
            f"{name:<16}{row['stall_median_ms']:>12.1f} ms{row['stall_largest_ms']:>8.0f} ms{ratio:>8}"
            f"{row['cost_median_ms']:>9.0f} ms{row['step_median_ms']:>7.0f} ms"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--steps-between", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    binary = find_versitygw()
    if binary is None:
        parser.error("versitygw is missing: run `make up` once, or set TRIMTAB_VERSITYGW")
    state = make_state()
    megabytes = sum(tensor.nbytes for tensor in state.values()) / 1e6
    print(
        f"{len(state)} tensors, {megabytes:.0f} MB, {os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(prefix="trimtab-stall-") as name:
        directory = Path(name)
        with versitygw(directory / "s3", binary) as endpoint:
            credentials = write_credentials(directory / "credentials")
            with ObjectStore.open(make_store(endpoint), credentials=credentials) as store:
                results = measure(store, directory, options)
    print_table(results)
    if options.output:
        about = {"tensors": len(state), "megabytes": megabytes, "cores": os.cpu_count(), "machine": platform.machine()}
        about |= {"torch": torch.__version__, "load": os.getloadavg()[0], "steps_between": options.steps_between}
        options.output.write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
