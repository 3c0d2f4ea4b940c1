"""An image-text model of transformers that answers a question about a picture. Nothing here imports torchvision.

Qwen2-VL's own processor does, for its videos: its image processor and its tokenizer are used without it, and the image's place
in the question is written out here. Any other model answers through its AutoProcessor.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

LONGEST = 128  # tokens of an answer, as published
QWEN = ("qwen2_vl", "qwen2_5_vl")
IMAGE = "<|image_pad|>"
QUESTION = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>{image}<|vision_end|>"
    "{prompt}<|im_end|>\n<|im_start|>assistant\n"
)


class ImageTextModel:
    """A model of a folder. Its weights are loaded by the first question.

    Raises:
        ImportError, OSError, ValueError: transformers cannot make its processor of what is here.
    """

    def __init__(self, folder: Path, device: Any):
        from transformers import AutoConfig, AutoProcessor, AutoTokenizer, GenerationConfig

        self.folder, self.device = folder, device
        self._qwen = AutoConfig.from_pretrained(folder).model_type in QWEN
        if self._qwen:
            from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

            self._images = Qwen2VLImageProcessorPil.from_pretrained(folder)
            self._words = AutoTokenizer.from_pretrained(folder)
        else:
            self._processor = AutoProcessor.from_pretrained(folder)
            self._words = self._processor.tokenizer
        has_own = (folder / "generation_config.json").is_file()
        own = GenerationConfig.from_pretrained(folder) if has_own else GenerationConfig()
        # whether its own way of answering draws at random: of one candidate there is nothing to draw
        self.draws = bool(own.do_sample) and own.top_k != 1

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForImageTextToText

        return AutoModelForImageTextToText.from_pretrained(self.folder, dtype="auto").eval().to(self.device)

    def answer(self, rgb: np.ndarray, prompt: str, seed: int | None = None) -> str:
        """The likeliest words; with a seed, drawn as the model's own settings say, the same for the same seed."""
        import torch

        inputs = self._qwen_inputs(rgb, prompt) if self._qwen else self._inputs(rgb, prompt)
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        how = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None} if seed is None else {}
        with torch.inference_mode(), torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed or 0)
            tokens = self._model.generate(**inputs, max_new_tokens=LONGEST, **how)
        return self._words.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()

    def _qwen_inputs(self, rgb: np.ndarray, prompt: str) -> dict[str, Any]:
        pixels = dict(self._images(images=[rgb], return_tensors="pt"))
        places = int(pixels["image_grid_thw"].prod()) // self._images.merge_size**2
        words = self._words([QUESTION.format(image=IMAGE * places, prompt=prompt)], return_tensors="pt")
        is_image = words["input_ids"] == self._words.convert_tokens_to_ids(IMAGE)
        known = {name: words[name] for name in ("input_ids", "attention_mask")}
        return pixels | known | {"mm_token_type_ids": is_image.int()}

    def _inputs(self, rgb: np.ndarray, prompt: str) -> dict[str, Any]:
        content = [{"type": "image", "image": Image.fromarray(rgb)}, {"type": "text", "text": prompt}]
        asked = [{"role": "user", "content": content}]
        return dict(
            self._processor.apply_chat_template(
                asked, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
        )
