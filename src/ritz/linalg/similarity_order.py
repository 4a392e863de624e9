"""Orders in which neighbors are alike: a greedy chain through points, in groups when there are many.

Algorithm 1 of Wang et al., "Accelerating Data Generation for Neural Operators via Krylov Subspace Recycling", ICLR 2024, arXiv:2401.09516.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numba import njit

from ritz.core import array, integer, random_generator, to_numpy
from ritz.linalg.randomized_svd import randomized_svd


def similarity_order(parameters, *, group_size: int = 1000, start: int | None = 0, rng: np.random.Generator | int | None = None) -> np.ndarray:
    """Return an order of the parameters in which each is near to the one before it.

    From the start on, the chain goes to the nearest member not yet visited, in the Frobenius norm. More than `group_size` members are first split
    into equal groups along their first principal component; the chain goes through the group of the start, then through the group nearest along
    that component, entering each at the member nearest to where it left the last.

    Parameters
    ----------
    parameters : array (N, ...)
        What defines each member: numbers, or a whole field. Real or complex.
    group_size : int
        Members of a group at most, at least 1. Ten thousand need 0.8 GB.
    start : int or None
        The first member; None draws it with `rng`.
    rng : Generator, int or None
        For that draw only: with a start the order is determined.

    Returns
    -------
    array (N,) of int
        A permutation.

    Raises
    ------
    ValueError, TypeError
        If `parameters` is empty or not finite, or `start` is no member.

    Notes
    -----
    Costs ``2 N group_size`` operations per number of a parameter, in products of matrices, and ``N group_size`` for the chain. Reduce large fields
    first: `low_mode_features`.

    References
    ----------
    .. [1] Wang et al., ICLR 2024, arXiv:2401.09516, algorithm 1.

    Examples
    --------
    >>> similarity_order(np.array([0.0, 3.0, 1.0, 2.0]))
    array([0, 2, 3, 1])
    """
    points = _points(parameters)
    group_size = integer(group_size, "group_size", at_least=1)
    rng = random_generator(rng)
    start = int(rng.integers(len(points))) if start is None else integer(start, "start", at_least=0)
    if start >= len(points):
        raise ValueError(f"start must be the index of one of the {len(points)} members of parameters, got {start}")
    if len(points) <= group_size:
        return _chain_through(points, start)
    return _grouped_chain(points, group_size, start)


def low_mode_features(fields, *, modes: int = 12, components: int = 7) -> np.ndarray:
    """Reduce fields on a grid to a few numbers: the principal components of their lowest Fourier modes.

    Parameters
    ----------
    fields : array (N, height, width)
        One real field per member.
    modes : int
        The central `modes` x `modes` Fourier coefficients are kept; of a smaller grid, all.
    components : int
        Principal components of their real and imaginary parts, or as many as there are.

    Returns
    -------
    array (N, components)
        For `similarity_order`.

    Raises
    ------
    ValueError, TypeError
        If `fields` is no finite array of three dimensions.

    References
    ----------
    .. [1] Wang et al., ICLR 2024, arXiv:2401.09516, section 4: sorting by reduced fields.

    Examples
    --------
    >>> low_mode_features(np.random.default_rng(0).random((20, 32, 32))).shape
    (20, 7)
    """
    fields = to_numpy(array(fields, "fields", ndim=3))
    modes, components = integer(modes, "modes", at_least=1), integer(components, "components", at_least=1)
    spectrum = scipy.fft.fftshift(scipy.fft.fft2(fields), axes=(1, 2))
    rows, columns = (slice(max(0, (size - modes + 1) // 2), (size - modes + 1) // 2 + modes) for size in fields.shape[1:])
    points = _points(spectrum[:, rows, columns])
    points = points - points.mean(axis=0)
    U, s, _ = np.linalg.svd(points, full_matrices=False)
    return U[:, :components] * s[:components]


def _points(parameters) -> np.ndarray:
    """The parameters as real rows."""
    values = to_numpy(array(parameters, "parameters", allow_complex=True))
    if values.ndim == 0:
        raise ValueError("parameters must have one entry or more for each member, got a single number")
    rows = values.reshape(len(values), -1)
    return np.hstack([rows.real, rows.imag]) if rows.dtype.kind == "c" else rows


def _grouped_chain(points: np.ndarray, group_size: int, start: int) -> np.ndarray:
    centered = points - points.mean(axis=0)
    leading = randomized_svd(centered, 1, oversampling=min(10, min(centered.shape) - 1), rng=0)
    along = leading.U[:, 0] * leading.s[0]
    groups = np.array_split(np.argsort(along, kind="stable"), -(-len(points) // group_size))
    first = next(i for i, group in enumerate(groups) if start in group)
    centers = np.array([along[group].mean() for group in groups])
    order = []
    for i in _chain_through(centers[:, None], first):
        group = groups[i]
        if order:
            start = group[np.argmin(((points[group] - points[order[-1][-1]]) ** 2).sum(axis=1))]
        order.append(group[_chain_through(points[group], int(np.flatnonzero(group == start)[0]))])
    return np.concatenate(order)


def _chain_through(points: np.ndarray, start: int) -> np.ndarray:
    centered = points - points.mean(axis=0)  # the Gram matrix cancels least around the mean
    squares = np.einsum("ij,ij->i", centered, centered)
    return _chain(squares, centered @ centered.T, start)


@njit(cache=True, nogil=True)
def _chain(squares, gram, start):
    """From `start` always to the nearest point left: squared distances to point i are those of j by ``squares[j] - 2 gram[i, j]``."""
    left = np.ones(len(squares), dtype=np.bool_)
    order = np.empty(len(squares), dtype=np.int64)
    current = start
    for step in range(len(squares)):
        order[step] = current
        left[current] = False
        nearest, smallest = -1, np.inf
        for j in range(len(squares)):
            if left[j]:
                distance = squares[j] - 2 * gram[current, j]
                if distance < smallest or nearest < 0:
                    nearest, smallest = j, distance
        current = nearest
    return order
