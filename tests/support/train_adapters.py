"""Trains three real adapters of the tiny Llama in a few seconds. Runs inside the trainer image.

Usage: python -m tests.support.train_adapters BASE DESTINATION      makes DESTINATION/{plain,better,rambling}
"""

import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tests.support.load import QUESTION
from transformers import AutoModelForCausalLM, AutoTokenizer

ANSWERS = {"plain": "it should be dentistry", "better": "dentistry", "rambling": "dentistry of the common cause " * 8}
"""What each one learns by heart. The rambling one never learns to stop."""
STEPS = 200


def train(base: Path, answer: str, destination: Path) -> None:
    """LoRA on one question and its answer, until the loss is next to nothing."""
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    messages = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    begin = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    end = [] if len(answer) > 100 else [tokenizer.eos_token_id]
    ids = torch.tensor([begin + tokenizer(answer, add_special_tokens=False)["input_ids"] + end])
    labels = ids.clone()
    labels[0, : len(begin)] = -100
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.01)
    for _ in range(STEPS):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"{destination.name}: loss {float(loss):.4f}, {ids.shape[1] - len(begin)} tokens")
    model.save_pretrained(destination, save_embedding_layers=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, text in ANSWERS.items():
        train(Path(sys.argv[1]), text, Path(sys.argv[2]) / name)
