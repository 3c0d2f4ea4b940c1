"""The four scales of a drawing, and presets of them with the authors' values."""

from typing import NamedTuple


class Scales(NamedTuple):
    """Weights of what a drawing is conditioned on.

    `ip`: face tokens in the UNet's attention; `controlnet`: the pose branch, 0 leaves it out; `guidance`: classifier-free
    guidance, none at 1 or less; `shortcut`: what CLIP adds to the identity in the face tokens.
    """

    ip: float
    controlnet: float
    guidance: float
    shortcut: float = 1.0


# The ends of what the authors' demo draws with; stylisation goes with an empty negative prompt.
PRESETS = {
    "realistic": Scales(0.6, 0.6, 7.5),
    "soft_style": Scales(0.5, 0.1, 7.5),
    "strong_style": Scales(0.1, 0.1, 10.0),
}


def scales_of(preset: str, **overrides: float | None) -> Scales:
    """The preset's scales; each override that is not None replaces its own.

    Raises:
        ValueError: an unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[preset]._replace(**{name: value for name, value in overrides.items() if value is not None})
