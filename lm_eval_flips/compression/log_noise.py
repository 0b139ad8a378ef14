"""Gaussian noise on log-likelihoods, and what the harness's metrics make of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def noisy(loglikelihoods: Floats, *, sizes: Floats, seed: list[int]) -> Floats:
    """Log-likelihoods with seeded noise.

    A log-probability is not above 0: what the noise would carry there becomes 0.

    Args:
        loglikelihoods: nats, ``[samples, requests]``; an infinite one stays as it is.
        sizes: standard deviation of each sample's noise, nats, ``[samples]``.
        seed: of the draws; the same give the same noise.

    Example:
        >>> noisy(np.array([[-1.0, -np.inf], [-2.0, -3.0]]), sizes=np.zeros(2), seed=[0])
        array([[ -1., -inf],
               [ -2.,  -3.]])
    """
    noise = np.random.default_rng(seed).standard_normal(loglikelihoods.shape)
    return np.minimum(loglikelihoods + sizes[:, None] * noise, np.maximum(loglikelihoods, 0.0))


def correct(compared: Floats, gold: NDArray[np.bool_], own: NDArray[np.bool_]) -> Floats:
    """Whether the best choice is a right one, 1 or 0; of equals the first (lm_eval 0.4.13).

    Args:
        compared: what a metric compares, ``[samples, choices]``.
        gold: the right choices.
        own: the choices that a sample has.

    Example:
        >>> known = np.array([[True, True, False]])
        >>> correct(np.array([[-2.0, -1.0, np.nan]]), np.array([[False, True, False]]), known)
        array([1.])
    """
    best = np.where(own, compared, -np.inf).argmax(-1)
    return np.asarray(gold[np.arange(len(gold)), best], np.float64)
