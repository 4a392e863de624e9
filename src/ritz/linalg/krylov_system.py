"""What the Krylov solvers share: the system with all its right-hand sides, the record of an iteration, and the result.

Right-hand sides are the *rows* of an array (k, n) inside the solvers: each has its own scalars, and one product serves them all. A right-hand side
that is done leaves the iteration, so that easy ones do not pay for hard ones. The residual that an iteration carries along drifts from ``b - A x``
by rounding; when it claims convergence, ``b - A x`` is computed and has the last word, and the iteration goes on from there if need be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import scipy.sparse.linalg

from ritz.core import Result, array, integer, is_torch, like, namespace, real, to_numpy
from ritz.linalg.csr_products import multiply_vectors
from ritz.linalg.matrix_kinds import checked_matrix, is_sparse_tensor, stored
from ritz.linalg.operators import StructuredOperator

REASONS = {
    "max_iterations": "max_iterations was reached",
    "stagnated": "the residual b - A x no longer decreases: the tolerance is beyond what rounding, or a restart, allows",
    "indefinite": "A is not positive definite: a direction p with p^H A p <= 0 was met",
    "indefinite_preconditioner": "the preconditioner is not positive definite: a vector r with r^H M r <= 0 was met",
    "singular": "A is singular and b not in its range, as far as the Krylov space shows",
    "ill_conditioned": "the matrix is too ill-conditioned for the tolerance",
    "breakdown": "the iteration met numbers that are not finite",
}


@dataclass(frozen=True, eq=False, repr=False)
class KrylovResult(Result):
    """What a Krylov solver returns. With b (n, k), each column has its own verdict; with b (n,) they are plain values.

    Attributes
    ----------
    x : array (n,) or (n, k)
        The last iterate, of the kind of b.
    converged : bool or array (k,) of bool
        Whether ``||b - A x|| <= tol ||b||``, with the residual computed from x (`lsmr`: or the normal equations' counterpart).
    iterations : int or array (k,) of int
        Steps taken.
    residual_norms : array (steps + 1,) or (steps + 1, k)
        ``||b - A x||`` at the start and after each step, as the iteration carries it along; a column that is done repeats its last value.
        The last row is computed from x. `lsmr` gives the first and the last only.
    reason : str or tuple of str
        "converged", or why it stopped: "max_iterations", "stagnated", "indefinite", "indefinite_preconditioner", "singular",
        "ill_conditioned", "breakdown".

    Examples
    --------
    >>> KrylovResult(np.ones(2), True, 1, np.array([1.0, 0.0]), "converged")
    KrylovResult(x=float64[2], converged=True, iterations=1, residual_norms=float64[2], reason='converged')
    """

    x: np.ndarray
    converged: bool | np.ndarray
    iterations: int | np.ndarray
    residual_norms: np.ndarray
    reason: str | tuple[str, ...]

    def complaint(self, method: str) -> str:
        """A sentence on why `method` did not converge, for a warning; empty if it did."""
        reasons = (self.reason,) if isinstance(self.reason, str) else self.reason
        failed = [reason for reason in reasons if reason != "converged"]
        if not failed:
            return ""
        share = f" for {len(failed)} of {len(reasons)} right-hand sides" if len(reasons) > 1 else ""
        return f"{method} did not converge{share}: {'; '.join(REASONS[reason] for reason in dict.fromkeys(failed))}"


Rows = Callable[[object], object]  # (k, n) to (k, m), one product per row


@dataclass(frozen=True)
class LinearSystem:
    """A system A x = b with k right-hand sides as rows: checked, converted once, ready to iterate.

    b and x0 are divided by `scales`, powers of two, so that no norm over- or underflows; that is exact.
    """

    multiply: Rows
    precondition: Rows
    b: object  # (k, n)
    x0: object  # (k, n)
    scales: np.ndarray  # (k,)
    is_vector: bool
    xp: object  # the array namespace of the right-hand sides

    def residual(self, x, rows=slice(None)):
        """``b - A x`` for some of the right-hand sides."""
        return self.b[rows] - self.multiply(x)


def linear_system(A, b, x0, preconditioner, *, hermitian: bool = False, name: str = "preconditioner") -> LinearSystem:
    """Check the arguments of a solver and convert them once.

    Matrices and right-hand sides are both torch (of one dtype, on one device) or both not; without torch the computation runs in the common dtype.
    With `hermitian`, A and the preconditioner are probed with two fixed vectors and refused if they are not Hermitian.
    `name` is what the solver calls the preconditioner.
    """
    A, M = checked_matrix(A, "A", square=True), None if preconditioner is None else checked_matrix(preconditioner, name)
    b = array(b, "b", ndim=(1, 2), allow_complex=True)
    check_right_side(A, b)
    if M is not None and tuple(M.shape) != tuple(A.shape):
        raise ValueError(f"{name} must have the shape of A, {tuple(A.shape)}, got {tuple(M.shape)}")
    x0 = _initial_guess(x0, b)
    for value, its_name in ((A, "A"), (M, name)):
        if value is not None:
            check_kinds(value, its_name, b)
    dtype = b.dtype if is_torch(b) else np.result_type(b.dtype, *(value.dtype for value in (A, M, x0) if value is not None))
    b_rows = as_rows(b, dtype)
    x_rows = namespace(b_rows).zeros_like(b_rows) if x0 is None else as_rows(x0, dtype)
    scales = powers_of_two(b_rows)
    column = like(scales.astype(to_numpy(x_rows[:0].real).dtype), b_rows)[:, None]
    b_rows, x_rows = b_rows / column, x_rows / column
    multiply = row_product(A, dtype)
    precondition = (lambda rows: rows) if M is None else row_product(M, dtype)
    if hermitian:
        _check_hermitian(multiply, b_rows, "A")
        if M is not None:
            _check_hermitian(precondition, b_rows, name)
    return LinearSystem(multiply, precondition, b_rows, x_rows, scales, b.ndim == 1, namespace(b_rows))


def row_product(A, dtype) -> Rows:
    """Return the function that multiplies each row of an array (k, n) by A, in one dtype and contiguous."""
    if isinstance(A, np.ndarray) or (is_torch(A) and not is_sparse_tensor(A)):
        transposed = A.detach().T if is_torch(A) else A.astype(dtype, copy=False).T
        return lambda rows: rows @ transposed
    if scipy.sparse.issparse(A):
        A = A.astype(dtype, copy=False)
        return lambda rows: multiply_vectors(A, rows)

    def apply(rows):
        plain = isinstance(A, scipy.sparse.linalg.LinearOperator) and not isinstance(A, StructuredOperator)
        if plain and len(rows) == 0:
            return np.empty((0, A.shape[0]), dtype=dtype)  # SciPy multiplies no matrix without columns by matvec
        product = A.matvec(rows[0])[None] if plain and len(rows) == 1 else (A @ rows.T).T
        return product.detach().contiguous() if is_torch(product) else np.ascontiguousarray(product, dtype=dtype)

    return apply


def as_rows(columns, dtype):
    """A vector (n,) or columns (n, k) as contiguous rows (k, n)."""
    if is_torch(columns):
        return (columns.detach().reshape(1, -1) if columns.ndim == 1 else columns.detach().T).contiguous()
    return np.ascontiguousarray(columns.reshape(1, -1) if columns.ndim == 1 else columns.T, dtype=dtype)


def powers_of_two(rows) -> np.ndarray:
    """For each row the power of two at or below its largest entry, 1 for zero rows: dividing by it rounds nothing."""
    largest = to_numpy(namespace(rows).max(abs(rows), axis=1)).astype(float)
    return np.where(largest > 0, np.ldexp(1.0, np.frexp(largest)[1] - 1), 1.0)


class Columns(SimpleNamespace):
    """The state of the right-hand sides that are still in a sweep: every attribute has one row for each, `index` says which they are."""

    def keep(self, mask: np.ndarray) -> None:
        """Drop the others from every attribute."""
        if not mask.all():
            rows = np.flatnonzero(mask)
            for name, value in vars(self).items():
                setattr(self, name, value[rows])


class Iteration:
    """The record of a solver's run over all right-hand sides: iterates, residual norms, step counts and reasons."""

    def __init__(self, system: LinearSystem, tol: float, max_iterations: int | None):
        self.system = system
        self.tol = real(tol, "tol", at_least=0)
        k, n = system.b.shape
        self.limit = 10 * n if max_iterations is None else integer(max_iterations, "max_iterations", at_least=1)
        self.x = system.x0
        self.target = self.tol * row_norms(system.b)
        self.steps = np.zeros(k, dtype=int)
        self.reasons = np.full(k, "", dtype=object)
        self.norms = np.zeros(k)
        self.history: list[np.ndarray] = []

    def run(self, sweep: Callable[[Iteration, Columns], None]) -> KrylovResult:
        """Call `sweep(iteration, columns)`, columns with attributes x and r, on those that are not done, until all are.

        A sweep records its steps and retires every column with a reason. Those retired as "converged" or "restart" are judged by ``b - A x``.
        """
        system, xp = self.system, self.system.xp
        self.x[np.flatnonzero(row_norms(system.b) == 0)] = 0  # the solution for b = 0, whatever x0
        r = system.residual(self.x) if bool(xp.any(self.x != 0)) else xp.asarray(system.b, copy=True)
        self.norms = row_norms(r)
        self.history.append(self.norms.copy())
        self.reasons[self.norms <= self.target] = "converged"
        columns, computed = np.flatnonzero(self.norms > self.target), self.norms.copy()
        r = r[columns]
        while columns.size:
            sweep(self, Columns(index=columns, x=self.x[columns], r=r))
            r = system.residual(self.x[columns], columns)
            norms = row_norms(r)
            self._judge(columns, norms, computed[columns])
            self.norms[columns] = computed[columns] = norms
            self.history[-1] = self.norms.copy()
            going = np.flatnonzero(self.reasons[columns] == "")
            columns, r = columns[going], r[going]
        return self._result()

    def retire_where(self, condition, reason: str, columns: Columns) -> None:
        """Take the columns for which the condition holds out of the sweep, with their x and this reason."""
        lost = condition if isinstance(condition, np.ndarray) else to_numpy(condition)
        if lost.any():
            self.x[columns.index[lost]] = columns.x[np.flatnonzero(lost)]
            self.reasons[columns.index[lost]] = reason
            columns.keep(~lost)

    def advance(self, norms: np.ndarray, columns: Columns) -> None:
        """Note a step and the residual norms it led to; retire the columns that are done."""
        index = columns.index
        self.steps[index] += 1
        self.norms[index] = norms
        self.history.append(self.norms.copy())
        spent = self.steps[index] >= self.limit
        if ((norms > self.target[index]) & ~spent & (norms < np.inf)).all():
            return
        self.reasons[index[~np.isfinite(norms)]] = "breakdown"  # and x stays what it was before this sweep
        columns.keep(np.isfinite(norms))
        self.retire_where(self.norms[columns.index] <= self.target[columns.index], "converged", columns)
        self.retire_where(self.steps[columns.index] >= self.limit, "max_iterations", columns)

    def _judge(self, columns: np.ndarray, norms: np.ndarray, before: np.ndarray) -> None:
        """Replace the reasons by what ``||b - A x||`` says; an empty reason means that the column goes on."""
        reasons = self.reasons[columns]
        claimed = (reasons == "converged") | (reasons == "restart")
        progress = norms < before * np.where(reasons == "restart", 1 - 1e-10, 0.5)
        reasons[claimed & progress] = ""
        reasons[claimed & progress & (self.steps[columns] >= self.limit)] = "max_iterations"
        reasons[claimed & ~progress] = "stagnated"
        reasons[norms <= self.target[columns]] = "converged"
        self.reasons[columns] = reasons

    def _result(self) -> KrylovResult:
        scales = self.system.scales
        x = self.x * like(scales.astype(to_numpy(self.x[:0].real).dtype), self.x)[:, None]
        norms, converged = np.stack(self.history) * scales, self.reasons == "converged"
        if self.system.is_vector:
            return KrylovResult(x[0], bool(converged[0]), int(self.steps[0]), norms[:, 0], str(self.reasons[0]))
        return KrylovResult(x.T, converged, self.steps, norms, tuple(map(str, self.reasons)))


def inner(x, y):
    """The inner products ``x_i^H y_i`` of the rows."""
    return np.vecdot(x, y) if isinstance(x, np.ndarray) else namespace(x).vecdot(x, y)


def real_inner(x, y):
    """The real parts of the inner products of the rows."""
    return inner(x, y).real


def row_norms(x) -> np.ndarray:
    """The Euclidean norms of the rows, on the host."""
    return np.sqrt(to_numpy(real_inner(x, x)))


def _initial_guess(x0, b):
    if x0 is None:
        return None
    x0 = array(x0, "x0", shape=tuple(b.shape), allow_complex=True)
    if is_torch(x0) != is_torch(b) or (is_torch(b) and x0.dtype != b.dtype):
        raise TypeError(f"x0 must be of the kind and dtype of b, {type(b).__name__} of {b.dtype}, got {type(x0).__name__} of {x0.dtype}")
    return x0


def check_right_side(A, b) -> None:
    """Refuse right-hand sides that have not as many entries as A has rows."""
    if b.shape[0] != A.shape[0]:
        raise ValueError(f"b must have shape ({A.shape[0]},) or ({A.shape[0]}, k) beside A of shape {tuple(A.shape)}, got {tuple(b.shape)}")


def check_kinds(A, name: str, b) -> None:
    """Refuse torch beside NumPy; torch of two dtypes."""
    entries = stored(A)
    if is_torch(entries) != is_torch(b):
        raise TypeError(f"{name} and b must both be torch or both not, got {type(entries).__name__} and {type(b).__name__}")
    if is_torch(b) and entries.dtype != b.dtype:
        raise TypeError(f"b must have the dtype of {name}, {entries.dtype}, got {b.dtype}")


def _check_hermitian(multiply: Rows, b, name: str) -> None:
    """Compare u^H (A v) with (A u)^H v for two fixed vectors: a matrix that is not Hermitian fails with probability one."""
    rng = np.random.default_rng(0)
    real_part, imaginary = rng.standard_normal((2, 2, b.shape[1]))
    probes = real_part + 1j * imaginary if namespace(b).isdtype(b.dtype, "complex floating") else real_part
    probes = like(probes.astype(to_numpy(b[:0]).dtype), b)
    images = multiply(probes)
    (difference,) = to_numpy(inner(probes[:1], images[1:]) - inner(images[:1], probes[1:]))
    scale = row_norms(probes)[:1] * row_norms(images)[1:]
    tolerance = np.sqrt(np.finfo(scale.dtype).eps)
    if abs(difference) > tolerance * scale[0]:
        raise ValueError(f"{name} must be Hermitian: u^H ({name} v) and ({name} u)^H v differ by {abs(difference):.3} for two vectors u, v")
