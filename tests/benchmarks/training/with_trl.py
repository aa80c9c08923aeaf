"""The same LoRA run by TRL's SFTTrainer, in three set-ups.

- `defaults`  what a user gets who names model, data and batch size: bfloat16, gradient checkpointing, loss on the whole text
- `float32`   bfloat16 and gradient checkpointing switched off, which most CPUs need
- `expert`    besides: loss on completions only, batches of like lengths
"""

import argparse
import tempfile
import time
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig
from tests.benchmarks.training.measure import Result, peak_memory_mib, save_result, settings
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

MODES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "float32": {"bf16": False, "gradient_checkpointing": False},
    "expert": {"bf16": False, "gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"},
}


class Stopwatch(TrainerCallback):
    """Time in steps alone."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds += time.perf_counter() - self._started


def main() -> None:
    """Train, and write what was measured."""
    options = settings(argparse.ArgumentParser(description=__doc__)).parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    data = load_dataset("json", data_files=str(options.data / "train.jsonl"), split="train")
    if options.mode == "expert":
        data = data.map(
            lambda row: {"prompt": row["messages"][:1], "completion": row["messages"][1:]}, remove_columns=["messages"]
        )
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
            args=SFTConfig(
                output_dir=folder,
                max_length=options.length,
                max_steps=options.steps,
                per_device_train_batch_size=options.batch,
                learning_rate=options.rate,
                lr_scheduler_type="linear",
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                seed=options.seed,
                use_cpu=True,
                **MODES[options.mode],
            ),
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=options.rank, lora_alpha=2 * options.rank, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[watch],
        )
        trainer.train()
    trainer.model.save_pretrained(options.adapter)
    tokens = next(int(line["num_tokens"]) for line in reversed(trainer.state.log_history) if "num_tokens" in line)
    save_result(options, Result(tokens, watch.seconds, peak_memory_mib()))


if __name__ == "__main__":
    main()
