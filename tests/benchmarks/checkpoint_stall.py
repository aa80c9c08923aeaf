"""How long does a checkpoint keep training waiting?

    python -m tests.benchmarks.checkpoint_stall [--rounds 5] [--checkpoints 2] [--steps-between 40] [--output stall.json]

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
from dataclasses import dataclass, field
from pathlib import Path

# One thread computes, as where an accelerator does the work: cores for the upload are then free. Read when torch is imported.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

import torch
from safetensors.torch import save_file
from tests.support.object_store import make_run_config, make_store, write_credentials
from tests.support.versitygw import find_versitygw, versitygw

from trimtab_trainer.checkpoint.writer import CheckpointWriter
from trimtab_trainer.store.object_store import ObjectStore

LAYERS, RANK, WIDTH, WIDE = 30, 16, 576, 1536
LINEAR_LAYERS = [(WIDTH, WIDTH)] * 4 + [(WIDTH, WIDE)] * 2 + [(WIDE, WIDTH)]
TOKENS = 16

State = dict[str, torch.Tensor]


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


@dataclass
class Way:
    """One way of saving, and what was measured of it, in seconds."""

    save: Callable[[State, int], object]
    wait: Callable[[], None] = lambda: None
    totals: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)

    def run(self, training: TrainingLike, *, first: int, checkpoints: int, steps_between: int) -> None:
        """Train and save in turn, until everything that was saved is where it belongs."""
        started = time.perf_counter()
        for number in range(first, first + checkpoints):
            for _ in range(steps_between):
                begun = time.perf_counter()
                training.step()
                self.steps.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            self.save(training.state, number)
            self.stalls.append(time.perf_counter() - begun)
        for _ in range(steps_between):
            training.step()
        self.wait()
        self.totals.append(time.perf_counter() - started)


def save_like_the_trainer(directory: Path, upload: ObjectStore | None) -> Callable[[State, int], None]:
    """Adapter and optimizer into files of their own, as `Trainer._save_checkpoint` does."""

    def save(state: State, number: int) -> None:
        folder = directory / f"checkpoint-{number}"
        folder.mkdir(parents=True)
        weights = {name: tensor for name, tensor in state.items() if name.startswith("weights/")}
        save_file(weights, folder / "adapter_model.safetensors")
        torch.save({name: tensor for name, tensor in state.items() if name not in weights}, folder / "optimizer.pt")
        (folder / "trainer_state.json").write_text(json.dumps({"step": number}))
        if upload is not None:
            for path in sorted(folder.iterdir()):
                upload.upload_file(path, f"trainer/{number}/{path.name}")

    return save


def ways_of_saving(store: ObjectStore, directory: Path) -> dict[str, Way]:
    """All that are compared."""

    def writer(name: str) -> CheckpointWriter:
        config = make_run_config(make_store(""), changes={"job": {"uid": name}})
        return CheckpointWriter(store, config, parent=None)

    def waited(state: State, number: int) -> None:
        synchronous.save(state, {"step": number}, step=number, metrics={})
        synchronous.wait()

    asynchronous, synchronous = writer("asynchronous"), writer("synchronous")
    return {
        "no checkpoints": Way(lambda *_: None),
        "asynchronous": Way(
            lambda state, number: asynchronous.save(state, {"step": number}, step=number, metrics={}), asynchronous.wait
        ),
        "synchronous": Way(waited),
        "local files": Way(save_like_the_trainer(directory / "local", None)),
        "local + S3": Way(save_like_the_trainer(directory / "uploaded", store)),
    }


def measure(store: ObjectStore, directory: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Every way in turn, many short rounds, so that other load on the machine meets all alike. The first round warms up."""
    ways, training = ways_of_saving(store, directory), TrainingLike()
    sizes = {"checkpoints": options.checkpoints, "steps_between": options.steps_between}
    for number in range(options.rounds + 1):
        for name, way in ways.items():
            way.run(training, first=1 + number * options.checkpoints, **sizes)
            if number == 0:
                way.totals, way.stalls, way.steps = [], [], []
            else:
                print(f"  round {number}/{options.rounds}  {name:<16} {way.totals[-1]:6.1f} s", flush=True)
    return {name: summarize(way, ways["no checkpoints"], options.checkpoints) for name, way in ways.items()}


def summarize(way: Way, without: Way, checkpoints: int) -> dict[str, float]:
    """Milliseconds."""
    added = [total - plain for total, plain in zip(way.totals, without.totals, strict=True)]
    return {
        "stall_median_ms": 1000 * statistics.median(way.stalls),
        "stall_largest_ms": 1000 * max(way.stalls),
        "cost_median_ms": 1000 * statistics.median(added) / checkpoints,
        "step_median_ms": 1000 * statistics.median(way.steps),
    }


def print_table(results: dict[str, dict[str, float]]) -> None:
    """What a person wants to see."""
    base = results["asynchronous"]["stall_median_ms"]
    print(f"\n{'':<16}{'stall, median':>15}{'largest':>11}{'ratio':>8}{'cost':>12}{'step':>10}")
    for name, row in results.items():
        ratio = f"{row['stall_median_ms'] / base:.1f}x" if row["stall_median_ms"] > 1 else ""
        print(
            f"{name:<16}{row['stall_median_ms']:>12.1f} ms{row['stall_largest_ms']:>8.0f} ms{ratio:>8}"
            f"{row['cost_median_ms']:>9.0f} ms{row['step_median_ms']:>7.0f} ms"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=2, help="per round")
    parser.add_argument("--steps-between", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
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
