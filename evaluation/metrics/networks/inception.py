"""The InceptionV3 of FID: that of TensorFlow's 2015-12-05 graph, with the names of pytorch-fid's file of its weights.

It is torchvision's InceptionV3 but for its poolings: averages leave out the padding, and the last block takes the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

FIRST = "Conv2d_1a_3x3"  # the first layer
# the steps of a branch: (name, channels, kernel), or two of them side by side
Branches = Sequence[Sequence[Any]]


class Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inside: int, outside: int, kernel: int | tuple[int, int], stride: int = 1, padded: bool = False):
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded else 0
        self.conv = nn.Conv2d(inside, outside, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outside, eps=0.001)
        self.width = outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, the last of them a pooling; all outputs together.

    `pool`: the channels after it; None: the pooling alone, which then halves the picture as each branch's last step does.
    """

    def __init__(self, inside: int, branches: Branches, pool: int | None, maximum: bool = False):
        super().__init__()
        self._branches, self._maximum, self._halves = branches, maximum or pool is None, pool is None
        self.width = inside if pool is None else pool
        for steps in branches:
            width = inside
            for place, step in enumerate(steps):
                stride = 2 if self._halves and place == len(steps) - 1 else 1
                convolutions = [step] if isinstance(step[0], str) else step
                for name, channels, kernel in convolutions:
                    self.add_module(name, Convolution(width, channels, kernel, stride, padded=stride == 1))
                width = sum(channels for _, channels, _ in convolutions)
            self.width += width
        if pool is not None:
            self.branch_pool = Convolution(inside, pool, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = []
        for steps in self._branches:
            y = x
            for step in steps:
                names = [step[0]] if isinstance(step[0], str) else [name for name, *_ in step]
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            outputs.append(y)
        if self._halves:
            pooled = F.max_pool2d(x, 3, 2)
        elif self._maximum:
            pooled = self.branch_pool(F.max_pool2d(x, 3, 1, 1))
        else:
            pooled = self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
        return torch.cat([*outputs, pooled], 1)


class FidInception(nn.Module):
    """Pictures, float (n, 3, 299, 299) from -1 to 1, to the average of the last block, (n, 2048).

    `thinner`: all channels divided by it, for tests.
    """

    def __init__(self, thinner: int = 1):
        super().__init__()

        def c(channels: int) -> int:
            return channels // thinner

        def a(inside: int, pool: int) -> Mixed:
            five = (("branch5x5_1", c(48), 1), ("branch5x5_2", c(64), 5))
            three = (("branch3x3dbl_1", c(64), 1), ("branch3x3dbl_2", c(96), 3), ("branch3x3dbl_3", c(96), 3))
            return Mixed(inside, ((("branch1x1", c(64), 1),), five, three), c(pool))

        def seven(inside: int, between: int) -> Mixed:
            b, lying, standing = c(between), (1, 7), (7, 1)
            once = (("branch7x7_1", b, 1), ("branch7x7_2", b, lying), ("branch7x7_3", c(192), standing))
            kernels = (1, standing, lying, standing, lying)
            twice = [(f"branch7x7dbl_{n}", b if n < 5 else c(192), kernel) for n, kernel in enumerate(kernels, 1)]
            return Mixed(inside, ((("branch1x1", c(192), 1),), once, twice), c(192))

        def last(inside: int, maximum: bool) -> Mixed:
            def both(name: str) -> tuple[Any, ...]:
                return (f"{name}a", c(384), (1, 3)), (f"{name}b", c(384), (3, 1))

            once = (("branch3x3_1", c(384), 1), both("branch3x3_2"))
            twice = (("branch3x3dbl_1", c(448), 1), ("branch3x3dbl_2", c(384), 3), both("branch3x3dbl_3"))
            return Mixed(inside, ((("branch1x1", c(320), 1),), once, twice), c(192), maximum)

        self.Conv2d_1a_3x3 = Convolution(3, c(32), 3, 2)
        self.Conv2d_2a_3x3 = Convolution(c(32), c(32), 3)
        self.Conv2d_2b_3x3 = Convolution(c(32), c(64), 3, padded=True)
        self.Conv2d_3b_1x1 = Convolution(c(64), c(80), 1)
        self.Conv2d_4a_3x3 = Convolution(c(80), c(192), 3)
        self.Mixed_5b = a(c(192), 32)
        self.Mixed_5c = a(self.Mixed_5b.width, 64)
        self.Mixed_5d = a(self.Mixed_5c.width, 64)
        three = (("branch3x3dbl_1", c(64), 1), ("branch3x3dbl_2", c(96), 3), ("branch3x3dbl_3", c(96), 3))
        self.Mixed_6a = Mixed(self.Mixed_5d.width, ((("branch3x3", c(384), 3),), three), None)
        self.Mixed_6b = seven(self.Mixed_6a.width, 128)
        self.Mixed_6c = seven(self.Mixed_6b.width, 160)
        self.Mixed_6d = seven(self.Mixed_6c.width, 160)
        self.Mixed_6e = seven(self.Mixed_6d.width, 192)
        once = (("branch3x3_1", c(192), 1), ("branch3x3_2", c(320), 3))
        kernels = (1, (1, 7), (7, 1), 3)
        twice = [(f"branch7x7x3_{n}", c(192), kernel) for n, kernel in enumerate(kernels, 1)]
        self.Mixed_7a = Mixed(self.Mixed_6e.width, (once, twice), None)
        self.Mixed_7b = last(self.Mixed_7a.width, maximum=False)
        self.Mixed_7c = last(self.Mixed_7b.width, maximum=True)
        self.width = self.Mixed_7c.width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, layer in self.named_children():
            if name in ("Conv2d_3b_1x1", "Mixed_5b"):
                x = F.max_pool2d(x, 3, 2)
            x = layer(x)
        return x.mean((2, 3))
