"""A low-rank matrix from some of its entries, by alternating minimization whose half-steps are solved only as well as they need to be.

Gu, Song, Yin and Zhang, "Low Rank Matrix Completion via Robust Alternating Minimization in Nearly Linear Time", ICLR 2024, arXiv:2302.11068;
the algorithm they make robust is that of Jain, Netrapalli and Sanghavi, "Low-Rank Matrix Completion Using Alternating Minimization", STOC 2013,
arXiv:1212.0467: spectral start, clipping, and, for the analysis, fresh samples in each half-step.

With one factor fixed and orthonormal, the other comes from one small least-squares problem per row or column, ``O(n_j k^2)`` each if solved exactly.
The paper shows that an error of a fraction of the current distance does not slow the outer iteration down, so a few steps of a warm-started
iterative solver, ``O(n_j k)`` each, are enough: ``|Omega| k`` for an iteration instead of ``|Omega| k^2``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from ritz.core import (
    Result,
    choice,
    flag,
    integer,
    is_torch,
    like,
    random_generator,
    real,
    same_shape,
    sparse_matrix,
    to_numpy,
    warn_not_converged,
)
from ritz.linalg.matrix_kinds import is_sparse_tensor
from ritz.linalg.randomized_svd import randomized_svd
from ritz.linalg.row_least_squares import Accuracy, HalfStep, solve_rows


@dataclass(frozen=True, eq=False, repr=False)
class MatrixCompletion(Result):
    """A completed matrix ``U V^T`` of rank k.

    Attributes
    ----------
    U : array (m, k)
        Orthonormal columns.
    V : array (n, k)
        The rest.
    converged : bool
        Whether the residual reached the tolerance, or stopped changing by more than it.
    iterations : int
        How many pairs of half-steps were taken.
    residual_norms : array (iterations,)
        ``||P_Omega(U V^T - M)||_F / ||P_Omega(M)||_F`` after each.
    inner_iterations : array (iterations,) of int
        Steps of the inner solver in each, summed over all rows and columns; 0 where solved directly.
    underdetermined : int
        Rows and columns with fewer than k observed entries: their part of the factors is the one of least norm.
    """

    U: np.ndarray
    V: np.ndarray
    converged: bool
    iterations: int
    residual_norms: np.ndarray
    inner_iterations: np.ndarray
    underdetermined: int

    def predict(self, rows, cols):
        """Return the entries at the positions (rows, cols), two arrays of indices of one length: (count,)."""
        rows, cols = positions(rows, "rows", len(self.U)), positions(cols, "cols", len(self.V))
        same_shape(rows, "rows", cols, "cols")
        return (self.U[rows] * self.V[cols]).sum(-1)

    def dense(self):
        """Return the whole matrix (m, n)."""
        return self.U @ self.V.T


def complete_matrix(
    M,
    k: int,
    *,
    mask=None,
    solver: str = "cg",
    inner_tol: float = 1e-3,
    max_inner: int = 10,
    iterations: int = 50,
    tol: float = 1e-6,
    regularization: float = 0.0,
    init: str = "spectral",
    incoherence: float | None = None,
    split: bool = False,
    rng: np.random.Generator | int | None = None,
) -> MatrixCompletion:
    """Fill in a matrix of rank k from its observed entries.

    Minimizes ``||P_Omega(U V^T - M)||_F^2 + regularization ||U V^T||_F^2`` in turn over V and U, the other one orthonormal.

    Parameters
    ----------
    M : sparse array, array or torch tensor (m, n)
        Sparse: stored entries are observed, explicit zeros too (duplicates are summed). Dense: entries where `mask` is True, or without a mask those
        that are not NaN. Computed in its dtype; integers count as float64.
    k : int
        Rank, at most ``min(m, n)``.
    mask : array of bool (m, n), optional
        Which entries of a dense M are observed; the others may be anything.
    solver : {"cg", "sketch", "exact"}
        How a half-step's least-squares problems, with matrices A_j (n_j, k), are solved.

        - "cg": conjugate gradients on the normal equations, from the current factor. After the other factor has been made orthonormal, A_j is well
          conditioned if that factor is incoherent, and 3 to 5 steps suffice. A problem on which ``max_inner`` steps reach neither the
          tolerance nor ``2^(1 - max_inner)``, what the sketch guarantees, goes on with "sketch".
        - "sketch": the same, preconditioned by the triangular factor of a sketch of A_j with 8 k rows, whose condition number is
          about 2.1 for any A_j. Problems with ``n_j < 8 k`` are solved directly.
        - "exact": Cholesky's factorization of ``A_j^T A_j``, or singular values where that is ill-conditioned. The baseline.
    inner_tol : float
        How far an inner solve reduces the gradient ``||A_j^T r||`` of where it starts. 0.1 is enough where entries are many and singular values
        alike.
    max_inner : int
        Most steps of an inner solve.
    iterations : int
        Most pairs of half-steps.
    tol : float
        Stop when the relative residual is below it, or changes from one iteration to the next by less than this fraction (noise, or too small a
        rank).
    regularization : float
        Weight against overfitting, relative to the number of observed entries of a row or column as a fraction of all: 0.01 is little,
        the observed fraction itself halves what is fitted.
    init : {"spectral", "random"}
        Start from the leading singular vectors of the observed entries, zeros elsewhere, or from a random orthonormal U.
    incoherence : float, optional
        The mu of the theory, at least 1: entries of the first U above ``2 mu sqrt(k / m)`` in magnitude are set to zero. By default nothing is
        clipped.
    split : bool
        Use a random part of the entries of its own for the start and each half-step, as the analysis wants it: needs ``2 iterations + 1`` times as
        many entries. By default all entries are used each time, which needs fewest.
    rng : numpy.random.Generator or int, optional
        Where the start, the sketches and the parts come from.

    Returns
    -------
    MatrixCompletion
        U and V are torch tensors if M is one.

    Warns
    -----
    UserWarning
        If rows or columns have no observed entry: their factors are zero.
    ConvergenceWarning
        If the tolerance was not reached.

    Raises
    ------
    ValueError, TypeError
        If nothing is observed, an observed entry is not finite, the mask does not fit, or an option is out of range.

    Notes
    -----
    Time ``O(|Omega| k s)`` for an iteration with s inner steps ("exact": ``O(|Omega| k^2 + (m + n) k^3)``), memory ``O(|Omega| + (m + n) k)``; the
    m x n matrix is never formed. Rows are shared by numba's threads, without effect on the result.

    The paper takes gradient steps on the sketched problem; conjugate gradients need no step size and fewer steps. It leaves open whether
    clipping acts on entries or rows: entries, as in Jain, Netrapalli and Sanghavi. The theory asks for an inner error below a fraction of
    the distance to the solution. The gradient at the warm start measures that distance; the residual of the whole matrix does not
    where noise or a small singular value dominates it, and a tolerance relative to it would stop the inner solver before its first step.

    References
    ----------
    .. [1] Gu, Song, Yin and Zhang, ICLR 2024, arXiv:2302.11068.
    .. [2] Jain, Netrapalli and Sanghavi, STOC 2013, arXiv:1212.0467.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> M = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 50))
    >>> observed = np.where(rng.random(M.shape) < 0.4, M, np.nan)
    >>> found = complete_matrix(observed, 2, tol=1e-10, rng=0)
    >>> bool(np.allclose(found.dense(), M))
    True
    """
    observed = observed_entries(M, mask)
    k = integer(k, "k", at_least=1)
    if k > min(observed.shape):
        raise ValueError(f"k must be at most {min(observed.shape)}, the shorter side of M of shape {observed.shape}, got {k}")
    options = Options.checked(solver, inner_tol, max_inner, iterations, tol, regularization, init, incoherence, split)
    rng = random_generator(rng)
    found = alternate(observed, k, options, rng)
    if not found.converged:
        warn_not_converged(f"{found.iterations} iterations left a relative residual of {found.residual_norms[-1]:.3}, still falling faster than tol")
    return MatrixCompletion(**found.as_dict() | {"U": like(found.U, M), "V": like(found.V, M)})


@dataclass(frozen=True)
class Options:
    """The checked options of `complete_matrix`."""

    solver: str
    inner_tol: float
    max_inner: int
    iterations: int
    tol: float
    regularization: float
    init: str
    incoherence: float | None
    split: bool

    @classmethod
    def checked(cls, solver, inner_tol, max_inner, iterations, tol, regularization, init, incoherence, split) -> Options:
        """Check each option under its own name."""
        return cls(
            choice(solver, "solver", ("cg", "sketch", "exact")),
            real(inner_tol, "inner_tol", at_least=0, below=1),
            integer(max_inner, "max_inner", at_least=1),
            integer(iterations, "iterations", at_least=1),
            real(tol, "tol", at_least=0),
            real(regularization, "regularization", at_least=0),
            choice(init, "init", ("spectral", "random")),
            None if incoherence is None else real(incoherence, "incoherence", at_least=1),
            flag(split, "split"),
        )


def observed_entries(M, mask=None, name: str = "M") -> scipy.sparse.csr_array:
    """Return the observed entries of a sparse matrix, or of a dense one with a mask or NaN, as the stored entries of a CSR array.

    Raises
    ------
    ValueError, TypeError
        As in `complete_matrix`.
    """
    if scipy.sparse.issparse(M) or is_sparse_tensor(M):
        if mask is not None:
            raise ValueError(f"mask must be None for a sparse {name}, whose stored entries are the observed ones")
        observed = sparse_matrix(M, name)
    else:
        if is_torch(M) and M.device.type != "cpu":
            raise ValueError(f"{name} must be on the CPU, got a tensor on {M.device}: pass {name}.cpu()")
        observed = _observed_of_dense(to_numpy(M, name), mask, name)
    if observed.nnz == 0:
        raise ValueError(f"{name} must have an observed entry, got none in shape {observed.shape}")
    return observed


def _observed_of_dense(M: np.ndarray, mask, name: str) -> scipy.sparse.csr_array:
    if M.ndim != 2:
        raise ValueError(f"{name} must be a matrix, got {M.ndim} dimension(s), shape {M.shape}")
    if M.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be a matrix of real numbers, got dtype {M.dtype}")
    if mask is None:
        chosen = ~np.isnan(M)
    else:
        chosen = to_numpy(mask, "mask")
        if chosen.dtype != bool:
            raise TypeError(f"mask must hold True and False, got dtype {chosen.dtype}")
        same_shape(M, name, chosen, "mask")
    indptr = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))])
    return sparse_matrix(scipy.sparse.csr_array((M[chosen], np.nonzero(chosen)[1], indptr), shape=M.shape), name)


def positions(value, name: str, size: int) -> np.ndarray:
    """Check an array of indices below `size`."""
    indices = to_numpy(value, name)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got dtype {indices.dtype}")
    if indices.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension, got shape {indices.shape}")
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(f"{name} must be from 0 to {size - 1}, got {indices.min()} to {indices.max()}")
    return indices.astype(np.int64)


def alternate(observed: scipy.sparse.csr_array, k: int, options: Options, rng: np.random.Generator) -> MatrixCompletion:
    """Complete a matrix of checked entries."""
    _warn_of_empty(observed)
    scale = float(np.sqrt(np.mean(np.square(observed.data, dtype=np.float64)))) or 1.0
    observed = scipy.sparse.csr_array((observed.data / observed.dtype.type(scale), observed.indices, observed.indptr), shape=observed.shape)
    parts = _random_parts(observed, 2 * options.iterations + 1, rng) if options.split else [observed] * (2 * options.iterations + 1)
    transposes = [_transposed(part) for part in parts[1::2]] if options.split else [_transposed(observed)] * options.iterations
    U, V = _start(parts[0], k, options, rng)
    total = float(np.linalg.norm(observed.data)) or 1.0
    history, steps, converged = [], [], False
    for by_column, by_row in zip(transposes, parts[2::2]):
        V, _, first = half_step(by_column, U, V, options, rng)
        V, U = _orthonormal_first(V, U)
        U, squares, second = half_step(by_row, V, U, options, rng)
        U, V = _orthonormal_first(U, V)
        residual = (_residual_of(observed, U, V) if options.split else float(np.sqrt(np.sum(squares, dtype=np.float64)))) / total
        history.append(residual)
        steps.append(int(first.sum() + second.sum()))
        converged = residual <= options.tol or (len(history) > 1 and abs(history[-2] - residual) <= options.tol * history[-2])
        if converged:
            break
    V = V * V.dtype.type(scale)
    return MatrixCompletion(U, V, bool(converged), len(history), np.array(history), np.array(steps), int(np.sum(_counts(observed) < k)))


def half_step(entries: scipy.sparse.csr_array, factor: np.ndarray, start: np.ndarray, options: Options, rng: np.random.Generator) -> HalfStep:
    """Solve for the factor of the rows of `entries`, the other one given, with fresh sketches."""
    accuracy = Accuracy(options.inner_tol, options.max_inner)
    return solve_rows(entries, factor, start, options.solver, accuracy, options.regularization, int(rng.integers(2**62)))


def _orthonormal_first(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same product ``left right^T`` with an orthonormal left factor: the next half-step's problems are well conditioned."""
    Q, R = np.linalg.qr(left)
    return Q, right @ R.T


