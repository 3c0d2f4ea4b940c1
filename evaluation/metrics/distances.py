"""Distances between two sets of pictures by their features: FID, KID and CMMD, in float64.

Features come from a network that the caller names with every figure; these functions know none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from scipy import linalg

Distance = Callable[[np.ndarray, np.ndarray], float]

CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0  # of the paper (Jayasumana et al. 2024, arXiv 2401.09603)
PUBLISHED_EPSILON, PUBLISHED_IMAGINARY = 1e-6, 1e-3  # of the published fid_score.py
HEADLINE_AT = 2048  # pictures: below that the covariance of 2048 features is singular, and FID mostly bias


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """FID (Heusel et al. 2017) of features (n, d) and (m, d): |mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    With C = R'R, the trace of the root is the sum of the singular values of R1 R2': nothing is squared and rooted again, no
    complex root has to be cut off, and identical sets give 0 where there are fewer pictures than features, too.

    Raises:
        ValueError: fewer than two rows, different widths, or a number that is not finite.
    """
    first, second = _checked(one, other)
    difference = first.mean(axis=0) - second.mean(axis=0)
    roots = [linalg.qr((x - x.mean(axis=0)) / np.sqrt(len(x) - 1), mode="r")[0][: x.shape[1]] for x in (first, second)]
    traces = sum(float((root**2).sum()) for root in roots)
    return float(difference @ difference + traces - 2 * linalg.svdvals(roots[0] @ roots[1].T).sum())


def published_frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """FID as the published fid_score.py computes it, by a matrix root: at 2,048 features most of a minute.

    Raises:
        ValueError: as of `frechet_distance`; and where that script ends with an error.
    """
    first, second = _checked(one, other)
    difference = first.mean(axis=0) - second.mean(axis=0)
    covariances = [np.cov(rows, rowvar=False) for rows in (first, second)]
    with warnings.catch_warnings(category=linalg.LinAlgWarning, action="ignore"):  # of few pictures it is singular
        root = linalg.sqrtm(covariances[0] @ covariances[1])
    if not np.isfinite(root).all():  # only then
        apart = PUBLISHED_EPSILON * np.eye(len(root))
        root = linalg.sqrtm((covariances[0] + apart) @ (covariances[1] + apart))
    if np.iscomplexobj(root):
        if not np.allclose(np.diagonal(root).imag, 0, atol=PUBLISHED_IMAGINARY):
            raise ValueError(f"the published script ends with: Imaginary component {np.abs(root.imag).max()}")
        root = root.real
    return float(difference @ difference + sum(map(np.trace, covariances)) - 2 * np.trace(root))


def kernel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """KID (Binkowski et al. 2018): the unbiased squared MMD with the kernel (x . y / d + 1)^3; it may be below 0."""
    first, second = _checked(one, other)
    width = first.shape[1]
    return _unbiased_mmd(*(((a @ b.T) / width + 1) ** 3 for a, b in _pairs(first, second)))


def cmmd(one: np.ndarray, other: np.ndarray) -> float:
    """CMMD: the squared MMD of L2-normalised CLIP features with a Gaussian kernel, times 1000, as its authors compute it.

    Theirs is the biased estimate, with each picture beside itself, so identical sets give 0.
    """
    first, second = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in _checked(one, other))

    def mean_kernel(a: np.ndarray, b: np.ndarray) -> float:
        squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
        return float(np.exp(-np.clip(squared, 0, None) / (2 * CMMD_SIGMA**2)).mean())

    within, across, beside = (mean_kernel(a, b) for a, b in _pairs(first, second))
    return CMMD_SCALE * (within + beside - 2 * across)


def half_samples(
    one: np.ndarray,
    other: np.ndarray,
    owners: tuple[np.ndarray, np.ndarray],
    distance: Distance,
    times: int = 100,
    seed: int = 0,
) -> np.ndarray:
    """(times,) distances of random halves, all pictures of a reference together; `owners`: the reference of each row.

    A bootstrap would be biased upward: a picture drawn twice makes a set narrower. The scatter of halves drawn without
    replacement is that of the whole figure (the variance of a half about the whole is (1 - 1/2) / (1/2) = 1 of it).

    Raises:
        ValueError: fewer than four references, or a half without two pictures a side.
    """
    first, second = _checked(one, other)
    names = np.unique(np.concatenate(owners))
    if len(names) < 4:
        raise ValueError(f"{len(names)} references cannot be halved")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(times):
        half = rng.choice(names, len(names) // 2, replace=False)
        rows = [values[np.isin(owner, half)] for values, owner in zip((first, second), owners, strict=True)]
        found.append(distance(*rows))
    return np.array(found)


def _pairs(first: np.ndarray, second: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return (first, first), (first, second), (second, second)


def _unbiased_mmd(within: np.ndarray, across: np.ndarray, beside: np.ndarray) -> float:
    def off_diagonal(kernel: np.ndarray) -> float:
        n = len(kernel)
        return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))

    return off_diagonal(within) + off_diagonal(beside) - 2 * float(across.mean())


def _checked(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"features have the shapes {first.shape} and {second.shape}: give (n, d) and (m, d)")
    if min(len(first), len(second)) < 2:
        raise ValueError(f"a distance needs two pictures on each side, got {len(first)} and {len(second)}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("features hold a number that is not finite")
    return first, second
