"""What the demo page takes, and how much of it. Widgets hold the limits in the browser only: `check` holds them here."""

from __future__ import annotations

from dataclasses import dataclass

from common.decode import ImageLimits
from model.presets import Scales

MAX_PROMPT = 1000  # letters
MAX_STEPS, MAX_PICTURES, MAX_SEED = 100, 8, 2**31 - 1
MAX_GUIDANCE = 10
PHOTO = ImageLimits(max_pixels=50_000_000)


@dataclass(frozen=True)
class DrawRequest:
    """The settings of one drawing. `alpha`: share of the second face; `record_prompt`: files name the prompt."""

    prompt: str
    negative_prompt: str
    scales: Scales
    seed: int
    steps: int
    count: int
    alpha: float = 0.5
    record_prompt: bool = False


def check(request: DrawRequest) -> None:
    """Refuse what no widget of the page could have sent.

    Raises:
        ValueError: a limit is exceeded; a sentence for the user.
    """
    if max(len(request.prompt), len(request.negative_prompt)) > MAX_PROMPT:
        raise ValueError(f"A prompt has at most {MAX_PROMPT} letters: shorten it.")
    scales = request.scales
    limited = [
        (request.steps, 1, MAX_STEPS, "steps"),
        (request.count, 1, MAX_PICTURES, "pictures"),
        (request.seed, 0, MAX_SEED, "as the seed"),
        (scales.guidance, 0, MAX_GUIDANCE, "as guidance scale"),
        *((scale, 0, 1, "as scale") for scale in (scales.ip, scales.controlnet, scales.shortcut)),
        (request.alpha, 0, 1, "as the share of the second face"),
    ]
    for value, least, most, name in limited:
        # written so that a number that is none (NaN) is refused, too
        if not least <= value <= most:
            raise ValueError(f"Take {least} to {most} {name}.")