def _start(observed: scipy.sparse.csr_array, k: int, options: Options, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal U (m, k), and the V (n, k) that iterations start from."""
    m, n = observed.shape
    if options.init == "random":
        return np.linalg.qr(rng.standard_normal((m, k)).astype(observed.dtype))[0], np.zeros((n, k), observed.dtype)
    found = randomized_svd(observed, k, rng=rng)
    U, V = found.U, found.Vh.T * (found.s * observed.dtype.type(m * n / max(observed.nnz, 1)))
    if options.incoherence is not None:
        U = np.linalg.qr(np.where(np.abs(U) > 2 * options.incoherence * np.sqrt(k / m), 0, U).astype(U.dtype))[0]
    return U, V


def _random_parts(observed: scipy.sparse.csr_array, count: int, rng: np.random.Generator) -> list[scipy.sparse.csr_array]:
    """The entries in random parts, each entry in one."""
    part = rng.integers(count, size=observed.nnz)
    rows = np.repeat(np.arange(observed.shape[0]), np.diff(observed.indptr))
    parts = []
    for i in range(count):
        chosen = part == i
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[chosen], minlength=observed.shape[0]))])
        parts.append(scipy.sparse.csr_array((observed.data[chosen], observed.indices[chosen], indptr), shape=observed.shape))
    return parts


def _transposed(entries: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    by_columns = entries.tocsc()
    return scipy.sparse.csr_array((by_columns.data, by_columns.indices, by_columns.indptr), shape=entries.shape[::-1])


def _residual_of(observed: scipy.sparse.csr_array, U: np.ndarray, V: np.ndarray) -> float:
    rows = np.repeat(np.arange(observed.shape[0]), np.diff(observed.indptr))
    return float(np.linalg.norm(np.einsum("ec,ec->e", U[rows], V[observed.indices]) - observed.data))


def _counts(observed: scipy.sparse.csr_array) -> np.ndarray:
    """How many entries each row and each column has."""
    return np.concatenate([np.diff(observed.indptr), np.bincount(observed.indices, minlength=observed.shape[1])])


def _warn_of_empty(observed: scipy.sparse.csr_array) -> None:
    counts = _counts(observed)
    empty = [int(np.sum(part == 0)) for part in np.split(counts, [observed.shape[0]])]
    if any(empty):
        m, n = observed.shape
        warnings.warn(f"{empty[0]} of {m} rows and {empty[1]} of {n} columns have no observed entry: their factors are zero", stacklevel=4)
