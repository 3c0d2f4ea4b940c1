"""The ResNet-50 with a head of attributes that Attr_c was published with, by torchvision's names."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

DEPTHS = (3, 4, 6, 3)  # blocks of each layer
FIRST = "backbone.conv1.weight"


class Bottleneck(nn.Module):
    """Three convolutions beside what comes in."""

    def __init__(self, inside: int, between: int, stride: int):
        super().__init__()
        outside = 4 * between
        self.conv1 = nn.Conv2d(inside, between, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(between)
        self.conv2 = nn.Conv2d(between, between, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(between)
        self.conv3 = nn.Conv2d(between, outside, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class AttributeNetwork(nn.Module):
    """Pictures, float (n, 3, h, w) from -1 to 1, to a logit for each attribute. `thinner`: channels divided by it, for tests."""

    def __init__(self, attributes: int, thinner: int = 1):
        super().__init__()
        width = 64 // thinner
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        layers["bn1"] = nn.BatchNorm2d(width)
        layers["relu"] = nn.ReLU()
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
        inside = width
        for number, depth in enumerate(DEPTHS):
            between = width * 2**number
            blocks = []
            for place in range(depth):
                blocks.append(Bottleneck(inside, between, 2 if number and not place else 1))
                inside = 4 * between
            layers[f"layer{number + 1}"] = nn.Sequential(*blocks)
        self.backbone = nn.Sequential(layers)
        self.fc = nn.Linear(inside, attributes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.backbone(x).mean((2, 3)))
