"""What an image costs in floating-point operations, counted on the meta device, and what a GPU could do at best.

Counted by torch's FlopCounterMode: convolutions, matrix products and attention, two operations a multiply-add. There is
no 6N rule here: frozen weights get no gradient, but the gradient of activations runs through the whole UNet to the
LoRA of its first block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from model.conditioning.features import clip_features
from model.config import ModelConfig
from model.face_unet import FaceUNet
from model.facemakeup import FaceMakeUp

LATENT_FACTOR = 8


@dataclass(frozen=True)
class Flops:
    """FLOP an image. `forward`, `backward`: of what the engine holds (UNet, face adapter, ControlNet, projector);
    `vae_encode`, `clip`, `text`: of the frozen encoders, which run forward only."""

    forward: int
    backward: int
    vae_encode: int
    clip: int
    text: int

    @property
    def step(self) -> int:
        """Forward and backward: the model FLOPs, which MFU counts (PaLM, arXiv 2204.02311, appendix B)."""
        return self.forward + self.backward

    @property
    def encoders(self) -> int:
        return self.vae_encode + self.clip + self.text

    @property
    def uncached(self) -> int:
        """All of it, with every encoder run for every image."""
        return self.step + self.encoders


@dataclass(frozen=True)
class Sizes:
    """Parameters. `trained`: of the engine's optimiser; the others are frozen; `vae_encoder`: without the decoder."""

    trained: int
    unet: int
    vae_encoder: int
    image_encoder: int
    text_encoder: int


def flops_of(config: ModelConfig) -> Flops:
    """At the configuration's resolution, one image, one caption. A few seconds once in a process; no memory."""
    return _counted(_architecture(config))[0]


def sizes_of(config: ModelConfig) -> Sizes:
    return _counted(_architecture(config))[1]


def _architecture(config: ModelConfig) -> str:
    """Of the configuration, what the counts depend on."""
    return config.model_copy(update={"name": "", "pretrained": None}).model_dump_json(exclude={"conditions"})


@lru_cache(maxsize=8)
def _counted(architecture: str) -> tuple[Flops, Sizes]:
    config = ModelConfig.model_validate_json(architecture)
    width = config.image_encoder["hidden_size"]
    with torch.device("meta"):
        trained = FaceMakeUp.from_unet(FaceUNet.from_config(config.unet), clip_dim=width, **config.adapter)
        vae = AutoencoderKL.from_config(config.vae)
        text_encoder = CLIPTextModel(CLIPTextConfig(**config.text_encoder))
        image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**config.image_encoder))
        image = torch.zeros(1, config.vae["in_channels"], config.resolution, config.resolution)
        captions = torch.zeros(1, text_encoder.config.max_position_embeddings, dtype=torch.long)
        pixels = torch.zeros(1, 3, image_encoder.config.image_size, image_encoder.config.image_size)
        identity, timestep = torch.zeros(1, config.identity_dim), torch.zeros(1)
    with torch.no_grad(), FlopCounterMode(display=False) as vae_encode:
        latents = vae.encode(image).latent_dist.mean
    with torch.no_grad(), FlopCounterMode(display=False) as text:
        states = text_encoder(captions)[0]
    with FlopCounterMode(display=False) as clip:
        features = clip_features(image_encoder, pixels)
    with FlopCounterMode(display=False) as forward:
        prediction = trained(latents, timestep, states, identity, features, image)
    with FlopCounterMode(display=False) as backward:
        prediction.sum().backward()
    parts = (forward, backward, vae_encode, clip, text)
    names = {id(parameter) for _, parameter in trained.trainable()}
    sizes = Sizes(
        trained=sum(parameter.numel() for _, parameter in trained.trainable()),
        unet=sum(parameter.numel() for parameter in trained.parameters() if id(parameter) not in names),
        vae_encoder=_size(vae.encoder) + _size(vae.quant_conv),
        image_encoder=_size(image_encoder),
        text_encoder=_size(text_encoder),
    )
    return Flops(*(part.get_total_flops() for part in parts)), sizes


def _size(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())


