"""Many small least-squares problems at once, one for each row of a sparse matrix: the half-step of alternating minimization.

Row i of the CSR matrix B asks for ``x_i = argmin ||A_i x - b_i||^2 + damping ||x||^2``, where ``b_i`` are its stored entries and A_i (n_i, k) the
rows of a dense factor (n, k) that their columns name. They are gathered once, next to each other in memory; all else happens there.

- `direct`: Cholesky's factorization of the k x k or n_i x n_i Gram matrix, whichever is smaller; where it is too ill-conditioned, the singular
  value decomposition, which also gives the solution of minimum norm.
- conjugate gradients on the normal equations: one pass over A_i per step computes ``A^T (A p)`` row by row; ``A^T A`` is never formed.
- the same with sketch-and-precondition (Rokhlin and Tygert 2008, Avron, Maymounkov and Toledo 2010): S A_i = Q R with a subsampled randomized
  Hadamard transform S of 8 k rows, and R as preconditioner.

Rows are independent, so the answer does not depend on the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse
from numba import njit

from ritz.linalg.threads import in_windows, thread_count

DIRECT, CONJUGATE, SKETCHED = 0, 1, 2
SOLVERS = {"exact": DIRECT, "cg": CONJUGATE, "sketch": SKETCHED}
SKETCH_ROWS = 8  # times k
SAFE_PIVOTS = 1e4  # ratio of Cholesky's largest to its smallest pivot above which squaring has cost too many digits (float64)
WINDOWS_PER_THREAD = 16
UNROLLED = 4  # rows of A that one pass takes together; A is padded with zero rows
FAST = {"contract", "nsz", "reassoc"}


class Accuracy(NamedTuple):
    """When an inner iteration ends: the gradient ``A^T r`` is `tol` times that of the start, or rounding; at the latest after `steps` steps."""

    tol: float
    steps: int


class HalfStep(NamedTuple):
    """What a half-step found: the solutions (m, k), the squared residual of each row (m,) and the inner steps of each row (m,)."""

    x: np.ndarray
    squares: np.ndarray
    steps: np.ndarray


def solve_rows(
    B: scipy.sparse.csr_array, factor: np.ndarray, start: np.ndarray, solver: str, accuracy: Accuracy, damping: float, seed: int
) -> HalfStep:
    """Solve the problems of all rows of B (m, n).

    Parameters
    ----------
    B : csr_array (m, n)
        Right-hand sides; stored zeros count.
    factor : array (n, k)
        Where the rows of each A_i come from, in B's dtype.
    start : array (m, k)
        Where iterations begin. A row with fewer than k entries begins at zero and is solved directly.
    solver : {"exact", "cg", "sketch"}
        "cg" hands rows over to "sketch" on which it was slower than the sketch's preconditioner guarantees; "sketch" solves rows with fewer than
        8 k entries directly.
    accuracy : Accuracy
        When iterations end.
    damping : float
        At least 0.
    seed : int
        Of the sketches; each row has a stream of its own.
    """
    m = len(start)
    x = np.array(start, order="C")
    squares, steps = np.zeros(m, start.dtype), np.zeros(m, np.int64)
    factor = np.ascontiguousarray(factor)
    threads = thread_count(None)

    def compute(window: tuple[int, int], _) -> None:
        first, last = window
        _solve_window(
            first, last, B.indptr, B.indices, B.data, factor, x, SOLVERS[solver], accuracy.tol, accuracy.steps, start.dtype.type(damping), seed,
            squares, steps,
        )  # fmt: skip

    in_windows(_windows(B.indptr, threads * WINDOWS_PER_THREAD if threads > 1 else 1), lambda: None, compute, threads)
    return HalfStep(x, squares, steps)


def _windows(indptr: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Runs of rows with about equally many entries."""
    inner = np.searchsorted(indptr, np.linspace(0, indptr[-1], count + 1)[1:-1])
    ends = np.unique(np.concatenate([[0], inner, [len(indptr) - 1]]))
    return list(zip(ends[:-1].tolist(), ends[1:].tolist()))


