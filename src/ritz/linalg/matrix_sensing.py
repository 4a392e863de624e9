"""Matrix sensing with more factors than the rank: gradient descent that does not slow down.

Xiong, Ding and Du, "How Over-Parameterization Slows Down Gradient Descent in Matrix Sensing: The Curses of Symmetry and Initialization",
ICLR 2024, arXiv:2310.01769, sections 3 to 5.

A matrix M of unknown rank r is sought from y_i = <A_i, M> as M = F G^T with k > r columns. With one factor, F = G, gradient descent crawls: its
squared error is of order 1/T^2. With two factors started at different sizes, F^T F - G^T G hardly changes, stays positive definite, and drives the
excess directions to zero at a rate of order alpha^2, alpha the size of the start. Rebalancing the factors once, near the solution, so that
F^T F = beta^2 I, makes that rate a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ritz.core import Result, array, choice, integer, like, matrix, namespace, positive, random_generator, real, to_numpy, warn_not_converged
from ritz.linalg.measurements import MeasurementOperator, as_measurements

NEAR = 0.1  # relative residual at which the factors are rebalanced
PATIENCE = 50  # steps over which the residual must halve, once it has left the start, for the descent to go on as it is
STEP = 0.1  # times 1 / sigma_1(M)
RANK_THRESHOLD = 1e-3


@dataclass(frozen=True, eq=False, repr=False)
class MatrixSensing(Result):
    """What `matrix_sensing` found: M is near ``left @ right.T``.

    `loss_history` holds 1/2 ||A(F G^T) - y||^2 before each step and at the end, `switch_iteration` the step before which the factors were rebalanced
    (None if they were not), `rank_estimate` the number of singular values above 1e-3 of the largest.
    """

    left: np.ndarray
    right: np.ndarray
    converged: bool
    iterations: int
    loss_history: np.ndarray
    switch_iteration: int | None
    rank_estimate: int


def matrix_sensing(
    operator,
    y,
    shape: tuple[int, int],
    k: int,
    *,
    method: str = "accelerated",
    step: float | None = None,
    init_scale: float = 0.1,
    imbalance: float = 3.0,
    switch: int | str = "auto",
    beta: float | None = None,
    tol: float = 1e-10,
    maxiter: int = 10_000,
    rng=None,
) -> MatrixSensing:
    """Recover a low-rank matrix from linear measurements without knowing its rank.

    Parameters
    ----------
    operator : MeasurementOperator, LinearOperator on the entries, or object with ``__call__`` and ``adjoint``
        The measurements; best scaled so that adjoint after measurement is near the identity.
    y : array (m,)
        The measured values, NumPy or torch; the factors are of the same kind and dtype.
    shape : (int, int)
        The shape (n1, n2) of the matrix.
    k : int
        Columns of the factors, at least the rank sought and at most min(n1, n2).
    method : {"accelerated", "asymmetric", "symmetric"}
        Two factors rebalanced once; two factors; or one factor F = G, for a positive semidefinite matrix: the slow baseline.
    step : float, optional
        Step size; by default 0.1 / sigma_1, with sigma_1 estimated from the adjoint of y. It is halved, and the best iterate restored,
        when the loss rises three times running.
    init_scale : float
        Size alpha of the Gaussian start.
    imbalance : float
        The right factor starts smaller by this ratio.
    switch : "auto" or int
        The step before which the factors are rebalanced. "auto" waits for a relative residual of 0.1, or for one below 0.9 that does not halve in 50
        steps: before that the descent has not left its start.
    beta : float, optional
        Size of the left factor after rebalancing; by default the root of the largest singular value reached. The step becomes 1 / (4 beta^2).
    tol : float
        Relative residual to reach.
    maxiter : int
        Largest number of steps.
    rng : Generator, int or None
        Source of the start.

    Returns
    -------
    MatrixSensing

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described; the message names it.

    Warns
    -----
    ConvergenceWarning
        If `tol` is not reached in `maxiter` steps.

    Notes
    -----
    The paper writes the rebalancing through the SVD of F; the form here, which keeps F G^T, differs from it by a rotation of both factors. When to
    rebalance is not said there beyond "near the solution": the rule of `switch` is ours. Cost per step: one measurement, one adjoint and
    O((n1 + n2) k^2).

    References
    ----------
    .. [1] Xiong, Ding and Du, ICLR 2024, arXiv:2310.01769.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> M = np.outer(rng.standard_normal(12), rng.standard_normal(10))
    >>> operator = MeasurementOperator.gaussian(110, (12, 10), rng=1)
    >>> found = matrix_sensing(operator, operator(M), (12, 10), 3, rng=2)
    >>> bool(np.linalg.norm(found.left @ found.right.T - M) < 1e-8 * np.linalg.norm(M)), found.rank_estimate
    (True, 1)
    """
    y = array(y, "y", ndim=1)
    n1, n2 = shape = _checked_shape(shape)
    operator = as_measurements(operator, shape, y.shape[0])
    k = integer(k, "k", at_least=1, at_most=min(shape))
    choice(method, "method", ["accelerated", "asymmetric", "symmetric"])
    if method == "symmetric" and n1 != n2:
        raise ValueError(f"shape must be square for the symmetric method, got {shape}")
    alpha, imbalance = positive(init_scale, "init_scale"), positive(imbalance, "imbalance")
    switch = choice(switch, "switch", ["auto"]) if isinstance(switch, str) else integer(switch, "switch", at_least=0)
    tol, maxiter = real(tol, "tol", at_least=0), integer(maxiter, "maxiter", at_least=1)
    beta = None if beta is None else positive(beta, "beta")
    rng = random_generator(rng)
    start = [rng.standard_normal((n1, k)) * alpha, rng.standard_normal((n2, k)) * (alpha / imbalance)]
    F, G = (_in_kind_of(y, factor) for factor in (start if method != "symmetric" else (start[0], start[0])))
    largest = _largest_singular_value(operator.adjoint(y))
    if largest == 0:
        return MatrixSensing(0 * F, 0 * G, True, 0, np.zeros(1), None, 0)
    eta = STEP / largest if step is None else positive(step, "step")
    return _Descent(operator, y, method, switch, beta, tol, maxiter).run(F, G, eta)


def rebalance(F, G, beta: float):
    """Return factors with the same product F G^T of which the left one is orthogonal up to size: F^T F = beta^2 I.

    With the polar decomposition F = Q H they are beta Q and G H / beta.

    Parameters
    ----------
    F : array (n1, k)
        Of full column rank.
    G : array (n2, k)
        The other factor.
    beta : float
        The size of the new left factor.

    Raises
    ------
    ValueError
        If F is rank-deficient (1e-12), or G has another number of columns.

    Examples
    --------
    >>> F, G = rebalance(np.array([[2.0], [0.0]]), np.array([[3.0]]), 1.0)
    >>> F.T @ F, F @ G.T
    (array([[1.]]), array([[6.],
           [0.]]))
    """
    F, G, beta = matrix(F, "F"), matrix(G, "G"), positive(beta, "beta")
    if G.shape[1] != F.shape[1]:
        raise ValueError(f"G must have as many columns as F, {F.shape[1]}, got shape {tuple(G.shape)}")
    xp = namespace(F, G)
    U, S, Vh = xp.linalg.svd(F, full_matrices=False)
    if S.shape[0] < F.shape[1] or float(S[-1]) <= 1e-12 * float(S[0]):
        raise ValueError(f"F must have full column rank, got singular values from {float(S[-1]):.2g} to {float(S[0]):.2g}")
    return beta * (U @ Vh), (G @ (Vh.T * S)) @ Vh / beta


class _Descent:
    """Gradient descent on 1/2 ||A(F G^T) - y||^2 with the guard of the step size and the one switch."""

    def __init__(self, operator: MeasurementOperator, y, method: str, switch: int | str, beta: float | None, tol: float, maxiter: int):
        self.operator, self.y, self.method, self.switch, self.beta, self.maxiter = operator, y, method, switch, beta, maxiter
        self.size = float(namespace(y).linalg.vector_norm(y))
        self.tolerance = tol * self.size

    def run(self, F, G, eta: float) -> MatrixSensing:
        residuals: list[float] = []
        switched, rising, best = None, 0, (np.inf, F, G)
        for iteration in range(self.maxiter + 1):
            r = self.operator.of_product(F, G) - self.y
            residuals.append(float(namespace(r).linalg.vector_norm(r)))
            if residuals[-1] <= self.tolerance or iteration == self.maxiter:
                break
            rising = rising + 1 if iteration and not residuals[-1] <= residuals[-2] else 0
            if rising == 3:
                (_, F, G), eta, rising = best, eta / 2, 0
                continue
            if residuals[-1] < best[0]:
                best = (residuals[-1], F, G)
            if self.method == "accelerated" and switched is None and self._is_time(residuals):
                switched = iteration
                size = self.beta or float(np.sqrt(_singular_values_of_product(F, G)[0]))
                F, G = rebalance(F, G, size)
                eta = 1 / (4 * size**2)
            F, G = self._step(r, F, G, eta)
        return self._result(F, G, residuals, switched)

    def _step(self, r, F, G, eta: float):
        if self.method == "symmetric":
            left, right = self.operator.adjoint_products(r, F, F)
            F = F - (eta / 2) * (left + right)
            return F, F
        to_F, to_G = self.operator.adjoint_products(r, F, G)
        return F - eta * to_F, G - eta * to_G

    def _is_time(self, residuals: list[float]) -> bool:
        if self.switch != "auto":
            return len(residuals) - 1 >= self.switch
        stalled = len(residuals) > PATIENCE and residuals[-1] > 0.5 * residuals[-1 - PATIENCE] and residuals[-1] < 0.9 * self.size
        return residuals[-1] <= NEAR * self.size or stalled

    def _result(self, F, G, residuals: list[float], switched: int | None) -> MatrixSensing:
        converged = residuals[-1] <= self.tolerance
        if not converged:
            warn_not_converged(
                f"matrix_sensing: {self.maxiter} steps left a relative residual of {residuals[-1] / self.size:.2g}, "
                f"not {self.tolerance / self.size:.2g}"
            )
        values = _singular_values_of_product(F, G)
        rank = int((values > RANK_THRESHOLD * values[0]).sum()) if values[0] > 0 else 0
        return MatrixSensing(F, G, converged, len(residuals) - 1, 0.5 * np.square(residuals), switched, rank)


def _singular_values_of_product(F, G) -> np.ndarray:
    """The singular values of F G^T, from k x k work."""
    F, G = to_numpy(F).astype(np.float64), to_numpy(G).astype(np.float64)
    return np.linalg.svd(np.linalg.qr(F, mode="r") @ np.linalg.qr(G, mode="r").T, compute_uv=False)


def _largest_singular_value(Z, iterations: int = 20) -> float:
    """The largest singular value, from below, by the power method from the row sums of squares."""
    xp = namespace(Z)
    x = xp.sum(Z * Z, axis=0) + 0
    size = float(xp.linalg.vector_norm(x))
    for _ in range(iterations):
        if size == 0:
            return 0.0
        x = Z.T @ (Z @ (x / size))
        size = float(xp.linalg.vector_norm(x))
    return size**0.5


def _in_kind_of(y, factor: np.ndarray):
    return namespace(y).astype(like(factor, y), y.dtype)


def _checked_shape(shape: object) -> tuple[int, int]:
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise TypeError(f"shape must be two sizes, got {shape!r}")
    return tuple(integer(size, "shape", at_least=1) for size in shape)
