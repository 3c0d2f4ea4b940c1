"""Checks of arguments: arrays of a known shape, and one of several names."""

from typing import Any, get_args

import numpy as np


def finite_array(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`value` as float32 of that shape; `what` names it in errors.

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    array = np.array(value, np.float32)
    if array.shape != shape:
        raise ValueError(f"{what}: expected the shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{what}: not finite: {array.tolist()}; they come from a failed detection or a bad file")
    return array


def check_choice(what: str, value: str, choices: Any) -> None:
    """`value` is one of a Literal's.

    Raises:
        ValueError: it is not; with those that are.
    """
    if value not in get_args(choices):
        raise ValueError(f"{what} is {value!r}; choose one of {', '.join(get_args(choices))}")