@njit(cache=True, nogil=True)
def _solve_window(first, last, indptr, indices, data, factor, x, solver, tol, most_steps, damping, seed, squares, steps):
    k = factor.shape[1]
    longest = 0
    for i in range(first, last):
        longest = max(longest, indptr[i + 1] - indptr[i])
    longest = (longest + UNROLLED - 1) // UNROLLED * UNROLLED
    A, b, r, q = (
        np.empty((longest, k), factor.dtype),
        np.empty(longest, factor.dtype),
        np.empty(longest, factor.dtype),
        np.empty(longest, factor.dtype),
    )
    s, t = np.empty(k, factor.dtype), np.empty(k, factor.dtype)
    rounding = np.finfo(factor.dtype).eps
    no_preconditioner = np.empty((0, k), factor.dtype)
    for i in range(first, last):
        begin, n = indptr[i], indptr[i + 1] - indptr[i]
        if n == 0:
            x[i] = 0
            continue
        padded = _gather(indices[begin : begin + n], data[begin : begin + n], factor, A, b)
        if solver == DIRECT or n < k or (solver == SKETCHED and n < SKETCH_ROWS * k):
            x[i] = direct(A[:n], b[:n], damping)
            squares[i] = _residual(A[:padded], b, x[i], r, s, t)
            continue
        squares[i] = _residual(A[:padded], b, x[i], r, s, t)
        s -= damping * x[i]
        begun = np.sqrt(np.dot(s, s))
        goal = max(tol * begun, rounding * np.sqrt(np.dot(t, t)))
        if solver == CONJUGATE:
            steps[i] = _conjugate_gradients(A[:padded], x[i], r, s, no_preconditioner, damping, goal, most_steps, q)
            # what the sketch's preconditioner would have achieved with as many steps: its condition number is at most 3
            guaranteed = begun * 2.0 ** (1 - most_steps)
            if np.sqrt(np.dot(s, s)) > max(goal, guaranteed):
                if n < SKETCH_ROWS * k:
                    x[i] = direct(A[:n], b[:n], damping)
                else:
                    steps[i] += _sketched(A[:padded], b, n, x[i], r, s, damping, goal, most_steps, q, seed + i)
                _residual(A[:padded], b, x[i], r, s, t)
        else:
            steps[i] = _sketched(A[:padded], b, n, x[i], r, s, damping, goal, most_steps, q, seed + i)
        squares[i] = np.dot(r[:n], r[:n])


@njit(cache=True, nogil=True)
def direct(A, b, damping):
    """The solution of least norm of ``min ||A x - b||^2 + damping ||x||^2``, by the smaller Gram matrix where that is safe."""
    n, k = A.shape
    tall = n >= k
    G = np.dot(A.T, A) if tall else np.dot(A, A.T)
    for c in range(G.shape[0]):
        G[c, c] += damping
    L, safe = _cholesky(G)
    if safe:
        if tall:
            return _solve_upper(L.T, _solve_lower(L, np.dot(A.T, b)))
        return np.dot(A.T, _solve_upper(L.T, _solve_lower(L, b)))
    if damping > 0:
        stacked, right = np.zeros((n + k, k), A.dtype), np.zeros(n + k, A.dtype)
        stacked[:n], right[:n] = A, b
        for c in range(k):
            stacked[n + c, c] = np.sqrt(damping)
        return np.linalg.lstsq(stacked, right, np.finfo(A.dtype).eps * (n + k))[0]
    return np.linalg.lstsq(A, b, np.finfo(A.dtype).eps * max(n, k))[0]


@njit(cache=True, nogil=True)
def _cholesky(G):
    """The lower factor, and whether its pivots say that no more than half of the digits are lost."""
    try:
        L = np.linalg.cholesky(G)
    except Exception:
        return G, False
    least, greatest = np.inf, 0.0
    for c in range(L.shape[0]):
        least, greatest = min(least, L[c, c]), max(greatest, L[c, c])
    bound = SAFE_PIVOTS if G.itemsize == 8 else SAFE_PIVOTS**0.5
    return L, greatest < bound * least


