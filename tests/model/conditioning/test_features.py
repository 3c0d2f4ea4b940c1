"""Two people mixed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.conditioning.features import mix


@pytest.mark.parametrize("shape", [(128,), (2, 4, 8)])
def test_a_mix_goes_from_the_first_to_the_second(shape):
    generator = np.random.default_rng(3)
    first, second = (generator.normal(size=shape).astype(np.float32) for _ in range(2))
    assert (mix(first, second, 0) == first).all() and (mix(first, second, 1) == second).all()
    assert np.allclose(mix(first, second), (first + second) / 2)
    assert np.allclose(mix(first, second, 0.25), 0.75 * first + 0.25 * second)
    assert mix(first, second).dtype == np.float32
    for renormalise in (False, True):
        expected = mix(first, second, 0.3, renormalise)
        tensor = mix(torch.from_numpy(first), torch.from_numpy(second), 0.3, renormalise)
        assert tensor.dtype == torch.float32 and np.allclose(tensor.numpy(), expected, atol=1e-6)
    assert np.allclose(np.linalg.norm(expected, axis=-1), 1, atol=1e-6)


def test_the_authors_mix_is_shorter_than_one():
    first, second = np.eye(4, dtype=np.float32)[:2]
    assert np.linalg.norm(mix(first, second)) == pytest.approx(0.5**0.5)
    assert np.linalg.norm(mix(first, second, renormalise=True)) == pytest.approx(1)


def test_what_cannot_be_mixed_is_refused():
    vector = np.ones(4, np.float32)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="take 0 .* to 1"):
            mix(vector, vector, alpha)
    with pytest.raises(ValueError, match=r"\(4,\) and \(5,\) cannot be mixed: take both from the same encoder"):
        mix(vector, np.ones(5, np.float32))
    with pytest.raises(ValueError, match="cancel out"):
        mix(vector, -vector, renormalise=True)
