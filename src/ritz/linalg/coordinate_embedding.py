"""How well a family of sketches keeps one inner product: the oblivious coordinate-wise embedding, measured.

Song and Yu, "Oblivious Sketching-based Central Path Method for Linear Programming", ICML 2021, whose definition is used by
Song, Ye, Yin and Zhang, ICML 2023, arXiv:2302.00248: S is a (beta, delta, n) embedding if for any fixed g and h
``|g^T S^T S h - g^T h| <= (beta / sqrt(m)) ||g|| ||h||`` with probability 1 - delta.
"""

from __future__ import annotations

import math

import numpy as np

from ritz.core import array, integer, random_generator
from ritz.linalg.sketch_operators import Sketch


def coordinate_embedding_constant(S, g, h, trials: int = 100, *, rng: np.random.Generator | int | None = None) -> np.ndarray:
    """Draw sketches of one kind and measure by how much each spoils the inner product of two vectors.

    Parameters
    ----------
    S : sketch (m, n)
        One of the kind and shape, as `srht`, `countsketch` or `TensorSRCT` gives; it is drawn anew for each trial.
    g, h : array (n,)
        The vectors, real and not zero.
    trials : int
        How many sketches are drawn.
    rng : numpy.random.Generator or int, optional
        Where they come from.

    Returns
    -------
    array (trials,)
        ``sqrt(m) |g^T S^T S h - g^T h| / (||g|| ||h||)``, one per trial: the (1 - delta) quantile estimates beta. About one on average; for
        normal entries it grows like log(1 / delta), for CountSketch it can be as large as ``sqrt(m / delta)``.

    Raises
    ------
    ValueError, TypeError
        If S is no sketch, g and h are no finite non-zero vectors that it multiplies, or trials is no positive integer.

    Examples
    --------
    >>> from ritz.linalg import srht
    >>> constants = coordinate_embedding_constant(srht(16, 64), np.ones(64), np.arange(64.0), trials=200, rng=0)
    >>> bool(constants.mean() < 3)
    True
    """
    if not isinstance(S, Sketch):
        raise TypeError(f"S must be a sketch of ritz.linalg (srht, countsketch, ...), got {type(S).__name__}")
    m, n = S.shape
    g, h = (array(vector, name, shape=(n,)) for vector, name in ((g, "g"), (h, "h")))
    norms = [math.sqrt(float(vector @ vector)) for vector in (g, h)]
    for norm, name in zip(norms, "gh"):
        if norm == 0:
            raise ValueError(f"{name} must not be zero")
    trials, rng = integer(trials, "trials", at_least=1), random_generator(rng)
    exact = float(g @ h)
    errors = [float((drawn @ g) @ (drawn @ h)) - exact for drawn in (S.redraw(rng) for _ in range(trials))]
    return math.sqrt(m) * np.abs(errors) / math.prod(norms)
