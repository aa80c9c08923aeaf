"""Why the server has a cache of its own: CPU milliseconds of one decoding step on one thread, by rows and length.

    python tests/benchmarks/server_cache.py MODEL_DIRECTORY

CPU time of one thread, not wall time, so that other processes on the machine change little.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trimtab_trainer.quota import limit_threads

limit_threads()

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, DynamicCache  # noqa: E402

from trimtab_trainer.server.rows import Rows  # noqa: E402

STEPS = 6
SHAPES = ((1, 64), (1, 512), (8, 64), (8, 512), (8, 2048))


def timed(step: Callable[[int], object]) -> float:
    """Median CPU milliseconds of a step."""
    times = []
    for number in range(STEPS):
        started = time.thread_time()
        step(number)
        times.append(time.thread_time() - started)
    return 1000 * statistics.median(times)


def dynamic_cache(model: Any, rows: int, length: int) -> float:
    """transformers' cache, rows padded on the left."""
    cache = DynamicCache()
    model(input_ids=torch.ones(rows, 1, dtype=torch.long), past_key_values=cache, use_cache=True)
    for layer in cache.layers:
        _, heads, _, size = layer.keys.shape
        layer.keys, layer.values = torch.randn(rows, heads, length, size), torch.randn(rows, heads, length, size)
    mask = torch.ones(rows, length + STEPS, dtype=torch.long)
    mask[: rows // 2, :8] = 0  # rows of different lengths need an explicit mask

    def step(number: int) -> None:
        model(
            input_ids=torch.full((rows, 1), 7),
            attention_mask=mask[:, : length + number + 1],
            position_ids=torch.full((rows, 1), length + number),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )

    return timed(step)


def own_rows(model: Any, rows: int, length: int) -> float:
    """The server's rows; more than one have different lengths."""
    batch = Rows(model, max_rows=rows)
    batch.add(rows)
    batch.advance([[7]] * rows)
    for layer in batch.layers:
        layer.reserve(length + STEPS + 1)
        layer.keys.normal_()
        layer.values.normal_()
    batch.lengths = [length - 8 * (row % 2) for row in range(rows)]
    return timed(lambda _: batch.advance([[7]] * rows))


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(
        Path(sys.argv[1]), dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    print("| rows | tokens | DynamicCache ms | own rows ms |\n|---|---|---|---|")
    with torch.inference_mode():
        for rows, length in SHAPES:
            print(
                f"| {rows} | {length} | {dynamic_cache(model, rows, length):.0f} | {own_rows(model, rows, length):.0f} |"
            )


if __name__ == "__main__":
    main()
