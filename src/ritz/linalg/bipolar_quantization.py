"""Real matrices to odd integers of a few bits and a scale for each row or group of columns."""

from __future__ import annotations

import numpy as np
from numba import njit

from ritz.core import array, choice, integer, is_torch, like, matrix, to_numpy
from ritz.linalg.bipolar import MOST_BITS, pack

RATIOS = np.linspace(0.3, 1.0, 60)  # of the largest magnitude, tried for the largest level


def quantize_bipolar(X, bits: int, *, axis: int = -1, scale="mse", group_size: int | None = None):
    """Round a real matrix to the nearest odd integers of `bits` bits times a scale.

    Parameters
    ----------
    X : array or tensor (rows, K)
        What is rounded.
    bits : int
        1 to 8.
    axis : int
        The axis that shares a scale, and along which products are summed: -1 (or 1) for the columns; 0 (or -2) quantizes X^T.
    scale : {"mse", "absmax"} or array (rows,) or (rows, groups)
        "absmax": the largest magnitude is the largest level. "mse": of 60 scales from 0.3 to 1 times that, the one of the least squared error;
        for one bit the mean magnitude, which is optimal. Or the scales themselves, not negative.
    group_size : int, optional
        Columns that share a scale, a divisor of K; all by default. Products with scales need a multiple of 64.

    Returns
    -------
    tensor : BipolarTensor (rows, K)
        The integers, with the scales.
    scale : array (rows,), or (rows, groups) where `group_size` is given
        In the dtype and kind of X.

    Notes
    -----
    w becomes s (2 floor(w / (2 s)) + 1), clipped to the levels: ties go up. Zero is not a level; a row of zeros gets scale 0 and so stays zero.
    Data that are not around zero, such as activations after a ReLU, want an offset: quantize X - z (see `BipolarLinear`).
    Cost: 60 passes over X for "mse", one for the others, on the processor (CUDA tensors are copied there and back).

    References
    ----------
    .. [1] "Efficient Arbitrary Precision Acceleration for Large Language Models on GPU Tensor Cores", ASP-DAC 2025, arXiv:2409.17870, section 3.

    Examples
    --------
    >>> tensor, scale = quantize_bipolar([[0.9, -3.0, 2.1, 1.2]], 2, scale="absmax")
    >>> tensor.to_int(), scale
    (array([[ 1, -3,  3,  1]]), array([1.]))
    """
    bits = integer(bits, "bits", at_least=1, at_most=MOST_BITS)
    X = matrix(X, "X")
    if integer(axis, "axis", at_least=-2, at_most=1) in (0, -2):
        X = X.T
    values = np.ascontiguousarray(to_numpy(X))
    rows, K = values.shape
    size = K if group_size is None else integer(group_size, "group_size", at_least=1)
    if K % size:
        raise ValueError(f"group_size must divide the {K} columns of X, got {size}")
    grouped = values.reshape(-1, size)
    scales = _scales(grouped, bits, scale, rows)
    codes = np.empty(grouped.shape, np.uint8)
    _encode(grouped, scales, bits, codes)
    shaped = scales.astype(values.dtype).reshape((rows,) if group_size is None else (rows, K // size))
    shaped = like(shaped, X)
    return pack(codes.reshape(rows, K), bits, X, shaped), shaped


def best_scales(X: np.ndarray, bits: int, weights: np.ndarray) -> np.ndarray:
    """The scales of the rows of X (rows, K) of the least squared error, the errors of the columns weighted by `weights` (K,)."""
    scales = np.empty(len(X))
    _least_error(X, bits, weights, RATIOS, scales)
    return scales


def _scales(grouped: np.ndarray, bits: int, scale, rows: int) -> np.ndarray:
    if isinstance(scale, str):
        if choice(scale, "scale", ("mse", "absmax")) == "mse":
            return best_scales(grouped, bits, np.ones(grouped.shape[1]))
        return np.abs(grouped).max(axis=1).astype(np.float64) / (2**bits - 1)
    if not (is_torch(scale) or isinstance(scale, np.ndarray)):
        raise TypeError(f"scale must be 'mse', 'absmax' or an array, got {type(scale).__name__}")
    given = to_numpy(array(scale, "scale")).astype(np.float64)
    if given.shape not in ((rows,), (rows, len(grouped) // rows)) or given.size != len(grouped):
        raise ValueError(f"scale must have shape ({rows},) or ({rows}, {len(grouped) // rows}) to scale X, got {given.shape}")
    if given.min() < 0:
        raise ValueError(f"scale must not be negative, got {given.min()}")
    return given.reshape(-1)


@njit(cache=True, nogil=True)
def _code(value, scale, half):
    return min(max(np.floor(value / (2 * scale)) + half, 0.0), 2.0 * half - 1.0)


@njit(cache=True, nogil=True)
def _encode(X, scales, bits, codes):
    half = 2.0 ** (bits - 1)
    for row in range(X.shape[0]):
        scale = scales[row]
        if scale > 0:
            for k in range(X.shape[1]):
                codes[row, k] = np.uint8(_code(X[row, k], scale, half))
        else:
            codes[row] = np.uint8(half)


@njit(cache=True, nogil=True)
def _least_error(X, bits, weights, ratios, scales):
    """One bit: the weighted mean magnitude. More: the best of `ratios` of the largest magnitude as the largest level."""
    half = 2.0 ** (bits - 1)
    for row in range(X.shape[0]):
        largest, total, weight = 0.0, 0.0, 0.0
        for k in range(X.shape[1]):
            largest = max(largest, abs(X[row, k]))
            total += weights[k] * abs(X[row, k])
            weight += weights[k]
        scales[row] = largest / (2 * half - 1)
        if bits == 1:
            scales[row] = total / weight if weight > 0 else largest
        elif largest > 0:
            least = np.inf
            for ratio in ratios:
                scale, error = ratio * largest / (2 * half - 1), 0.0
                for k in range(X.shape[1]):
                    level = scale * (2 * _code(X[row, k], scale, half) - (2 * half - 1))
                    error += weights[k] * (X[row, k] - level) ** 2
                if error < least:
                    least, scales[row] = error, scale