@dataclass(frozen=True)
class Gpu:
    """Dense peak, FLOP/s: makers print twice that, "with sparsity". None: no unit for it.

    `named`: a pattern of the whole name that CUDA reports. `bf16`, `fp16`: with fp32 accumulation, as torch asks for;
    `fp32`: in TF32 where the GPU has it, because torch's convolutions take it by default.
    """

    named: str
    bf16: float | None
    fp16: float
    fp32: float


GPUS = {
    # NVIDIA A100 Tensor Core GPU data sheet: BF16 and FP16 312, TF32 156 TFLOPS; the same for SXM and PCIe
    "a100": Gpu(r"NVIDIA A100(-SXM4-\d+GB|-PCIE-\d+GB| \d+GB PCIe)", 312e12, 312e12, 156e12),
    # NVIDIA H100 Tensor Core GPU data sheet, with sparsity: SXM 1979 and 989, PCIe 1513 and 756, NVL 1671 and 835
    "h100": Gpu(r"NVIDIA H100 80GB HBM3", 989e12, 989e12, 494e12),
    "h100-pcie": Gpu(r"NVIDIA H100 PCIe", 756e12, 756e12, 378e12),
    "h100-nvl": Gpu(r"NVIDIA H100 NVL", 835e12, 835e12, 417e12),
    # NVIDIA H200 Tensor Core GPU data sheet, with sparsity: SXM 1979 and 989, NVL 1671 and 836
    "h200": Gpu(r"NVIDIA H200", 989e12, 989e12, 494e12),
    "h200-nvl": Gpu(r"NVIDIA H200 NVL", 835e12, 835e12, 417e12),
    # NVIDIA L4 data sheet, with sparsity: BF16 and FP16 242, TF32 120
    "l4": Gpu(r"NVIDIA L4", 121e12, 121e12, 60e12),
    # NVIDIA L40S data sheet: BF16 and FP16 362.05, TF32 183
    "l40s": Gpu(r"NVIDIA L40S", 362.05e12, 362.05e12, 183e12),
    # NVIDIA A10G data sheet (Amazon's G5): BF16 and FP16 70, TF32 35; not the A10's
    "a10g": Gpu(r"NVIDIA A10G", 70e12, 70e12, 35e12),
    # NVIDIA V100 data sheet: tensor cores 125 (SXM2), 112 (PCIe), 130 (V100S); FP32 15.7, 14 and 16.4; no BF16
    "v100": Gpu(r"Tesla V100-SXM[23]-\d+GB(-LS)?", None, 125e12, 15.7e12),
    "v100-pcie": Gpu(r"Tesla V100-PCIE-\d+GB", None, 112e12, 14e12),
    "v100s": Gpu(r"Tesla V100S-PCIE-\d+GB", None, 130e12, 16.4e12),
    # NVIDIA T4 data sheet: FP16 65, FP32 8.1; no BF16
    "t4": Gpu(r"Tesla T4", None, 65e12, 8.1e12),
    # NVIDIA Ampere GA102 whitepaper, appendix A: BF16, and FP16 with FP32 accumulate, 71; TF32 35.6
    "rtx3090": Gpu(r"NVIDIA GeForce RTX 3090", 71e12, 71e12, 35.6e12),
    # NVIDIA Ada whitepaper, appendix A: BF16, and FP16 with FP32 accumulate, 165.2; TF32 82.6
    "rtx4090": Gpu(r"NVIDIA GeForce RTX 4090", 165.2e12, 165.2e12, 82.6e12),
}


def peak_flops(device: torch.device, dtype: str) -> float | None:
    """Dense peak of a device in FLOP/s. `dtype`: bf16, fp16 or fp32. None on a CPU and where it is not known."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    return peak_flops_of_name(torch.cuda.get_device_name(device), dtype)


def peak_flops_of_name(name: str, dtype: str) -> float | None:
    """By the name that CUDA reports, whole: a slice of a GPU (MIG) or a sibling of it is another GPU."""
    for gpu in GPUS.values():
        if re.fullmatch(gpu.named, name):
            return getattr(gpu, dtype)
    return None
