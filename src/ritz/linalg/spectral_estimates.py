"""What a few products tell about a spectrum: an interval that holds it, the condition number, the numerical rank."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import Result, integer, random_generator, real
from ritz.linalg.lanczos_process import Lanczos
from ritz.linalg.products import Products, adjoint, as_products
from ritz.linalg.randomized_svd import randomized_svd

FAILURE = 1e-6  # the probability that an interval misses an end of the spectrum


@dataclass(frozen=True, eq=False, repr=False)
class SpectralInterval(Result):
    """An interval that holds all eigenvalues of a Hermitian matrix, but for a probability of 1e-6 at each end.

    Attributes
    ----------
    lower, upper : float
        The interval, with the safe margin.
    smallest, largest : float
        The extreme Ritz values, inside the spectrum: what the interval would be without the margin.
    steps : int
        Products with A.
    """

    lower: float
    upper: float
    smallest: float
    largest: float
    steps: int


@dataclass(frozen=True, eq=False, repr=False)
class ConditionEstimate(Result):
    """An estimate of the condition number in the spectral norm.

    Attributes
    ----------
    value : float
        Never above ``||A|| ||A^-1||``, up to rounding; infinite where a factorization found A singular.
    norm, inverse_norm : float
        The two factors.
    method : {"inverse", "bidiagonal"}
        "inverse": both norms by Lanczos, sharp; "bidiagonal": from products with A and A^H alone, possibly far below the true value.
    """

    value: float
    norm: float
    inverse_norm: float
    method: str


def spectral_interval(A, *, steps: int = 40, rng: np.random.Generator | int | None = None) -> SpectralInterval:
    """Return an interval that holds the spectrum of a Hermitian matrix, by a few Lanczos steps with a safe margin.

    From a random start, s Lanczos steps miss an end of the spectrum by more than ``eps`` times its width W with a probability of at most
    ``1.648 sqrt(n) exp(-(2 s - 1) sqrt(eps))`` (Kuczynski and Wozniakowski, "Estimating the Largest Eigenvalue by the Power and Lanczos Algorithms
    with a Random Start", SIAM J. Matrix Anal. Appl. 13 (1992)). The margin is ``eps W`` for a probability of 1e-6, with W bounded by the width of the
    Ritz values over ``1 - 2 eps``.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Symmetric or Hermitian; checked with two random vectors.
    steps : int
        Products with A. Too few for any guarantee are refused (16 suffice for n = 10^6); 40 leave a margin of 5 to 8 % of the width.
    rng : numpy.random.Generator or int, optional
        Where the start comes from.

    Returns
    -------
    SpectralInterval
        Without margin, but for rounding, where the Krylov space is invariant: then it has all distinct eigenvalues.

    Raises
    ------
    TypeError, ValueError
        If A is no finite Hermitian matrix, or `steps` is too small for its size.

    Examples
    --------
    >>> interval = spectral_interval(np.diag(np.linspace(-1.0, 1.0, 200)), rng=0)
    >>> interval.lower < -1 < 1 < interval.upper < 1.2
    True
    """
    A = as_products(A, "A", hermitian=True)
    n, steps = A.shape[0], integer(steps, "steps", at_least=1)
    eps = _missed_fraction(n, steps)
    if steps < n and eps >= 0.5:
        raise ValueError(f"steps must be at least {_fewest_steps(n)} for a matrix of order {n}, got {steps}")
    process = Lanczos(A, A.gaussian(random_generator(rng), n, 1))
    while process.steps < min(steps, n) and not process.exhausted:
        process.advance()
    nodes = A.xp.linalg.eigh(process.tridiagonal())[0]
    low, high = float(A.xp.min(nodes)), float(A.xp.max(nodes))
    rounding = 10 * math.sqrt(n) * A.eps * max(abs(low), abs(high))
    margin = rounding if process.exhausted or process.steps == n else rounding + eps * (high - low) / (1 - 2 * eps)
    return SpectralInterval(low - margin, high + margin, low, high, process.steps)


def estimate_rank(A, tol: float, *, rng: np.random.Generator | int | None = None) -> int:
    """Estimate how many singular values of a matrix are above `tol` times the largest.

    `randomized_svd` with a rank that doubles until its last singular value is below the threshold.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (m, n)
        The matrix.
    tol : float
        Relative threshold, above the dtype's rounding and below 1.
    rng : numpy.random.Generator or int, optional
        Where the random blocks come from.

    Returns
    -------
    int
        Never above the true count, up to rounding at the threshold; equal to it where there is a gap around the threshold.

    Raises
    ------
    TypeError, ValueError
        If A is no finite matrix, or `tol` is out of range.

    Notes
    -----
    Some 12 products with twice as many columns as the rank.

    Examples
    --------
    >>> estimate_rank(np.diag([5.0, 1.0, 1e-9, 0.0]), 1e-6, rng=0)
    2
    """
    products = as_products(A, "A")
    tol = real(tol, "tol", at_least=products.eps, below=1)
    rng, most = random_generator(rng), min(products.shape)
    k = min(16, most)
    while True:
        s = randomized_svd(A, k, rng=rng).s
        if k == most or float(s[-1]) <= tol * float(s[0]):
            return int(products.xp.sum(products.xp.astype(s > tol * s[0], products.xp.int64)))
        k = min(2 * k, most)


def condition_estimate(A, *, steps: int = 30, rng: np.random.Generator | int | None = None) -> ConditionEstimate:
    """Estimate the condition number of a matrix in the spectral norm.

    For square dense matrices and SciPy's sparse ones, ``||A||`` and ``||A^-1||`` each come from a bidiagonalization, the
    inverse by LAPACK or SuperLU. For all others (operators, sparse tensors, rectangular matrices) Golub-Kahan bidiagonalization gives a lower
    bound, which is the condition number only where the steps exhaust the space or the small singular values stand apart.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (m, n)
        The matrix; the condition number of a rectangular one is that of its shorter side.
    steps : int
        Lanczos steps for each norm.
    rng : numpy.random.Generator or int, optional
        Where the start comes from.

    Returns
    -------
    ConditionEstimate

    Raises
    ------
    TypeError, ValueError
        If A is no finite matrix, or `steps` is out of range.

    Notes
    -----
    Two products a step, and ``2 n^3`` operations for a dense inverse, or a sparse LU.

    Examples
    --------
    >>> round(condition_estimate(np.diag([4.0, 2.0, 1.0]), rng=0).value, 6)
    4.0
    """
    products = as_products(A, "A")
    steps, rng = integer(steps, "steps", at_least=1), random_generator(rng)
    high, low = _extreme_singular_values(products, steps, rng)
    if products.shape[0] != products.shape[1] or not (scipy.sparse.issparse(A) or _is_dense(products)):
        return _condition(high, 1 / low if low else math.inf, "bidiagonal")
    inverse = _inverse(A, products)
    inverse_norm = math.inf if inverse is None else _extreme_singular_values(inverse, steps, rng)[0]
    return _condition(high, inverse_norm, "inverse")


def _condition(norm: float, inverse_norm: float, method: str) -> ConditionEstimate:
    return ConditionEstimate(norm * inverse_norm if norm else math.inf, norm, inverse_norm, method)


def _extreme_singular_values(A: Products, steps: int, rng: np.random.Generator) -> tuple[float, float]:
    """The largest and the smallest singular value of A on a Krylov space, by Golub and Kahan's bidiagonalization with full reorthogonalization."""
    tall = A if A.shape[0] >= A.shape[1] else A.adjoint()
    xp, n = A.xp, tall.shape[1]
    V, U, diagonal, above = _unit(tall, tall.gaussian(rng, n, 1))[0], None, [], []
    while len(diagonal) < min(steps, n):
        newest, alpha = _next_direction(tall, tall.matmat(V[:, -1:]), U)
        diagonal.append(alpha)
        if alpha == 0 or len(diagonal) == min(steps, n):
            break
        U = newest if U is None else xp.concat([U, newest], axis=1)
        newest, beta = _next_direction(tall, tall.rmatmat(U[:, -1:]), V)
        if beta == 0:
            break
        V = xp.concat([V, newest], axis=1)
        above.append(beta)
    values = np.linalg.svd(np.diag(diagonal) + np.diag(above, 1), compute_uv=False)
    return float(values[0]), float(values[-1])


def _next_direction(A: Products, w, basis):
    """Orthogonalize w against the basis and normalize it; a remainder of rounding size counts as zero."""
    if basis is None:
        return _unit(A, w)
    size = float(A.xp.linalg.vector_norm(w))
    for _ in range(2):
        w = w - basis @ (adjoint(basis) @ w)
    unit, norm = _unit(A, w)
    return unit, norm if norm > 10 * A.eps * size else 0.0


def _unit(A: Products, w):
    norm = float(A.xp.linalg.vector_norm(w))
    return (w / norm if norm else w), norm


def _inverse(A, products: Products) -> Products | None:
    """The products of the inverse of an explicit square matrix; None if it is exactly singular."""
    try:
        if scipy.sparse.issparse(A):
            factors = scipy.sparse.linalg.splu(scipy.sparse.csc_array(A).astype(products.dtype))
            return replace(products, matmat=factors.solve, rmatmat=lambda X: factors.solve(X, trans="H"))
        inverse = products.xp.linalg.inv(products.entries)
    except (np.linalg.LinAlgError, RuntimeError):  # torch's and SuperLU's refusals are RuntimeErrors
        return None
    return replace(products, matmat=lambda X: inverse @ X, rmatmat=lambda X: adjoint(inverse) @ X)


def _is_dense(products: Products) -> bool:
    return products.entries is not None and tuple(products.entries.shape) == products.shape


def _missed_fraction(n: int, steps: int) -> float:
    """The fraction of the spectrum's width by which Lanczos misses an end with probability FAILURE."""
    return (math.log(1.648 * math.sqrt(n) / FAILURE) / (2 * steps - 1)) ** 2


def _fewest_steps(n: int) -> int:
    """The fewest steps for which the missed fraction is below one half."""
    return math.floor((math.log(1.648 * math.sqrt(n) / FAILURE) * math.sqrt(2) + 1) / 2) + 1
