"""A process that commits checkpoints until somebody kills it: `python -m tests.support.checkpoint_victim ENDPOINT CREDENTIALS ATTEMPT`.

It resumes like a trainer, prints `resumed <step>` and then `committed <step>` for each checkpoint that was acknowledged.
"""

import sys
from pathlib import Path

from trimtab_trainer.quota import limit_threads

limit_threads()

import torch  # noqa: E402 - after the threads are limited
from tests.support.object_store import make_run_config, make_store  # noqa: E402

from trimtab_trainer.checkpoint.reader import load_latest  # noqa: E402
from trimtab_trainer.checkpoint.writer import CheckpointWriter  # noqa: E402
from trimtab_trainer.contract.run_config import RunConfig  # noqa: E402
from trimtab_trainer.store.object_store import ObjectStore  # noqa: E402

TENSORS, ELEMENTS = 40, 8192


def victim_config(endpoint: str, attempt: int) -> RunConfig:
    """The run that is killed again and again."""
    return make_run_config(make_store(endpoint), attempt=attempt)


def state_at(step: int) -> dict[str, torch.Tensor]:
    """A state that tells its step in every element: 1.3 MB."""
    return {f"layer.{number}": torch.full((ELEMENTS,), float(step * 1000 + number)) for number in range(TENSORS)}


def main() -> None:
    """Resume and save for ever."""
    endpoint, credentials, attempt = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    config = victim_config(endpoint, attempt)
    with ObjectStore.open(config.store, credentials=credentials) as store:
        loaded, rejected = load_latest(store, config)
        step = loaded.step if loaded else 0
        print("resumed", step, len(rejected), flush=True)
        writer = CheckpointWriter(store, config, parent=loaded, rejected=rejected)
        reported = step
        while True:
            step += 1
            writer.save(state_at(step), {"step": step}, step=step, metrics={"eval_loss": float(step % 7)})
            newest = writer.committed[-1].step if writer.committed else 0
            if newest > reported:
                reported = newest
                print("committed", newest, flush=True)


if __name__ == "__main__":
    main()
