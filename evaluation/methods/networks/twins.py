"""Tiny models with random weights, the same for the same seed, in the layouts of the authors' files: for tests and for TWINS=1.

They show that a method runs from its files to a picture. What they draw is noise: no figure of them says anything of the method.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.methods.networks.adapter_files import face_id_shapes, resampler_shapes
from model.checkpoints.layouts import Shapes, image_proj_shapes, ip_adapter_shapes

if TYPE_CHECKING:
    import torch

SIDE = 64  # pixels of a picture
IDENTITY = 512  # of every recogniser of insightface
RANK = 4
STD = 0.1  # of the weights: large enough that all of them are felt
SDXL_UNET = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (64, 128), "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2), "attention_head_dim": (2, 4), "cross_attention_dim": 128, "norm_num_groups": 16,
    "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 64,
}  # fmt: skip


def sd15(folder: Path, seed: int = 0) -> Path:
    """Stable Diffusion 1.5's folder in diffusers' layout."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config = _tiny()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        StableDiffusionPipeline(
            vae=AutoencoderKL.from_config(config.vae), unet=UNet2DConditionModel.from_config(config.unet),
            text_encoder=CLIPTextModel(CLIPTextConfig(**config.text_encoder)), tokenizer=_tokenizer(),
            scheduler=DDIMScheduler.from_config(config.scheduler), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)  # fmt: skip
    return folder


def sdxl(folder: Path, seed: int = 0) -> Path:
    """SDXL's folder in diffusers' layout: two text encoders, whose hidden states stand side by side."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = _tiny()
    text = config.text_encoder | {"hidden_size": 64, "projection_dim": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        StableDiffusionXLPipeline(
            vae=AutoencoderKL.from_config(config.vae), unet=UNet2DConditionModel(**SDXL_UNET),
            text_encoder=CLIPTextModel(CLIPTextConfig(**text)), tokenizer=_tokenizer(),
            text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**text)), tokenizer_2=_tokenizer(),
            scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1),
            add_watermarker=False,
        ).save_pretrained(folder)  # fmt: skip
    return folder


def controlnet(folder: Path, base: Path, seed: int = 2) -> Path:
    """A ControlNet's folder whose outputs are not the zeros that a fresh one begins with."""
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel

    made = ControlNetModel.from_unet(UNet2DConditionModel.from_pretrained(base / "unet"))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * STD)
    made.save_pretrained(folder)
    return folder


def image_encoder(folder: Path, seed: int = 0) -> Path:
    """A CLIP image encoder's folder."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        CLIPVisionModelWithProjection(CLIPVisionConfig(**_tiny().image_encoder)).save_pretrained(folder)
    return folder


def recogniser(file: Path, seed: int = 0) -> Path:
    """An ONNX file of insightface's signature: (1, 3, 112, 112) -> (1, 512), linear in the mean colours of 7 x 7 fields."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(seed).normal(size=(3 * 7 * 7, IDENTITY)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["input.1"], ["fields"], kernel_shape=[16, 16], strides=[16, 16]),
            helper.make_node("Flatten", ["fields"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["683"]),
        ],
        "recogniser",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, (1, 3, 112, 112))],
        [helper.make_tensor_value_info("683", TensorProto.FLOAT, (1, IDENTITY))],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(file))
    return file


def face_id_adapter(file: Path, base: Path, encoder: Path | None, seed: int = 1) -> Path:
    """IP-Adapter-FaceID's file; with `encoder`, a CLIP image encoder's folder, -Plus's."""
    import torch

    config = json.loads((base / "unet" / "config.json").read_text())
    token = config["cross_attention_dim"]
    projector = face_id_shapes(IDENTITY, token)
    if encoder:
        width = json.loads((encoder / "config.json").read_text())["hidden_size"]
        projector = image_proj_shapes(IDENTITY, width, token)
    adapter = ip_adapter_shapes(attention_widths(config), token, RANK)
    torch.save({"image_proj": random_tensors(projector, seed), "ip_adapter": random_tensors(adapter, seed + 1)}, file)
    return file


def instant_id_adapter(file: Path, base: Path, seed: int = 1) -> Path:
    """InstantID's ip-adapter.bin: 16 queries, as published, and heads of 64."""
    import torch

    config = json.loads((base / "unet" / "config.json").read_text())
    token = config["cross_attention_dim"]
    widths = attention_widths(config)
    adapter = {f"{i}.to_{kind}_ip.weight": (widths[i], token) for i in range(1, len(widths), 2) for kind in "kv"}
    projector = resampler_shapes(16, IDENTITY, 128, token, 4, 2)
    torch.save({"image_proj": random_tensors(projector, seed), "ip_adapter": random_tensors(adapter, seed + 1)}, file)
    return file


def random_tensors(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Norms near one, everything else near zero, nothing exactly either: a mistake in any of them shows."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    made = {key: torch.randn(shape, generator=generator) * STD for key, shape in shapes.items()}
    norms = ("norm1.weight", "norm2.weight", "norm.weight", "norm_out.weight", ".1.0.weight")
    return {key: value + 1 if key.endswith(norms) else value for key, value in made.items()}


def attention_widths(unet: dict[str, Any]) -> list[int]:
    """Of every attention of a UNet, in the order of its processors."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(unet)
    names = [name.removesuffix(".processor") for name in model.attn_processors]
    return [model.get_submodule(name).to_q.in_features for name in names]


def _tiny() -> Any:
    from model.config import load_config

    return load_config("tiny")


def _tokenizer() -> Any:
    from common.pinned_files.weights import resolve
    from model.tokenizer import clip_tokenizer

    return clip_tokenizer(resolve("clip-vocabulary").path)
