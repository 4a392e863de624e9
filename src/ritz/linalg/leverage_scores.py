"""Leverage scores: how much a single row can matter for the 2-norm of ``A x``.

``tau_i = max_x (a_i^T x)^2 / ||A x||_2^2``, the squared norm of the i-th row of an orthonormal basis of A's range; they sum to its rank.
The sketched scores are those of Drineas, Magdon-Ismail, Mahoney and Woodruff, "Fast Approximation of Matrix Coherence and Statistical Leverage",
JMLR 13 (2012), arXiv:1109.3843: a triangle from a sketch of A, and the row norms of ``A R^-1`` from a product with few Gaussian vectors.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
import scipy.sparse

from ritz.core import choice, is_torch, like, matrix, random_generator, sparse_matrix, to_numpy
from ritz.linalg.krylov_system import is_sparse_tensor
from ritz.linalg.sketches import countsketch, srht


def leverage_scores(A, *, method: str = "qr", rng: np.random.Generator | int | None = None):
    """Return the leverage scores of the rows of A.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, d)
        Real. Any rank; a zero row has score 0. torch data are computed on the host.
    method : {"qr", "sketch"}
        - "qr": exact, from an orthonormal basis.
        - "sketch": within a factor of about two: A's triangle from an `srht` of ``16 d + 64`` rows (sparse A: a `countsketch` of
          ``4 d^2 + 64``), row norms from ``ceil(8 log(n))`` Gaussian vectors, none if d is less.
    rng : numpy.random.Generator or int, optional
        For the sketch.

    Returns
    -------
    array or torch tensor (n,)
        Between 0 and 1, float64 (torch: of A's dtype).

    Raises
    ------
    TypeError, ValueError
        If A is no finite real matrix, or is empty.

    Notes
    -----
    "qr" costs ``2 n d^2`` multiply-adds and n d numbers of memory; "sketch" ``O(n d log n + d^3)``, and never makes a sparse A dense.

    Examples
    --------
    >>> leverage_scores(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, 0.0]])).round(12)
    array([0.5, 0.5, 1. , 0. ])
    """
    entries, rng = real_matrix(A, "A"), random_generator(rng)
    sketched = choice(method, "method", ("qr", "sketch")) == "sketch"
    scores = _sketched_scores(entries, rng) if sketched else np.sum(orthonormal_basis(entries) ** 2, axis=1)
    scores = np.minimum(scores, 1.0)
    return like(scores, A).to(A.dtype) if is_torch(A) else scores


def real_matrix(A, name: str):
    """Check a matrix of any explicit kind; return NumPy or CSR, in single precision (which tells its rank) or double."""
    is_sparse = scipy.sparse.issparse(A) or is_sparse_tensor(A)
    entries = sparse_matrix(A, name) if is_sparse else to_numpy(matrix(A, name))
    if 0 in entries.shape:
        raise ValueError(f"{name} must not be empty, got shape {entries.shape}")
    return entries if entries.dtype == np.float32 else entries.astype(np.float64, copy=False)


def orthonormal_basis(A) -> np.ndarray:
    """An orthonormal basis (n, r) of the range of A in double precision, r the rank in A's; columns are brought to one scale first."""
    dense = (A.toarray() if scipy.sparse.issparse(A) else A).astype(np.float64, copy=False)
    largest = np.max(np.abs(dense), axis=0)
    dense = dense[:, largest > 0] / largest[largest > 0]
    norms = np.linalg.norm(dense, axis=0)
    if norms.size == 0:
        return np.zeros((A.shape[0], 0))
    Q, R, _ = scipy.linalg.qr(dense / norms, mode="economic", pivoting=True, check_finite=False, overwrite_a=True)
    diagonal = np.abs(np.diag(R))
    rank = int(np.sum(diagonal > max(A.shape) * np.finfo(A.dtype).eps * diagonal[0]))
    return Q[:, :rank]


def _sketched_scores(A, rng: np.random.Generator) -> np.ndarray:
    n, d = A.shape
    S = countsketch(min(n, 4 * d * d + 64), n, rng) if scipy.sparse.issparse(A) else srht(min(n, 16 * d + 64), n, rng)
    _, s, Vh = scipy.linalg.svd(S @ A, full_matrices=False)
    kept = s > max(A.shape) * np.finfo(A.dtype).eps * s[0]
    whiten = Vh[kept].T / s[kept]
    probes = math.ceil(8 * math.log(n + 1))
    if probes < whiten.shape[1]:
        whiten = whiten @ rng.standard_normal((whiten.shape[1], probes)) / math.sqrt(probes)
    return np.sum((A @ whiten) ** 2, axis=1)
