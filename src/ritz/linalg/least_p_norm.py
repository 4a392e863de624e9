"""The least p-norm of ``Q z`` over a hyperplane ``q^T z = 1``, with a certificate: the one problem behind sensitivities and regression in the p-norm.

Its dual is the least p'-norm of u with ``Q^T u = q``, ``1 / p + 1 / p' = 1``: for all such z and u, ``||Q z||_p ||u||_p' >= 1``, equal at the
solutions. For weights w > 0, ``y = (Q^T W Q)^-1 q`` gives a pair of both kinds, ``z = y / q^T y`` and ``u = W Q y``: the step of iteratively
reweighted least squares, and the gap between the two says how far either is from the solution.

The problem with the larger exponent s = max(p, p') >= 2 is iterated, for its second derivatives are finite. Newton's step on ``||Q z||_s^s`` within
the hyperplane is ``1 / (s - 1)`` of the way to the reweighted point with ``w = |Q z|^(s - 2)``; on the dual, with ``w = |u|^(2 - s)``.
A line search lengthens or shortens it. For p = 1 the dual is a linear program with as many rows as Q has columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from numba import njit, prange

WEIGHT_FLOOR = 1e-10  # of the largest weight: keeps the reweighted Gram matrix regular
SIMPLEX_ROWS = 50_000  # beyond, HiGHS's interior point method is faster than its simplex method: four times at 2 10^5
TIGHT = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}


@dataclass(frozen=True)
class LeastNorms:
    """Solutions for k hyperplanes: z (k, r), ``log ||Q z||_p`` (k,), the gap to the dual in that logarithm (k,), steps taken (k,)."""

    z: np.ndarray
    log_norms: np.ndarray
    gaps: np.ndarray
    iterations: np.ndarray


def least_p_norms(Q: np.ndarray, normals: np.ndarray, p: float, tol: float, max_iterations: int) -> LeastNorms:
    """Minimize ``||Q z||_p`` over ``q^T z = 1`` for each row q of `normals`.

    Parameters
    ----------
    Q : array (n, r)
        Orthonormal columns.
    normals : array (k, r)
        Without a zero row.
    p : float
        At least 1.
    tol : float
        Stop when the norm is within this relative distance of the least.
    max_iterations : int
        For each hyperplane; those that needed more have a gap above `tol`.
    """
    if p == 1:
        return _linear_programs(Q, normals)
    z, log_norms, gaps = np.empty(normals.shape), np.empty(len(normals)), np.empty(len(normals))
    iterations = np.empty(len(normals), dtype=np.int64)
    _solve_all(np.ascontiguousarray(Q.T), np.ascontiguousarray(normals), float(p), tol, max_iterations, z, log_norms, gaps, iterations)
    return LeastNorms(z, log_norms, gaps, iterations)


def _linear_programs(Q: np.ndarray, normals: np.ndarray) -> LeastNorms:
    """p = 1: maximize t over ``Q^T v = t q``, ``|v| <= 1``; then t is the least norm, and z the multipliers of the equations."""
    n, r = Q.shape
    equations = np.column_stack([math.sqrt(n) * Q.T, np.empty(r)])  # entries and reduced costs near one: HiGHS's tolerances are absolute
    cost, bounds = np.zeros(n + 1), np.concatenate([np.tile([-1.0, 1.0], (n, 1)), [[0.0, np.inf]]])
    cost[-1] = -math.sqrt(n)
    method = "highs-ds" if n <= SIMPLEX_ROWS else "highs-ipm"
    z, log_norms, gaps = np.empty(normals.shape), np.empty(len(normals)), np.empty(len(normals))
    iterations = np.empty(len(normals), dtype=np.int64)
    for k, q in enumerate(normals):
        size = np.linalg.norm(q)
        equations[:, -1] = -math.sqrt(n) * q / size
        found = scipy.optimize.linprog(cost, A_eq=equations, b_eq=np.zeros(r), bounds=bounds, method=method, options=TIGHT)
        direction = q if found.eqlin is None or not q @ found.eqlin.marginals else found.eqlin.marginals
        z[k] = direction / (q @ direction)
        log_norms[k], iterations[k] = math.log(np.abs(Q @ z[k]).sum()), found.nit
        gaps[k] = log_norms[k] - math.log(found.x[-1] / size) if found.success and found.x[-1] > 0 else math.inf
    return LeastNorms(z, log_norms, np.maximum(gaps, 0.0), iterations)


@njit(cache=True, nogil=True, parallel=True)
def _solve_all(QT, normals, p, tol, max_iterations, z, log_norms, gaps, iterations):
    for k in prange(len(normals)):
        log_norms[k], gaps[k], iterations[k] = _solve(QT, normals[k], p, tol, max_iterations, z[k])


@njit(cache=True, nogil=True)
def _solve(QT, q, p, tol, max_iterations, best):
    """Write the best z to `best`; return its log norm, its gap, and the steps taken."""
    r, n = QT.shape
    conjugate = p / (p - 1)
    primal, s = p >= 2, max(p, conjugate)
    gram, y, weighted = np.empty((r, r)), np.empty(r), np.empty(n)
    w, image, u, v = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    z = q / np.dot(q, q)
    _multiply(QT, z if primal else q, v)  # the solution for p = 2, of either problem
    upper, lower, steps = np.inf, -np.inf, 0
    if primal:
        best[:], upper = z, _log_norm(v, p)
    while True:
        _weights(v, s - 2, primal, w)
        _gram(QT, w, weighted, gram)
        if not _cholesky_solve(gram, q, y):
            break
        _multiply(QT, y, image)
        for k in range(n):
            u[k] = w[k] * image[k]
        center = np.dot(q, y)
        if primal:
            lower = max(lower, -_log_norm(u, conjugate))
        else:
            lower = -_log_norm(v, conjugate)
            norm = _log_norm(image, p) - math.log(center)
            if norm < upper:
                upper = norm
                best[:] = y / center
        if upper - lower <= tol or steps == max_iterations:
            break
        if primal:
            for k in range(n):
                u[k] = image[k] / center
        for k in range(n):
            u[k] -= v[k]
        t, norm = _line_search(v, u, s, weighted)
        if t == 0:
            break
        for k in range(n):
            v[k] += t * u[k]
        if primal:
            z += t * (y / center - z)
            if norm < upper:
                upper = norm
                best[:] = z
        steps += 1
    return upper, max(upper - lower, 0.0), steps


@njit(cache=True, nogil=True)
def _line_search(v, direction, s, trial):
    """A step t along the direction that lowers ``||v + t direction||_s``, from Newton's 1 / (s - 1), and the logarithm of the norm there."""
    start, t = _log_norm(v, s), 1 / (s - 1)
    value = _log_norm_at(v, direction, t, s, trial)
    if value < start:
        while t < 1:
            longer = _log_norm_at(v, direction, 2 * t, s, trial)
            if longer >= value:
                break
            t, value = 2 * t, longer
        return t, value
    for _ in range(40):
        t /= 2
        value = _log_norm_at(v, direction, t, s, trial)
        if value < start:
            return t, value
    return 0.0, start