@njit(cache=True, nogil=True, fastmath=FAST)
def _solve_lower(L, y):
    """Solve L x = y."""
    x = y.copy()
    for i in range(x.shape[0]):
        total = x[i]
        for j in range(i):
            total -= L[i, j] * x[j]
        x[i] = total / L[i, i]
    return x


@njit(cache=True, nogil=True, fastmath=FAST)
def _solve_upper(R, y):
    """Solve R x = y, for R or the transpose of a lower factor."""
    x = y.copy()
    for i in range(x.shape[0] - 1, -1, -1):
        total = x[i]
        for j in range(i + 1, x.shape[0]):
            total -= R[i, j] * x[j]
        x[i] = total / R[i, i]
    return x


@njit(cache=True, nogil=True)
def _gather(columns, values, factor, A, b):
    """Copy the rows of A and b next to each other, with zeros after them up to a multiple of the unrolling."""
    n = columns.shape[0]
    padded = (n + UNROLLED - 1) // UNROLLED * UNROLLED
    for l in range(n):
        source = factor[np.uint64(columns[l])]
        target = A[l]
        for c in range(source.shape[0]):
            target[c] = source[c]
        b[l] = values[l]
    A[n:padded] = 0
    b[n:padded] = 0
    return padded


@njit(cache=True, nogil=True, fastmath=FAST)
def _residual(A, b, x, r, s, t):
    """``r = b - A x``, ``s = A^T r``, ``t = A^T b`` in one pass; returns the square of r."""
    k = x.shape[0]
    s[:] = 0
    t[:] = 0
    square = A.dtype.type(0)
    for l in range(0, A.shape[0], UNROLLED):
        a0, a1, a2, a3 = A[l], A[l + 1], A[l + 2], A[l + 3]
        b0, b1, b2, b3 = b[l], b[l + 1], b[l + 2], b[l + 3]
        r0, r1, r2, r3 = b0, b1, b2, b3
        for c in range(k):
            r0 -= a0[c] * x[c]
            r1 -= a1[c] * x[c]
            r2 -= a2[c] * x[c]
            r3 -= a3[c] * x[c]
        for c in range(k):
            s[c] += r0 * a0[c] + r1 * a1[c] + r2 * a2[c] + r3 * a3[c]
            t[c] += b0 * a0[c] + b1 * a1[c] + b2 * a2[c] + b3 * a3[c]
        r[l], r[l + 1], r[l + 2], r[l + 3] = r0, r1, r2, r3
        square += r0 * r0 + r1 * r1 + r2 * r2 + r3 * r3
    return square


@njit(cache=True, nogil=True, fastmath=FAST)
def _gram_product(A, p, q, g):
    """``q = A p`` and ``g = A^T q`` in one pass; returns the square of q."""
    k = p.shape[0]
    g[:] = 0
    square = A.dtype.type(0)
    for l in range(0, A.shape[0], UNROLLED):
        a0, a1, a2, a3 = A[l], A[l + 1], A[l + 2], A[l + 3]
        q0 = q1 = q2 = q3 = A.dtype.type(0)
        for c in range(k):
            q0 += a0[c] * p[c]
            q1 += a1[c] * p[c]
            q2 += a2[c] * p[c]
            q3 += a3[c] * p[c]
        for c in range(k):
            g[c] += q0 * a0[c] + q1 * a1[c] + q2 * a2[c] + q3 * a3[c]
        q[l], q[l + 1], q[l + 2], q[l + 3] = q0, q1, q2, q3
        square += q0 * q0 + q1 * q1 + q2 * q2 + q3 * q3
    return square


