"""The scales that a drawing is weighed by, and the authors' settings of them as presets."""

from typing import NamedTuple


class Scales(NamedTuple):
    """`ip`: face tokens in the UNet's attention. `controlnet`: pose branch, 0 leaves it out. `guidance`:
    classifier-free, at most 1 is none. `shortcut`: what CLIP adds to the identity in the tokens."""

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


def scales_of(preset: str, **given: float | None) -> Scales:
    """The preset's scales, with those that are given in their place.

    Raises:
        ValueError: an unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[preset]._replace(**{name: value for name, value in given.items() if value is not None})
