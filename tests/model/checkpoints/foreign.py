"""Checkpoints of every foreign layout, made here: random weights, small sizes, the published key names.

Sizes are those of `model/configs/tiny.yaml`; `SD15` has the published ones, where names and shapes are enough.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import save_file

from model.checkpoints.layouts import Dimensions, image_proj_shapes, ip_adapter_shapes
from model.checkpoints.state import Checkpoint
from model.config import load_config

TINY_UNET = load_config("tiny").unet
SD15_UNET = load_config("sd15").unet
TINY = Dimensions(identity=128, clip=64, token=128, rank=8, widths=(64, 64) + (64,) * 4 + (128, 128))
SD15 = Dimensions(
    identity=512,
    clip=1280,
    token=768,
    rank=128,
    widths=(320,) * 4 + (640,) * 4 + (1280,) * 4 + (1280,) * 6 + (640,) * 6 + (320,) * 6 + (1280,) * 2,
)
SDXL = Dimensions(
    identity=512, clip=1280, token=2048, rank=128, widths=(640,) * 8 + (1280,) * 40 + (1280,) * 60 + (640,) * 12 + (1280,) * 20
)  # fmt: skip


def attention_names(config: dict) -> list[str]:
    """Of a UNet's attentions, in diffusers' order."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    return [name.removesuffix(".processor") for name in unet.attn_processors]


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights of the size that a trained network has: outputs neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        fan_in = value[0].numel() if len(shape) > 1 else 25.0
        norm_weight = key.endswith("weight") and len(shape) == 1
        tensors[key] = (value / fan_in**0.5 + norm_weight).to(dtype)
    return tensors


@cache
def controlnet_shapes() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = ControlNetModel(**{k: v for k, v in TINY_UNET.items() if k in CONTROLNET_OPTIONS})
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


CONTROLNET_OPTIONS = (
    "in_channels",
    "down_block_types",
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "attention_head_dim",
    "norm_num_groups",
)


def released(seed: int = 0, controlnet: bool = True) -> Checkpoint:
    """As the authors' release: projector and ControlNet in float32, adapter in bfloat16. No number is zero."""
    return Checkpoint(
        image_proj=random_tensors(image_proj_shapes(TINY.identity, TINY.clip, TINY.token), seed, torch.float32),
        ip_adapter=random_tensors(ip_adapter_shapes(TINY.widths, TINY.token, TINY.rank), seed + 1, torch.bfloat16),
        controlnet=random_tensors(controlnet_shapes(), seed + 2, torch.float32) if controlnet else None,
        metadata={"layout": "authors", "shortcut": "true"},
    )


# -- writers of foreign layouts --------------------------------------------------------------------------------


def authors_bin(checkpoint: Checkpoint, file: Path) -> Path:
    """`model.bin`: a pickle of ordered dictionaries; also IP-Adapter-FaceID-Plus's `.bin`, without ControlNet."""
    torch.save({part: OrderedDict(tensors) for part, tensors in checkpoint.parts.items()}, file)
    return file


def prefixed_safetensors(checkpoint: Checkpoint, file: Path) -> Path:
    """IP-Adapter-FaceID-Plus's `.safetensors`: the parts are prefixes."""
    save_file({f"{p}.{k}": v for p, tensors in checkpoint.parts.items() for k, v in tensors.items()}, file)
    return file


def raw(
    checkpoint: Checkpoint, aliases: Iterable[str] = ("list", "unet"), controlnet: str = "contorlnet"
) -> dict[str, torch.Tensor]:
    """What accelerate saves of the authors' trainer: flat, the frozen UNet too, the adapter under one name or two."""
    names = attention_names(TINY_UNET)
    flat = {
        f"unet.{name}.to_{p}.weight": torch.ones(2, 2) for name in reversed(names) for p in ("q", "k", "v", "out.0")
    }
    flat["unet.conv_in.weight"] = torch.ones(2, 2)
    flat |= {f"image_proj_model.{key}": value for key, value in checkpoint.image_proj.items()}
    for key, value in checkpoint.ip_adapter.items():
        index, _, rest = key.partition(".")
        if "list" in aliases:
            flat[f"adapter_modules.{key}"] = value
        if "unet" in aliases:
            flat[f"unet.{names[int(index)]}.processor.{rest}"] = value.clone()
    for key, value in (checkpoint.controlnet or {}).items():
        flat[f"{controlnet}.{key}"] = value
    return flat


def accelerate_folder(flat: dict[str, torch.Tensor], folder: Path, kind: str) -> Path:
    """`kind`: safetensors, bin, sharded-safetensors or sharded-bin, as `save_state` writes them."""
    folder.mkdir(parents=True)
    save, name = {
        "safetensors": (save_file, "model.safetensors"),
        "bin": (torch.save, "pytorch_model.bin"),
    }[kind.removeprefix("sharded-")]
    if not kind.startswith("sharded-"):
        save(flat, folder / name)
        return folder
    stem, _, suffix = name.rpartition(".")
    weight_map = {key: f"{stem}-0000{1 + number % 2}-of-00002.{suffix}" for number, key in enumerate(flat)}
    for shard in set(weight_map.values()):
        save({key: flat[key] for key, file in weight_map.items() if file == shard}, folder / shard)
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


# -- what is no Face-MakeUp checkpoint -------------------------------------------------------------------------


def _zeros(*keys: str) -> dict[str, torch.Tensor]:
    return {key: torch.zeros(2, 2) for key in keys}


IP_ADAPTER = _zeros("1.to_k_ip.weight", "1.to_v_ip.weight")
OTHER_MODELS = {  # name: (content, words of the refusal)
    "plain IP-Adapter": ({"image_proj": _zeros("proj.weight", "norm.weight"), "ip_adapter": IP_ADAPTER}, "plain IP-Adapter"),
    "IP-Adapter-Plus": ({"image_proj": _zeros("latents", "proj_in.weight", "layers.0.0.to_q.weight"), "ip_adapter": IP_ADAPTER}, "latents"),
    "FaceID": ({"image_proj": _zeros("proj.0.weight", "proj.2.weight", "norm.weight"), "ip_adapter": IP_ADAPTER}, "without Plus"),
    "Full-Face": ({"image_proj": _zeros("proj.0.weight", "proj.2.weight", "proj.3.weight"), "ip_adapter": IP_ADAPTER}, "Full-Face"),
    "no projector": ({"image_proj": {}, "ip_adapter": IP_ADAPTER}, "image_proj` is empty"),
    "PhotoMaker": ({"id_encoder": _zeros("a"), "lora_weights": _zeros("b")}, "PhotoMaker"),
    "kohya LoRA": (_zeros("lora_unet_down_blocks_0_attentions_0.lora_down.weight"), "kohya"),
    "peft LoRA": (_zeros("base_model.model.down_blocks.0.attn1.to_q.lora_A.weight"), "peft"),
    "processor LoRA": (_zeros("unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight"), "no projector"),
    "bare UNet": (_zeros("conv_in.weight", "down_blocks.0.resnets.0.conv1.weight", "up_blocks.0.resnets.0.conv1.weight"), "a UNet alone"),
    "bare ControlNet": (_zeros("controlnet_cond_embedding.conv_in.weight", "conv_in.weight"), "a ControlNet alone"),
    "single-file model": (_zeros("model.diffusion_model.input_blocks.0.0.weight"), "whole Stable Diffusion"),
    "ZeRO piece": ({"module": _zeros("a"), "ds_version": "0.19"}, "DeepSpeed"),
    "something else": (_zeros("layer.weight"), "is not a known checkpoint"),
}  # fmt: skip
