"""CLIP, DINO, InceptionV3 and the network of attributes of the published architectures, tiny and with random weights, as the hub or their authors have them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from common.pinned_files.weights import resolve
from evaluation.metrics.networks.inception import FidInception
from evaluation.metrics.networks.resnet import AttributeNetwork
from model.tokenizer import clip_tokenizer

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SIDE = {"image_size": 32, "patch_size": 8}


def clip_twin(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer(resolve("clip-vocabulary").path)
    text = SMALL | {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=SMALL | SIDE, projection_dim=16))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def dino_twin(folder: Path, seed: int = 0) -> Path:
    """Without a pooler, as the published checkpoint is."""
    torch.manual_seed(seed)
    ViTModel(ViTConfig(**SMALL, **SIDE), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def inception_twin(file: Path, seed: int = 0) -> Path:
    """With a last layer, as the published file has one."""
    network = _unsettled(FidInception(thinner=16), seed)
    torch.save(
        network.state_dict() | {"fc.weight": torch.zeros(1008, network.width), "fc.bias": torch.zeros(1008)}, file
    )
    return file


def attribute_twin(file: Path, seed: int = 0) -> Path:
    """With the backbone's own classes, as the published file has them."""
    weights = _unsettled(AttributeNetwork(40, thinner=16), seed).state_dict()
    torch.save(weights | {"backbone.fc.weight": torch.zeros(1000, 128), "backbone.fc.bias": torch.zeros(1000)}, file)
    return file


def _unsettled(network: nn.Module, seed: int) -> nn.Module:
    """Random weights, and batch statistics that are not those of a fresh layer."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1, generator=generator)
            layer.running_var.uniform_(0.1, 0.3, generator=generator)
    return network
