"""Tall least squares from a sketch, with every coefficient right and not only the residual.

Song, Ye, Yin and Zhang, "A Nearly-Optimal Bound for Fast Regression with l_inf Guarantee", ICML 2023, arXiv:2302.00248, theorem 1.1: with
``x* = argmin ||A x - b||`` and x' the solution of the problem multiplied by a dense structured sketch S of ``m = eps^-2 d log^3(n / delta)`` rows,

    ``||x' - x*||_inf <= (eps / sqrt(d)) ||A x* - b||_2 ||A^+||_2``   with probability 1 - delta,

which is sqrt(d) better than the bound in the 2-norm. It rests on the sketch keeping single inner products, the oblivious coordinate-wise embedding:
``|g^T S^T S h - g^T h| <= (beta / sqrt(m)) ||g|| ||h||`` for fixed g and h. Sparse sketches have heavy tails there, and miss coefficients.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ritz.core import Result, array, choice, integer, is_torch, like, namespace, positive, random_generator, real, to_numpy
from ritz.linalg.krylov_system import check_right_side
from ritz.linalg.products import Products, adjoint, as_products
from ritz.linalg.sketch_operators import Sketch
from ritz.linalg.sketches import countsketch, gaussian_sketch, sparse_sign, srct, srht
from ritz.linalg.walsh_hadamard import next_power_of_two

SKETCHES: dict[str, Callable[[int, int, np.random.Generator], Sketch]] = {
    "srht": lambda m, n, rng: srht(m, n, rng, replace=m > next_power_of_two(n)),
    "srct": srct,
    "gaussian": gaussian_sketch,
    "countsketch": countsketch,
    "sparse": lambda m, n, rng: sparse_sign(m, n, min(8, m), rng),
}


@dataclass(frozen=True, eq=False, repr=False)
class SketchedLstsq(Result):
    """The solution of a sketched least-squares problem and estimates of how far it is from the true one.

    Attributes
    ----------
    x : array (d,) or (d, q)
        The solution, of A's kind.
    sketch_rows : int
        Rows m of the sketch.
    residual_norm : float or array (q,)
        ``||A x - b||_2``, exact.
    linf_bound : float or array (q,)
        Estimate that ``||x - x*||_inf`` exceeds with probability about delta at most, see the notes of `sketched_lstsq`.
    l2_bound : float or array (q,)
        The same for ``||x - x*||_2``.
    condition_number : float
        Of the sketched A: within ``(1 + sqrt(d / m)) / (1 - sqrt(d / m))`` of A's, nearly.
    """

    x: np.ndarray
    sketch_rows: int
    residual_norm: float | np.ndarray
    linf_bound: float | np.ndarray
    l2_bound: float | np.ndarray
    condition_number: float


def sketched_lstsq(
    A,
    b,
    *,
    epsilon: float = 0.5,
    delta: float = 0.01,
    sketch: str | Sketch = "srht",
    rows: int | None = None,
    refine: int = 0,
    rng: np.random.Generator | int | None = None,
) -> SketchedLstsq:
    """Minimize ``||A x - b||_2`` for tall A of full column rank, from a sketch of A and b.

    Parameters
    ----------
    A : array, sparse array or torch tensor (n, d)
        With n >= d; real or complex, single or double precision. A sparse A is made dense some columns at a time.
    b : array or torch tensor (n,) or (n, q)
        Right-hand sides, of A's kind and dtype.
    epsilon : float
        Accuracy: the sketch has ``ceil(4 d / epsilon^2)`` rows, at least d + 10 and at most n. The logarithms of the theorem are not spent.
    delta : float
        Probability with which the bounds in the result may fail.
    sketch : {"srht", "srct", "gaussian", "countsketch", "sparse"}, or a sketch (m, n)
        What multiplies: see `srht` (rows picked without replacement), `srct`, `gaussian_sketch`, `countsketch`, `sparse_sign` (8 entries per column).
        The first three keep every coefficient; the sparse ones are faster and may miss some. A sketch that was drawn already brings its own rows.
    rows : int, optional
        The number of rows, instead of the rule; at least d. More than n is warned.
    refine : int
        Steps of conjugate gradients on A R^-1 from there (CGLS, with R from the sketched A): each reduces the error by about ``sqrt(d / m)``.
    rng : numpy.random.Generator or int, optional
        Where the sketch comes from.

    Returns
    -------
    SketchedLstsq

    Raises
    ------
    ValueError, TypeError
        If n < d, rows < d, shapes, kinds or dtypes do not fit, an entry is not finite, or the sketched A has no full column rank.

    Warns
    -----
    UserWarning
        If the sketch has more rows than A.

    Notes
    -----
    The error is ``x' - x* = (S A)^+ S r`` with r the true residual: it does not depend on the part of b in A's range. If S were Gaussian, its
    coefficients would be normal with variance at most ``||r||^2 / (m sigma_min(S A)^2)``, and dense structured sketches come close to that. So

        ``linf_bound = sqrt(2 log(2 d / delta) / m) ||A x - b|| (1 + sqrt(d / m)) / sigma_min(S A)``,

    and `l2_bound` has ``sqrt(d) + sqrt(2 log(1 / delta))`` in place of the first root. They are estimates: with sparse sketches they may fail.
    The theorem's ``eps / sqrt(d)`` with a constant of one in place of the root would be exceeded as a rule: the largest of d normal coefficients is.
    After refinement the gradient bounds the error, given the embedding:
    ``||x - x*||_2 <= (1 + sqrt(d / m))^2 ||R^-H A^H (b - A x)|| / sigma_min(R)``, and the smaller of the two is given.

    Richardson's iteration ``x += R^-1 R^-H A^H (b - A x)`` is no substitute for CGLS: it diverges unless m > 11.7 d.

    Cost: O(n d log n) for the transform, O(m d^2) for the factorization, two products with A, and two more per step of refinement.

    References
    ----------
    .. [1] Song, Ye, Yin and Zhang, ICML 2023, arXiv:2302.00248.
    .. [2] Price, Song and Woodruff, "Fast Regression with an l_inf Guarantee", ICALP 2017, arXiv:1705.10723: why CountSketch fails.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((2000, 3))
    >>> found = sketched_lstsq(A, A @ np.array([1.0, 2.0, 3.0]), rng=0)
    >>> found.x.round(8)
    array([1., 2., 3.])
    """
    products, S_of, b = _door(A, b)
    n, d = products.shape
    delta, refine = real(delta, "delta", above=0, below=1), integer(refine, "refine", at_least=0)
    S = _drawn(sketch, n, d, positive(epsilon, "epsilon"), rows, random_generator(rng))
    m, columns = S.shape[0], b if b.ndim == 2 else b[:, None]
    factor = _Triangle(S_of(S))
    x = factor.solve(factor.project(S @ columns))
    x, gradient = _conjugate_gradients(products, factor, columns, x, refine)
    residual = _norms(columns - products.matmat(x))
    linf, l2 = _bounds(residual, factor.smallest, m, d, delta, gradient)
    if b.ndim == 1:
        return SketchedLstsq(x[:, 0], m, float(residual[0]), float(linf[0]), float(l2[0]), factor.condition_number)
    return SketchedLstsq(x, m, residual, linf, l2, factor.condition_number)


class _Triangle:
    """The QR factorization of the sketched A (m, d), refused without full rank; columns are pivoted where it is nearly so."""

    def __init__(self, C):
        xp = namespace(C)
        self.Q, self.R = xp.linalg.qr(C)
        s = to_numpy(xp.linalg.svdvals(self.R)).astype(float)
        eps = float(xp.finfo(C.dtype).eps)
        if not s[-1] > max(C.shape) * eps * s[0]:
            raise ValueError(
                f"A must have full column rank: its sketch has singular values from {s[0]:.3g} down to {s[-1]:.3g}; "
                "numpy.linalg.lstsq and ritz.linalg.lsmr find the solution of least norm"
            )
        self.smallest, self.condition_number = float(s[-1]), float(s[0] / s[-1])
        self.order = None
        if self.condition_number > eps**-0.5:
            self._pivot()

    def _pivot(self) -> None:
        turn, R, order = scipy.linalg.qr(to_numpy(self.R), pivoting=True, mode="economic")
        self.Q, self.R, self.order = self.Q @ like(turn, self.R), like(R, self.R), order

    def project(self, rows):
        """``Q^H rows``."""
        return adjoint(self.Q) @ rows

    def solve(self, y):
        """``R^-1 y``, in the order of A's columns."""
        x = _solve_triangular(self.R, y)
        return x if self.order is None else x[np.argsort(self.order)]

    def solve_adjoint(self, y):
        """``R^-H y``."""
        return _solve_triangular(self.R, y if self.order is None else y[self.order], adjoint_of=True)


