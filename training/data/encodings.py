"""What the frozen encoders can have computed of a sample beforehand, and which field of a micro-batch it becomes."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """`field`: of a micro-batch; `words`: what a person calls it."""

    field: str
    words: str


# a sample with one of these as a member (ID.vae.npy, ID.clip.npy) needs no encoder for it
KINDS = {"vae": Kind("moments", "VAE moments"), "clip": Kind("clip_states", "CLIP features")}
