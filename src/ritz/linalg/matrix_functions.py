"""A function of a Hermitian matrix times vectors, by Lanczos: ``f(A) b ~ ||b|| Q f(T) e_1``.

Exact for polynomials of degree below the number of steps; the error is at most ``2 ||b||`` times the error of the best polynomial approximation
of f on the spectrum's interval. Saad, "Analysis of Some Krylov Subspace Approximations to the Matrix Exponential Operator", SIAM J. Numer.
Anal. 29 (1992); Higham, "Functions of Matrices", SIAM 2008, section 13.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ritz.core import Result, array, choice, integer, is_torch, namespace, real, warn_not_converged
from ritz.linalg.lanczos_process import Lanczos
from ritz.linalg.products import Products, as_products

CHECK_EVERY = 4  # steps between two looks at the error estimate


@dataclass(frozen=True, eq=False, repr=False)
class MatrixFunctionAction(Result):
    """What `matrix_function_action` found.

    Attributes
    ----------
    x : array (n,) or (n, b)
        ``f(A) b``.
    error_estimate : float
        The largest over the columns of an estimate of ``||x - f(A) b||``: the change of x in the last few steps.
    converged : bool
        Whether the estimate fell below the tolerance.
    steps : int
        Products with the block b.
    """

    x: np.ndarray
    error_estimate: float
    converged: bool
    steps: int


def matrix_function_action(f: str | Callable, A, b, *, tol: float = 1e-8, max_steps: int = 200) -> MatrixFunctionAction:
    """Return ``f(A) b`` for a Hermitian matrix A, without forming f(A).

    Parameters
    ----------
    f : {"exp", "sqrt", "inverse sqrt", "sign"} or callable
        The function; a callable takes an array of real eigenvalues (of A's kind) and returns as many values. ``"sqrt"`` and ``"inverse sqrt"`` refuse
        a matrix seen to have negative eigenvalues; "sign" of zero is zero.
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Symmetric or Hermitian; checked with two random vectors.
    b : array (n,) or (n, b)
        Of A's kind and dtype (a NumPy b is converted to A's dtype). Columns are treated apart.
    tol : float
        Stop where the estimated error of every column is below this times the norm of its result.
    max_steps : int
        Lanczos steps at most (basis memory ``n b`` numbers each).

    Returns
    -------
    MatrixFunctionAction
        Not having converged is in the result, and warned.

    Raises
    ------
    TypeError, ValueError
        If A is no finite Hermitian matrix, b does not fit, f has no real values on the spectrum, or an option is out of range.

    Notes
    -----
    The estimate compares two iterates 4 steps apart, which is an error bound only while convergence goes on (it may stall for functions that are not
    smooth on the spectrum, "sign" near an eigenvalue at zero above all).
    ``2 n b s^2`` operations for the orthogonalization of s steps beside the products.

    Examples
    --------
    >>> found = matrix_function_action("exp", np.diag([0.0, 1.0]), np.array([2.0, 1.0]))
    >>> np.round(found.x, 6)
    array([2.      , 2.718282])
    """
    A = as_products(A, "A", hermitian=True)
    f = _function(f, A)
    b, is_vector = _columns(A, b)
    tol, max_steps = real(tol, "tol", above=0), integer(max_steps, "max_steps", at_least=1)
    x, error, converged, steps = _lanczos_action(f, A, b, tol, max_steps)
    if not converged:
        warn_not_converged(f"f(A) b: estimated error {error:.2e} after {steps} steps")
    return MatrixFunctionAction(x[:, 0] if is_vector else x, error, converged, steps)


def _first_column(f: Callable, T):
    """The first column of f(T), (b, steps), for a batch T (b, steps, steps)."""
    nodes, vectors = namespace(T).linalg.eigh(T)
    return (vectors @ (f(nodes) * vectors[:, 0, :])[..., None])[..., 0]


def _lanczos_action(f: Callable, A: Products, b, tol: float, max_steps: int):
    xp = A.xp
    norms = xp.linalg.vector_norm(b, axis=0)
    nonzero = xp.astype(norms > 0, A.dtype)
    process = Lanczos(A, xp.where(norms > 0, b, xp.ones_like(b)))
    scale = process.norms * xp.real(nonzero) if A.is_complex else process.norms * nonzero
    previous, error, converged = None, math.inf, False
    limit = min(max_steps, A.shape[0])
    while not converged and process.steps < limit:
        process.advance()
        last = process.exhausted or process.steps == limit
        if not last and process.steps % CHECK_EVERY:
            continue
        coefficients = _first_column(f, process.tridiagonal()) * scale[:, None]
        exact = process.exhausted or process.steps == A.shape[0]
        error, converged = (0.0, True) if exact else _change(xp, coefficients, previous, tol)
        previous = coefficients
    return process.combine(coefficients), error, converged, process.steps


def _change(xp, coefficients, previous, tol: float) -> tuple[float, bool]:
    """The norm of the change since the last look, and whether it is small for every column; the basis is orthonormal, so coefficients tell."""
    if previous is None:
        return math.inf, False
    padding = xp.zeros_like(coefficients[:, previous.shape[1] :])
    change = xp.linalg.vector_norm(coefficients - xp.concat([previous, padding], axis=1), axis=1)
    size = xp.linalg.vector_norm(coefficients, axis=1)
    return float(xp.max(change)), bool(xp.all(change <= tol * size))


def _function(f: str | Callable, A: Products) -> Callable:
    xp = A.xp
    if callable(f):
        return _checked_function(f, A)
    f = choice(f, "f", ["exp", "sqrt", "inverse sqrt", "sign"])
    if f in ("exp", "sign"):
        return {"exp": xp.exp, "sign": xp.sign}[f]

    def root(nodes):
        largest, least = float(xp.max(xp.abs(nodes))), float(xp.min(nodes))
        rounding = A.shape[0] * A.eps * largest
        if least < -rounding or (f == "inverse sqrt" and least <= 0):
            needed = "semidefinite" if f == "sqrt" else "definite"
            raise ValueError(f"A must be positive {needed} for f = '{f}', got a Ritz value {least:.3}")
        roots = xp.sqrt(xp.clip(nodes, 0, None))
        return roots if f == "sqrt" else 1 / roots

    return root


def _checked_function(f: Callable, A: Products) -> Callable:
    def checked(nodes):
        values = array(f(nodes), "f(eigenvalues)")
        if values.shape != nodes.shape or is_torch(values) != is_torch(nodes):
            raise ValueError(f"f must return an array like its argument, of shape {tuple(nodes.shape)}, got {tuple(values.shape)}")
        return A.xp.astype(values, nodes.dtype, copy=False)

    return checked


def _columns(A: Products, b):
    b = array(b.detach() if is_torch(b) else b, "b", ndim=(1, 2), allow_complex=A.is_complex)
    if b.shape[0] != A.shape[0]:
        raise ValueError(f"b must have {A.shape[0]} rows like A, got shape {tuple(b.shape)}")
    probe = A.asarray(np.empty(0))
    if is_torch(b) != is_torch(probe):
        raise TypeError(f"b must be of A's kind, got {type(b).__name__}")
    if is_torch(b) and (b.dtype != A.dtype or b.device != A.device):
        raise TypeError(f"b must have A's dtype and device, {A.dtype} on {A.device}, got {b.dtype} on {b.device}")
    b = A.xp.astype(b, A.dtype, copy=False)
    return (b[:, None], True) if b.ndim == 1 else (b, False)
