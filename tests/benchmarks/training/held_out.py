"""Loss of adapters on held-out answers, by plain transformers and peft in float32: the same judge for everybody.

Usage: python -m tests.benchmarks.training.held_out MODEL DATA ADAPTER...        prints a JSON object by adapter folder
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

LENGTH = 512


@torch.no_grad()
def loss_per_token(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> float:
    """Mean cross-entropy of all answer tokens (nats), up to the one that ends an answer: nobody reads what a template writes after it."""
    total, count = 0.0, 0
    for row in rows:
        prompt = tokenizer.apply_chat_template(row["messages"][:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
        tokens = tokenizer(whole, add_special_tokens=False).input_ids
        ends = [place + 1 for place, token in enumerate(tokens) if token == tokenizer.eos_token_id]
        ids = torch.tensor([tokens[: min(ends[-1], LENGTH)]])
        if start >= ids.shape[1]:
            continue
        logits = model(input_ids=ids).logits[0, start - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum"))
        count += ids.shape[1] - start
    return total / count


def main() -> None:
    """The base model under the name "", then each adapter."""
    model_folder, data, *adapters = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    rows = [json.loads(line) for line in Path(data, "held_out.jsonl").read_text("utf-8").splitlines()]
    losses = {}
    for adapter in ["", *adapters]:
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        if adapter:
            model = PeftModel.from_pretrained(model, adapter)
        losses[adapter] = loss_per_token(model.eval(), tokenizer, rows)
    print(json.dumps(losses))


if __name__ == "__main__":
    main()
