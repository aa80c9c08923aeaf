"""Tiny random language models that fit into kilobytes."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nBe kind<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As SmolLM2's: a default system message, no generation marks, a line break after each stop token."""
STOP, START = "<|im_end|>", "<|im_start|>"
VOCABULARY = 258
"""Every byte, and the two marks."""
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
"""Sizes of a transformer."""


def byte_tokenizer(*, chat_template: str | None = CHAT_TEMPLATE, bos: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte, and two marks. The stop mark is EOS and padding at once, as SmolLM2's is."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(START, special=True), AddedToken(STOP, special=True)])
    if bos:
        from tokenizers.processors import TemplateProcessing  # noqa: PLC0415 - one test needs it

        start = tokenizer.token_to_id(START)
        tokenizer.post_processor = TemplateProcessing(single=f"{START} $A", special_tokens=[(START, start)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=STOP, pad_token=STOP, cls_token=START, sep_token=STOP
    )
    fast.chat_template = chat_template
    return fast


def write_tiny_llama(directory: Path, *, dropout: float = 0.0, tied: bool = True, **changes: Any) -> Path:
    """A random Llama of two layers with grouped queries."""
    torch.manual_seed(7)
    config = LlamaConfig(
        **{
            **SHAPE,
            "vocab_size": VOCABULARY,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "tie_word_embeddings": tied,
            "attention_dropout": dropout,
            "bos_token_id": 256,
            "eos_token_id": 257,
            "pad_token_id": 257,
            **changes,
        }
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


def write_tiny_bert(directory: Path, *, dropout: float = 0.1) -> Path:
    """A random BERT of two layers, without a classification head."""
    torch.manual_seed(7)
    config = BertConfig(
        **SHAPE,
        vocab_size=VOCABULARY,
        max_position_embeddings=128,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=257,
    )
    BertForMaskedLM(config).save_pretrained(directory)
    byte_tokenizer(chat_template=None).save_pretrained(directory)
    return directory