@njit(cache=True, nogil=True)
def _log_norm_at(v, direction, t, s, trial):
    for k in range(v.size):
        trial[k] = v[k] + t * direction[k]
    return _log_norm(trial, s)


@njit(cache=True, nogil=True, fastmath=FAST_MATH)
def _log_norm(v, p):
    """``log ||v||_p``, scaled so that no power over- or underflows."""
    largest = 0.0
    for k in range(v.size):
        largest = max(largest, abs(v[k]))
    if largest == 0:
        return -np.inf
    scale, total = 1 / largest, 0.0
    if p == 1.5:
        for k in range(v.size):
            a = abs(v[k]) * scale
            total += a * math.sqrt(a)
    elif p == 2:
        for k in range(v.size):
            a = v[k] * scale
            total += a * a
    elif p == 3:
        for k in range(v.size):
            a = abs(v[k]) * scale
            total += a * a * a
    elif p == 4:
        for k in range(v.size):
            a = v[k] * scale
            total += a * a * a * a
    else:
        for k in range(v.size):
            total += (abs(v[k]) * scale) ** p
    return math.log(largest) + math.log(total) / p


@njit(cache=True, nogil=True, fastmath=FAST_MATH)
def _weights(v, exponent, primal, w):
    """``(|v| / max |v|)^exponent``, or its inverse for the dual, kept within the floor's range."""
    largest = 0.0
    for k in range(v.size):
        largest = max(largest, abs(v[k]))
    scale = 1 / largest
    if exponent == 0:
        w[:] = 1.0
    elif exponent == 1:
        for k in range(v.size):
            w[k] = max(abs(v[k]) * scale, WEIGHT_FLOOR)
    elif exponent == 2:
        for k in range(v.size):
            a = v[k] * scale
            w[k] = max(a * a, WEIGHT_FLOOR)
    else:
        for k in range(v.size):
            w[k] = max((abs(v[k]) * scale) ** exponent, WEIGHT_FLOOR)
    if not primal:
        for k in range(v.size):
            w[k] = 1 / w[k]


@njit(cache=True, nogil=True, fastmath=FAST_MATH)
def _gram(QT, w, weighted, gram):
    """The lower triangle of ``Q^T W Q``."""
    r, n = QT.shape
    for i in range(r):
        for k in range(n):
            weighted[k] = w[k] * QT[i, k]
        for j in range(i + 1):
            total = 0.0
            for k in range(n):
                total += weighted[k] * QT[j, k]
            gram[i, j] = total


@njit(cache=True, nogil=True, fastmath=FAST_MATH)
def _multiply(QT, z, image):
    image[:] = 0
    for j in range(QT.shape[0]):
        for k in range(QT.shape[1]):
            image[k] += z[j] * QT[j, k]


@njit(cache=True, nogil=True)
def _cholesky_solve(gram, q, y):
    """Solve ``gram y = q`` in place of the lower triangle; False if it is not positive definite."""
    r = q.size
    for j in range(r):
        for k in range(j):
            for i in range(j, r):
                gram[i, j] -= gram[i, k] * gram[j, k]
        if not gram[j, j] > 0:
            return False
        root = math.sqrt(gram[j, j])
        for i in range(j, r):
            gram[i, j] /= root
    for i in range(r):
        total = q[i]
        for k in range(i):
            total -= gram[i, k] * y[k]
        y[i] = total / gram[i, i]
    for i in range(r - 1, -1, -1):
        total = y[i]
        for k in range(i + 1, r):
            total -= gram[k, i] * y[k]
        y[i] = total / gram[i, i]
    return True