def _conjugate_gradients(A: Products, factor: _Triangle, b, x, steps: int):
    """CGLS on A R^-1 from x; returns x and the norms of the last gradients ``R^-H A^H (b - A x)``, or None without a step."""
    if steps == 0:
        return x, None
    r = b - A.matmat(x)
    s = factor.solve_adjoint(A.rmatmat(r))
    p, gamma = s, _squares(s)
    for _ in range(steps):
        t = factor.solve(p)
        q = A.matmat(t)
        step = _ratio(gamma, _squares(q))
        x, r = x + step * t, r - step * q
        s = factor.solve_adjoint(A.rmatmat(r))
        last, gamma = gamma, _squares(s)
        p = s + _ratio(gamma, last) * p
    return x, _norms(factor.solve_adjoint(A.rmatmat(b - A.matmat(x))))


def _bounds(residual: np.ndarray, smallest: float, m: int, d: int, delta: float, gradient) -> tuple[np.ndarray, np.ndarray]:
    distortion = 1 + math.sqrt(d / m)
    scale = residual * distortion / smallest / math.sqrt(m)
    linf = math.sqrt(2 * math.log(2 * d / delta)) * scale
    l2 = (math.sqrt(d) + math.sqrt(2 * math.log(1 / delta))) * scale
    if gradient is None:
        return linf, l2
    refined = distortion**2 * gradient / smallest
    return np.minimum(linf, refined), np.minimum(l2, refined)