@njit(cache=True, nogil=True)
def _conjugate_gradients(A, x, r, s, R, damping, goal, most_steps, q):
    """Conjugate gradients on ``(A^T A + damping) x = A^T b``, preconditioned by ``R^T R`` if R has rows.

    Equal to CGLS on ``A R^-1``. x, the residual r = b - A x and the gradient s = A^T r - damping x are updated in place; returns the number of steps.
    """
    z = _preconditioned(R, s)
    p, g = z.copy(), np.empty_like(s)
    gamma = np.dot(s, z)
    for step in range(most_steps):
        if np.sqrt(np.dot(s, s)) <= goal:
            return step
        curvature = _gram_product(A, p, q, g) + damping * np.dot(p, p)
        if curvature <= 0:
            return step
        alpha = gamma / curvature
        x += alpha * p
        r[: A.shape[0]] -= alpha * q[: A.shape[0]]
        s -= alpha * (g + damping * p)
        z = _preconditioned(R, s)
        before, gamma = gamma, np.dot(s, z)
        p = z + gamma / before * p
    return most_steps


@njit(cache=True, nogil=True)
def _preconditioned(R, s):
    if R.shape[0] == 0:
        return s.copy()
    return _solve_upper(R, _solve_lower(R.T, s))


@njit(cache=True, nogil=True)
def _sketched(A, b, n, x, r, s, damping, goal, most_steps, q, seed):
    """Conjugate gradients with the sketch's preconditioner; where the sketch has no full rank, the direct solution. Returns the number of steps."""
    R, full = sketch_preconditioner(A[:n], damping, seed)
    if full:
        return _conjugate_gradients(A, x, r, s, R, damping, goal, most_steps, q)
    x[:] = direct(A[:n], b[:n], damping)
    r[:n] = b[:n] - np.dot(A[:n], x)
    return 0


@njit(cache=True, nogil=True)
def sketch_preconditioner(A, damping, seed):
    """R of ``S A = Q R`` for A (n, k), n >= 8 k, and whether it has full rank; the damping adds ``sqrt(damping) I`` to the rows of S A.

    S is a subsampled randomized Hadamard transform: random signs, the Walsh-Hadamard transform of the next power of two, 8 k of its rows, none twice.
    """
    n, k = A.shape
    rows = SKETCH_ROWS * k
    length = 1
    while length < n:
        length *= 2
    X = np.zeros((length, k), A.dtype)
    state = np.uint64(seed)
    for l in range(n):
        state, drawn = _random_bits(state)
        X[l] = A[l] if drawn & np.uint64(1) else -A[l]
    _hadamard(X)
    order = np.arange(length)
    S_A = np.zeros((rows + (k if damping > 0 else 0), k), A.dtype)
    scale = A.dtype.type(1 / np.sqrt(rows))
    for l in range(rows):
        state, drawn = _random_bits(state)
        other = l + np.int64(drawn % np.uint64(length - l))
        order[l], order[other] = order[other], order[l]
        S_A[l] = X[order[l]] * scale
    for c in range(S_A.shape[0] - rows):
        S_A[rows + c, c] = np.sqrt(damping)
    R = np.linalg.qr(S_A)[1]
    least, greatest = np.inf, 0.0
    for c in range(k):
        least, greatest = min(least, abs(R[c, c])), max(greatest, abs(R[c, c]))
    return R, least > greatest * np.finfo(A.dtype).eps * rows


@njit(cache=True, nogil=True)
def _hadamard(X):
    """The unnormalized Walsh-Hadamard transform of each column, in place."""
    half = 1
    while half < X.shape[0]:
        for start in range(0, X.shape[0], 2 * half):
            for l in range(start, start + half):
                upper, lower = X[l], X[l + half]
                for c in range(X.shape[1]):
                    upper[c], lower[c] = upper[c] + lower[c], upper[c] - lower[c]
        half *= 2


@njit(cache=True, nogil=True)
def _random_bits(state):
    """Steele, Lea and Flood's splitmix64: the next state and 64 random bits."""
    state += np.uint64(0x9E3779B97F4A7C15)
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, z ^ (z >> np.uint64(31))
