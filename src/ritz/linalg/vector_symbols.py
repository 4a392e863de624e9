"""The three operations of MBAT, Matrix Binding of Additive Terms: bind, bundle, and sequences as powers of one matrix.

Gallant and Okaywe, "Representing Objects, Relations, and Sequences", Neural Computation 2013.
With orthogonal matrices: Gallant 2022, arXiv:2202.04771.

Things are vectors. Several of them together are their sum; one in a role is its product with the role's matrix. Binding does not commute, on purpose:
the price of a part is not the part of a price.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ritz.core import array, is_torch, like, matrix, to_numpy
from ritz.linalg.keyed_randomness import keyed_signs
from ritz.linalg.matrix_kinds import checked_matrix, stored


def bind(Q, v):
    """Put a vector into the role of a matrix: Q v.

    Parameters
    ----------
    Q : matrix (D, D) of any kind
        Orthogonal (see `OrthogonalFamily`) it keeps norms and angles, and ``bind(Q.T, bind(Q, v))`` is v.
    v : array or torch tensor (D,) or (D, k)
        A vector, or several as columns.

    Returns
    -------
    array or torch tensor
        Of v's shape and kind.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    One product with Q. Source: Gallant 2022, arXiv:2202.04771.

    Examples
    --------
    >>> bind(np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([1.0, 0.0]))
    array([0., 1.])
    """
    Q = checked_matrix(Q, "Q", square=True)
    v = array(v, "v", ndim=(1, 2))
    if v.shape[0] != Q.shape[0]:
        raise ValueError(f"v must have as many rows as Q, {Q.shape[0]}, got shape {tuple(v.shape)}")
    return _product(Q, v)


def bundle(vectors, weights=None):
    """Put vectors together: their sum, or weighted sum, similar to each of them.

    Parameters
    ----------
    vectors : array or torch tensor (n, D)
        The vectors as rows.
    weights : array (n,), optional
        Their weights; 1 by default.

    Returns
    -------
    array or torch tensor (D,)

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    n D additions. Of N candidates, the members of a bundle of orthogonal-like vectors are told apart reliably up to about D / (2 ln N) members.
    Source: Gallant 2022, arXiv:2202.04771.

    Examples
    --------
    >>> bundle(np.eye(3), [1.0, 2.0, 3.0])
    array([1., 2., 3.])
    """
    vectors = matrix(vectors, "vectors")
    if weights is None:
        return vectors.sum(0)
    weights = array(weights, "weights", ndim=1)
    if weights.shape[0] != vectors.shape[0]:
        raise ValueError(f"weights must be one for each of the {vectors.shape[0]} vectors, got {weights.shape[0]}")
    return like(to_numpy(weights), vectors).to(vectors.dtype) @ vectors if is_torch(vectors) else to_numpy(weights).astype(vectors.dtype) @ vectors


def sequence(vectors, Q):
    """Put vectors in order: ``x_1 + Q x_2 + Q^2 x_3 + ...``.

    Parameters
    ----------
    vectors : array or torch tensor (n, D)
        The vectors x_1 ... x_n as rows.
    Q : matrix (D, D) of any kind
        The matrix of the step; ``Q.T`` applied i times, for orthogonal Q, brings element i + 1 back, with the others as noise.

    Returns
    -------
    array or torch tensor (D,)

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    n - 1 products with Q, by Horner's rule. Source: Gallant 2022, arXiv:2202.04771.

    Examples
    --------
    >>> quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    >>> sequence(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), quarter)
    array([0., 1.])
    """
    vectors = matrix(vectors, "vectors")
    Q = checked_matrix(Q, "Q", square=True)
    if vectors.shape[1] != Q.shape[0]:
        raise ValueError(f"vectors must have rows of length {Q.shape[0]}, the order of Q, got shape {tuple(vectors.shape)}")
    total = vectors[-1]
    for i in range(len(vectors) - 2, -1, -1):
        total = vectors[i] + _product(Q, total)
    return total


def symbol_vectors(names: Iterable[str | bytes], D: int, seed: int) -> np.ndarray:
    """Return random unit vectors (n, D) as float32, signs over sqrt(D): a function of seed and name."""
    names = list(names)
    return keyed_signs(names, D, seed).astype(np.float32) / np.float32(np.sqrt(D))


def _product(Q, v):
    if is_torch(stored(Q)):
        if not is_torch(v):
            raise TypeError(f"Q must be no torch tensor where the vectors are NumPy arrays, got {type(Q).__name__}")
        return Q @ v
    return like(Q @ to_numpy(v), v)
