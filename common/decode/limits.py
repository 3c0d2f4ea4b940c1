"""What is decoded, and why something is not: the recipe's limits on images, and the reasons."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Reason = Literal[
    "empty", "not_an_image", "animated", "too_many_pixels", "too_many_scans", "too_much_memory", "too_small",
    "truncated", "corrupt", "killed_decoder", "outlasted_decoder",
    # formats that are not decoded, by name
    "gif", "bmp", "tiff", "ico", "psd", "jp2", "jxl", "heic", "avif", "svg", "html", "pdf",
]  # fmt: skip

# What kills or outlasts a child process under these limits, alone and twice, is the image's fault. Part of every
# fingerprint.
CHILD_CPU_SECONDS = 60  # for decoding one image, or for one filter of it
CHILD_MEMORY = 4 << 30  # bytes beyond the loaded models


class ImageLimits(BaseModel):
    """Limits on the images that are decoded, and the scale of decoding. Part of every fingerprint.

    All are compared with the header, before a pixel is allocated: what they refuse is a function of the bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_side: int = Field(32, ge=1, description="shorter side, pixels; smaller images are `too_small`")
    max_pixels: int = Field(80_000_000, ge=1, description="width x height in the header; more is `too_many_pixels`")
    max_scans: int = Field(40, ge=1, description="of a JPEG, which usually has 1 or 10; more is `too_many_scans`")
    max_memory: int = Field(
        600_000_000,
        ge=1,
        description="bytes that decoding at full size takes, by the header; more is `too_much_memory`",
    )
    working_side: int = Field(
        960, ge=64, description="JPEGs are decoded at the smallest scale 1/8..1/1 whose longer side reaches this"
    )


class Undecodable(Exception):
    """An image that cannot or must not be decoded; `reason` says why. A function of the bytes and the limits."""

    def __init__(self, reason: Reason, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
