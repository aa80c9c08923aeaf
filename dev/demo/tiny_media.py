"""Tiny random models of images and sounds: the examples' and the tests'. Their weights follow from torch's seed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    ViTConfig,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    YolosConfig,
    YolosForObjectDetection,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

RATE = 16000
"""Samples a second."""
Shape = dict[str, Any]
"""Sizes of the transformer."""


def save_vit(directory: Path, *, edge: int, patch: int, shape: Shape) -> None:
    """A vision transformer without a head."""
    ViTModel(ViTConfig(image_size=edge, patch_size=patch, **shape)).save_pretrained(directory)
    ViTImageProcessorPil(size=_square(edge)).save_pretrained(directory)


def save_clip(directory: Path, tokenizer: Any, *, edge: int, patch: int, width: int, shape: Shape) -> None:
    """Two towers that meet in a space of `width`; texts begin and end with the tokenizer's own marks."""
    ends = {
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    length = tokenizer.model_max_length
    text = {**shape, "vocab_size": len(tokenizer), "max_position_embeddings": length, **ends}
    vision = {**shape, "image_size": edge, "patch_size": patch}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=width)).save_pretrained(directory)
    processor = CLIPImageProcessorPil(size=_square(edge), crop_size=_square(edge))
    CLIPProcessor(processor, tokenizer).save_pretrained(directory)


def save_yolos(directory: Path, *, edge: int, patch: int, things: int, shape: Shape, **changes: Any) -> None:
    """A detector of at most so many things."""
    config = YolosConfig(image_size=[edge, edge], patch_size=patch, num_detection_tokens=things, **shape, **changes)
    YolosForObjectDetection(config).save_pretrained(directory)
    YolosImageProcessorPil(size=_square(edge)).save_pretrained(directory)


def save_wav2vec2(directory: Path, *, letters: Sequence[str], channels: int, shape: Shape, **changes: Any) -> None:
    """A listener with an alphabet and 100 frames a second."""
    vocabulary = {letter: number for number, letter in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *letters])}
    config = Wav2Vec2Config(
        vocab_size=len(vocabulary),
        conv_dim=(channels, channels),
        conv_kernel=(10, 16),
        conv_stride=(10, 16),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
        **shape,
        **changes,
    )
    Wav2Vec2ForCTC(config).save_pretrained(directory)
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(str(directory / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(sampling_rate=RATE), tokenizer).save_pretrained(directory)


def _square(edge: int) -> dict[str, int]:
    return {"height": edge, "width": edge}
