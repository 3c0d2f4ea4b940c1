"""Every random number of a training run has a name, so that it can be drawn again.

A draw is keyed by (seed, stream, t, i): the run's seed, what the number is for ("noise", "timestep", ...), the global
step and the slot in its batch. Nothing else has a say: not the rank, not the loader's worker, not what was drawn
before. So a checkpoint holds no random state, and another world size draws the same numbers.

What is written here is for ever: another hash, or another spelling of the key, is another run.
"""

from __future__ import annotations

import hashlib

import numpy as np


def _digest(parts: tuple[int | str, ...], size: int) -> int:
    # "/" parts the fields: only the one text among them may hold a "/", so no two keys have one spelling
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "little")


def keyed_seed(seed: int, stream: str, t: int, i: int) -> int:
    """What to seed the generator of one draw with.

    blake2b (RFC 7693) with a digest of 8 bytes, read little-endian, of the text "SEED/STREAM/T/I".

    Args:
        seed: the run's seed.
        stream: what the number is for; streams are independent of each other.
        t: global step, from 0.
        i: slot in the global batch, from 0.

    Returns:
        0 <= value < 2**64.
    """
    return _digest((int(seed), stream, int(t), int(i)), 8)


def keyed_permutation(n: int, seed: int, stream: str, *key: int) -> np.ndarray:
    """The numbers below `n` in an order that hangs on (seed, stream, key) alone.

    Each number gets a random sort key from Philox (Salmon et al., 2011). Only the raw output of numpy's bit
    generators is promised to stay the same; `Generator.permutation` is not.

    Args:
        n: at most 2**32.

    Returns:
        (n,) int64.
    """
    bits = max(int(n) - 1, 0).bit_length()
    generator = np.random.Philox(key=_digest((int(seed), stream, *(int(part) for part in key)), 16))
    # The low bits hold the number itself: no two keys are equal, so every sorting algorithm gives one answer.
    low = np.uint64((1 << bits) - 1)
    keys = (generator.random_raw(n) & ~low) | np.arange(n, dtype=np.uint64)
    keys.sort()
    return (keys & low).astype(np.int64)
