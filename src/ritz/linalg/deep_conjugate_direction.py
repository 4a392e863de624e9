"""Conjugate directions from any proposal: a network, or whatever else looks at the residual, says where to go; exact line search says how far.

Problem: ``A x = b``, A symmetric positive definite. A direction f(r) is made A-conjugate to the last few directions, and the step along it minimizes
the A-norm of the error, which therefore decreases for every f. With f the identity it is the method of conjugate gradients, with f = M^-1 its
preconditioned form, and with a network that has learned what A^-1 does up to a factor it takes few steps.

Kaneda, Akar, Chen, Kala, Hyde and Teran, "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems", ICML 2023, arXiv:2205.10763,
algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg

from ritz.core import array, flag, integer, is_torch, like, real, to_numpy, warn_not_converged
from ritz.linalg.krylov_system import Columns, LinearSystem, linear_system, real_inner, row_norms, row_product
from ritz.linalg.matrix_kinds import checked_matrix
from ritz.linalg.sor import IterativeSolve

BAD = 1e-8  # the cosine between residual and direction at which a direction is no good
REFRESH = 50  # steps after which the residual of a double-precision system is computed anew


@dataclass(frozen=True, eq=False, repr=False)
class DirectionSolve(IterativeSolve):
    """What `dcdm` returns: an `IterativeSolve` that counts bad directions. With b (B, n), each row has its own values.

    Attributes
    ----------
    x : array (n,) or (B, n)
        The last iterate, of the kind of b.
    converged : bool or array (B,) of bool
        Whether ``||b - A x|| <= tol ||b - A x0||``, with the residual computed from x.
    iterations : int or array (B,) of int
        Steps taken.
    residual_norms : array (steps + 1,) or (steps + 1, B)
        ``||b - A x||`` at the start and after each step; a row that is done repeats its last value.
    fallback_steps : int or array (B,) of int
        Steps whose direction was no good and was replaced by the residual.

    Examples
    --------
    >>> DirectionSolve(np.ones(2), True, 1, np.array([1.0, 0.0]), 0)
    DirectionSolve(x=float64[2], converged=True, iterations=1, residual_norms=float64[2], fallback_steps=0)
    """

    converged: bool | np.ndarray
    iterations: int | np.ndarray
    fallback_steps: int | np.ndarray


def dcdm(
    A,
    b,
    direction: Callable,
    *,
    x0=None,
    conjugate_to: int = 2,
    tol: float = 1e-4,
    maxiter: int = 1000,
    normalize: bool = True,
    fallback: bool = True,
    callback: Callable | None = None,
) -> DirectionSolve:
    """Solve ``A x = b`` along proposed directions, made conjugate and followed as far as is best.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Real, symmetric and positive definite. Symmetric it must prove on two fixed vectors.
    b : array (n,) or (B, n)
        Right-hand sides as rows, torch if A is. They share products and calls of a network; each has its own steps and leaves when it is done.
    direction : callable, operator or DirectionNetwork
        Maps a residual (n,) to a direction (n,), an approximation of A^-1 r up to a factor; it need not be linear. A `LinearOperator`, such as
        `ritz.linalg.amg`'s, is multiplied by. What has a method ``directions``, as `DirectionNetwork` has, is called with all residuals (k, n)
        at once.
    x0 : array like b, optional
        Where to start; zero by default.
    conjugate_to : int
        To how many of the last directions a new one is made conjugate, at least 0. Two is the paper's choice; more helps an imperfect network.
    tol : float
        Stop at ``||b - A x|| <= tol ||b - A x0||``.
    maxiter : int
        Steps at most.
    normalize : bool
        Whether `direction` is given residuals of length one. A network must be.
    fallback : bool
        Whether a direction with ``|r^T d| <= 1e-8 ||r|| ||d||``, with ``d^T A d <= 0`` or with entries that are not finite is replaced by the
        residual, made conjugate as well. Without it a row takes no step where ``r^T d`` is zero, and stops where ``d^T A d`` is not positive.
    callback : callable, optional
        Called with the current x, of the shape of b, after each step.

    Returns
    -------
    DirectionSolve
        With one residual norm per step and the number of replaced directions.

    Raises
    ------
    ValueError, TypeError
        If A is not symmetric, shapes do not fit, entries are not finite, kinds are mixed, or `direction` returns what is no direction.

    Warns
    -----
    ConvergenceWarning
        If `maxiter` steps were not enough, or A is not positive definite.

    Notes
    -----
    One product with A and one call of `direction` per step, and 2 `conjugate_to` + 4 vectors of memory per right-hand side. The coefficients of
    conjugation are computed with the proposed direction, all at once, as published; where that cancels most of it, once more. The residual is carried
    along; it is computed from x every 50 steps (single precision: every step) and before convergence is declared.

    References
    ----------
    .. [1] Kaneda et al., ICML 2023, arXiv:2205.10763, algorithm 1.

    Examples
    --------
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> found = dcdm(A, np.array([1.0, 2.0]), lambda r: r, tol=1e-12)  # conjugate gradients
    >>> found.x.round(6), found.iterations
    (array([0.090909, 0.636364]), 2)
    """
    system = _real_system(A, b, x0)
    tol, maxiter = real(tol, "tol", at_least=0), integer(maxiter, "maxiter", at_least=1)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None, got {type(callback).__name__}")
    propose = _Proposals(direction, system, flag(normalize, "normalize"))
    descent = _Descent(system, propose, integer(conjugate_to, "conjugate_to", at_least=0), flag(fallback, "fallback"), tol)
    for step in range(1, maxiter + 1):
        if not descent.rows.index.size:
            break
        descent.step(step)
        if callback is not None:
            callback(descent.solution())
    return _result(descent)


def _real_system(A, b, x0) -> LinearSystem:
    b = array(b, "b", ndim=(1, 2))
    A = checked_matrix(A, "A", square=True)
    if b.shape[-1] != A.shape[0]:
        raise ValueError(f"b must have shape ({A.shape[0]},) or (B, {A.shape[0]}) beside A of shape {tuple(A.shape)}, got {tuple(b.shape)}")
    if str(A.dtype).rpartition(".")[2].startswith("complex"):
        raise TypeError(f"A must be real, got {A.dtype}")
    if x0 is not None:
        x0 = array(x0, "x0", shape=tuple(b.shape))
        x0 = x0.T if x0.ndim == 2 else x0
    return linear_system(A, b.T if b.ndim == 2 else b, x0, None, hermitian=True)


class _Proposals:
    """`direction` as a function of rows of residuals, whatever it is, with what it returns checked."""

    def __init__(self, direction, system: LinearSystem, normalize: bool):
        self._normalize, self._scales, self._like = normalize, system.scales, system.b
        if hasattr(direction, "directions"):
            self._apply = direction.directions
        elif isinstance(direction, scipy.sparse.linalg.LinearOperator):
            self._apply = row_product(checked_matrix(direction, "direction", square=True), system.b.dtype)
        elif callable(direction):
            self._apply = lambda rows: system.xp.stack([self._checked(direction(row), row) for row in rows])
        else:
            raise TypeError(f"direction must be callable or an operator, got {type(direction).__name__}")

    def __call__(self, r, norms: np.ndarray, index: np.ndarray):
        """Directions (k, n) for residuals r (k, n), divided by their norms or as they are."""
        factors = 1 / norms if self._normalize else self._scales[index]
        return self._checked(self._apply(r * column(factors, r)), r)

    @staticmethod
    def _checked(d, r):
        if is_torch(d) != is_torch(r):
            raise TypeError(f"direction must return what it is given, {type(r).__name__}, got {type(d).__name__}")
        d = d.detach().to(r.dtype) if is_torch(d) else np.asarray(d, dtype=r.dtype)
        if tuple(d.shape) != tuple(r.shape):
            raise ValueError(f"direction must return an array of shape {tuple(r.shape)}, as it is given, got {tuple(d.shape)}")
        return d


class _Descent:
    """The state of all right-hand sides; `rows` holds those that are still on their way, and their windows of directions."""

    def __init__(self, system: LinearSystem, propose: _Proposals, window: int, fallback: bool, tol: float):
        self.system, self._propose, self._window, self._fallback = system, propose, window, fallback
        self.x = system.xp.asarray(system.x0, copy=True)
        r = system.residual(self.x)
        self.norms = row_norms(r)
        self.target = tol * self.norms
        self.history = [self.norms.copy()]
        self.steps, self.fallback_steps = (np.zeros(len(r), dtype=int) for _ in range(2))
        self.indefinite = np.zeros(len(r), dtype=bool)
        empty = system.xp.zeros((len(r), window, r.shape[1]), dtype=r.dtype, device=r.device)
        self.rows = Columns(
            index=np.arange(len(r)),
            x=system.xp.asarray(self.x, copy=True),
            r=r,
            directions=empty,
            images=system.xp.asarray(empty, copy=True),
            curvatures=system.xp.ones((len(r), window), dtype=r.dtype, device=r.device),
        )
        self._always_refresh = str(r.dtype).endswith("32")
        self._retire(self.norms > self.target)

    def step(self, number: int) -> None:
        """One step of every row that is still on its way."""
        rows = self.rows
        norms = self.norms[rows.index]
        rows.d = self._conjugated(self._propose(rows.r, norms, rows.index))
        self._measure(norms)
        if not rows.index.size:
            return
        alpha = rows.slope / rows.curvature
        rows.x = rows.x + alpha[:, None] * rows.d
        rows.r = rows.r - alpha[:, None] * rows.q
        if self._window:
            place = (number - 1) % self._window
            rows.directions[:, place], rows.images[:, place], rows.curvatures[:, place] = rows.d, rows.q, rows.curvature
        self._look(number)

    def solution(self):
        """The current x, of the shape of b."""
        x = self.system.xp.asarray(self.x, copy=True)
        x[self.rows.index] = self.rows.x
        x = x * column(self.system.scales, x)
        return x[0] if self.system.is_vector else x

    def _conjugated(self, d, some=slice(None)):
        """d less its components along the window, in the A-inner product; twice where little is left."""
        directions, images, curvatures = (value[some] for value in (self.rows.directions, self.rows.images, self.rows.curvatures))
        for _ in range(2):
            coefficients = (images @ d[:, :, None]) / curvatures[:, :, None]
            before, d = d, d - (coefficients * directions).sum(axis=1)
            if not bool(((d * d).sum(axis=1) < 1e-2 * (before * before).sum(axis=1)).any()):
                return d
        return d

    def _measure(self, norms: np.ndarray) -> None:
        """Compute A d, r^T d and d^T A d; replace bad directions, or take rows that have none out."""
        rows, xp = self.rows, self.system.xp
        rows.q = self.system.multiply(rows.d)
        rows.slope, rows.curvature = real_inner(rows.r, rows.d), real_inner(rows.d, rows.q)
        slope, curvature, length = to_numpy(rows.slope), to_numpy(rows.curvature), row_norms(rows.d)
        bad = ~((np.abs(slope) > BAD * norms * length) & (curvature > 0) & np.isfinite(slope))
        if not bad.any():
            return
        if not self._fallback:
            if not np.isfinite(slope[bad]).all():
                raise ValueError("direction must return finite numbers, got NaN or infinite entries")
            self._retire(curvature > 0)
            return
        some = np.flatnonzero(bad)
        residuals = rows.r[some] / column(norms[some], rows.r)
        rows.d[some] = self._conjugated(residuals, some)
        rows.q[some] = self.system.multiply(xp.asarray(rows.d[some], copy=True))
        rows.slope[some], rows.curvature[some] = real_inner(rows.r[some], rows.d[some]), real_inner(rows.d[some], rows.q[some])
        self.fallback_steps[rows.index[some]] += 1
        positive = to_numpy(rows.curvature) > 0
        self.indefinite[rows.index[~positive]] = True
        self._retire(positive)

    def _look(self, number: int) -> None:
        """Note the residual norms and take out the rows whose residual, computed from x, is small enough."""
        rows = self.rows
        norms = row_norms(rows.r)
        unsure = (norms <= self.target[rows.index]) | (number % REFRESH == 0) | self._always_refresh
        if unsure.any():
            some = np.flatnonzero(unsure)
            rows.r[some] = self.system.residual(rows.x[some], rows.index[some])
            norms[some] = row_norms(rows.r[some])
        self.norms[rows.index] = norms
        self.steps[rows.index] += 1
        self.history.append(self.norms.copy())
        self._retire(norms > self.target[rows.index])

    def _retire(self, going: np.ndarray) -> None:
        done = np.flatnonzero(~going)
        self.x[self.rows.index[done]] = self.rows.x[done]
        self.rows.keep(going)


def column(values: np.ndarray, reference):
    """NumPy values as a column of the kind and dtype of an array."""
    return like(np.asarray(values, dtype=to_numpy(reference[:0]).dtype), reference)[:, None]


def _result(descent: _Descent) -> DirectionSolve:
    converged = descent.norms <= descent.target
    if not converged.all():
        share = "" if descent.system.is_vector else f" for {int((~converged).sum())} of {len(converged)} right-hand sides"
        reason = "A is not positive definite" if descent.indefinite.any() else f"{descent.steps.max()} steps were not enough"
        warn_not_converged(f"dcdm did not converge{share}: {reason}")
    x, norms = descent.solution(), np.stack(descent.history) * descent.system.scales
    if descent.system.is_vector:
        return DirectionSolve(x, bool(converged[0]), int(descent.steps[0]), norms[:, 0], int(descent.fallback_steps[0]))
    return DirectionSolve(x, converged, descent.steps, norms, descent.fallback_steps)
