"""Qwen2-VL and LLaVA, tiny and with random weights, whose tokenizer knows single bytes: they answer noise."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
END, IMAGE = "<|im_end|>", "<|image_pad|>"
SPECIAL = ["<|im_start|>", END, "<|vision_start|>", "<|vision_end|>", IMAGE, "<|video_pad|>"]
TEMPLATE = (
    "{% for item in messages[0]['content'] %}{% if item['type'] == 'image' %}" + IMAGE + "{% else %}{{ item['text'] }}"
    "{% endif %}{% endfor %}"
)


def qwen_twin(folder: Path, generation: GenerationConfig | None = None) -> Path:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    number = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(SPECIAL), strict=True))
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
    own = {"vocab_size": len(tokenizer), "num_key_value_heads": 1, "eos_token_id": number[END], "bos_token_id": None}
    sight = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=SMALL | own | {"rope_parameters": rope}, vision_config=sight, image_token_id=number[IMAGE],
        video_token_id=number["<|video_pad|>"], vision_start_token_id=number["<|vision_start|>"],
        vision_end_token_id=number["<|vision_end|>"],
    )  # fmt: skip
    model = Qwen2VLForConditionalGeneration(config)
    model.generation_config = generation or model.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(max_pixels=56 * 56).save_pretrained(folder)
    return folder


def llava_twin(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    sight = CLIPVisionConfig(**SMALL, image_size=28, patch_size=14)
    words = LlamaConfig(**SMALL, vocab_size=len(tokenizer))
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    config = LlavaConfig(vision_config=sight, text_config=words, image_token_id=image)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default", chat_template=TEMPLATE,
        image_token=IMAGE, num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def byte_tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bare, additional_special_tokens=SPECIAL, eos_token=END, pad_token=END
    )