def _door(A, b):
    """Check A and b; return the products of A, the function that sketches it, and b."""
    products = as_products(A, "A")
    if products.entries is None:
        raise TypeError(f"A must be an explicit matrix: a sketch multiplies its entries, got {type(A).__name__}")
    if products.shape[0] < products.shape[1]:
        raise ValueError(f"A must have at least as many rows as columns, got shape {products.shape}")
    b = array(b, "b", ndim=(1, 2), allow_complex=True)
    check_right_side(products, b)
    if is_torch(b) != is_torch(products.entries) or (is_torch(b) and b.dtype != products.dtype):
        raise TypeError(f"b must be of A's kind, and as torch of its dtype, {products.dtype}, got {type(b).__name__} of {b.dtype}")
    if not is_torch(b):
        if b.dtype.kind == "c" and not products.is_complex:
            raise TypeError("b must be real as A is: solve for its real and imaginary parts as two columns")
        b = b.astype(products.dtype, copy=False)
    explicit = products.entries if len(products.entries.shape) == 2 else A
    return products, lambda S: S @ explicit, b


def _drawn(sketch: str | Sketch, n: int, d: int, epsilon: float, rows: int | None, rng: np.random.Generator) -> Sketch:
    if isinstance(sketch, Sketch):
        if rows is not None:
            raise ValueError(f"rows must be None with a sketch that was drawn already, got {rows!r}")
        if sketch.shape[1] != n or sketch.shape[0] < d:
            raise ValueError(f"sketch must have {n} columns and at least {d} rows for this A, got shape {sketch.shape}")
        return sketch
    draw = SKETCHES[choice(sketch, "sketch", SKETCHES)]
    if rows is None:
        return draw(min(n, max(d + 10, math.ceil(4 * d / epsilon**2))), n, rng)
    rows = integer(rows, "rows")
    if rows < d:
        raise ValueError(f"rows must be at least the {d} columns of A, got {rows}")
    if rows > n:
        warnings.warn(f"the sketch has {rows} rows, more than the {n} of A: solving without a sketch is cheaper and exact", stacklevel=3)
    return draw(rows, n, rng)


def _solve_triangular(R, y, *, adjoint_of: bool = False):
    if is_torch(R):
        import torch

        return torch.linalg.solve_triangular(R.mH if adjoint_of else R, y, upper=not adjoint_of)
    return scipy.linalg.solve_triangular(R, y, trans="C" if adjoint_of else "N", check_finite=False)


def _squares(X):
    """The squared norms of the columns."""
    xp = namespace(X)
    return xp.sum(xp.abs(X) ** 2, axis=0)


def _norms(X) -> np.ndarray:
    return to_numpy(namespace(X).linalg.vector_norm(X, axis=0)).astype(float)


def _ratio(numerator, denominator):
    """Their ratio, zero where the denominator is: there nothing is left to do."""
    xp = namespace(numerator)
    return xp.where(denominator > 0, numerator / xp.where(denominator > 0, denominator, 1), 0 * numerator)
