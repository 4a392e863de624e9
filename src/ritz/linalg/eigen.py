"""A few eigenpairs of a Hermitian matrix of any kind: `eigsh` picks the method, and says what it picked and what it did not reach.

Every route ends the same way: the residuals ``||A v - theta M v||`` are computed anew from the vectors that are returned, what exceeds the tolerance
is flagged and warned, and each vector is scaled so that its entry of largest modulus is positive.

The routes are LAPACK (dense), thick-restart block Lanczos (Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000), on a Chebyshev polynomial where it
stalls (Fang and Saad, SIAM J. Sci. Comput. 34, 2012), Chebyshev-filtered subspace iteration (Zhou, Saad, Tiago and Chelikowsky, J. Comput. Phys. 219,
2006), LOBPCG (Knyazev, SIAM J. Sci. Comput. 23, 2001) and shift-invert Lanczos (Ericsson and Ruhe, Math. Comp. 35, 1980).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from ritz.core import Result, choice, integer, like, matrix, positive, random_generator, real, to_numpy, warn_not_converged
from ritz.linalg.algebraic_multigrid import amg
from ritz.linalg.chebyshev_filter import GUARDS, csr_step, filtered_smallest, operator_step
from ritz.linalg.filtered_lanczos import smallest_by_filtered_lanczos
from ritz.linalg.hermitian import Hermitian, hermitian, spectral_ends
from ritz.linalg.lanczos import ENDS, RitzPairs, random_block, start_block, thick_restart_lanczos, wanted_order
from ritz.linalg.lobpcg import lobpcg_smallest
from ritz.linalg.matrix_kinds import host_matrix, stored
from ritz.linalg.shift_invert import factors_stay_sparse, shift_invert_lanczos, smallest_by_shift_invert

METHODS = ("auto", "dense", "lanczos", "chebyshev", "lobpcg", "shift-invert")
ALWAYS_DENSE = 2_000  # rows up to which LAPACK is best whatever is asked for
DENSE_LIMIT = 10_000  # rows up to which a dense matrix may be decomposed where the other routes are weak
LANCZOS_BLOCK = 2
PLAIN_CYCLES = 2  # bases full of products that Lanczos may take on the matrix itself, before it goes on with a polynomial of it, from
FILTERED_ROWS = 5_000  # rows on
PRODUCTS_PER_PAIR = 5_000
TRIAL_PRODUCTS_PER_PAIR = 150  # what Lanczos may spend on smallest pairs before the Chebyshev filter takes over from its Ritz vectors
SINGULAR_SHIFT = 1e-8  # of the norm, added before multigrid is set up: a Laplacian is singular
ROUNDING_FLOOR = 16.0  # times eps: relative residuals below this cannot be asked for


@dataclass(frozen=True, eq=False, repr=False)
class EigenResult(Result):
    """Eigenpairs, the most wanted first, with what is known about their accuracy.

    Attributes
    ----------
    eigenvalues : array (k,)
        Real.
    eigenvectors : array (n, k)
        Orthonormal (in the inner product of M, if there is one); the entry of largest modulus of each is positive.
    residual_norms : array (k,)
        ``||A v - theta v||`` (``||A v - theta M v||``), recomputed from the vectors returned.
    converged : array (k,) of bool
        Whether the residual is within the tolerance.
    matvecs : int
        Products with A; for shift-invert also the solves.
    restarts : int
        Restarts of Lanczos or sweeps of the filter; 0 for LAPACK.
    method : str
        The route taken.
    """

    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    residual_norms: np.ndarray
    converged: np.ndarray
    matvecs: int
    restarts: int
    method: str


def eigsh(
    A,
    k: int = 6,
    *,
    which: str = "largest",
    sigma: float | None = None,
    tol: float = 1e-8,
    M=None,
    preconditioner=None,
    initial=None,
    max_matvecs: int | None = None,
    method: str = "auto",
    rng: np.random.Generator | int | None = None,
) -> EigenResult:
    """Return k eigenpairs of a real symmetric or complex Hermitian matrix, or of the pencil ``A x = lambda M x``.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Hermitian; an operator is checked with two random vectors. Computed in its dtype, at least float32; integers as float64.
    k : int
        How many, at most n; k = n takes the dense route.
    which : {"largest", "smallest", "magnitude", "both"}
        The algebraically largest (descending), the algebraically smallest (ascending), the largest in modulus (descending), or the largest and the
        smallest in turn.
    sigma : float, optional
        Return the eigenvalues nearest to this, nearest first; `which` must then be left at its default.
    tol : float
        A pair has converged if its residual is at most ``tol * (||A|| + |theta| ||M||)``, norms estimated by Lanczos. What rounding allows, 16 eps,
        is always enough.
    M : array, sparse array or torch tensor (n, n), optional
        Hermitian positive definite.
    preconditioner : "amg" or as A, optional
        Something Hermitian positive definite near the inverse of A, for `lobpcg`, which is then what "auto" takes: multigrid (extra ``linalg``; for
        sparse Laplacian-like A), or an operator.
    initial : array (n,) or (n, p), optional
        Approximate eigenvectors to start from; not used by the dense route.
    max_matvecs : int, optional
        About how many products (shift-invert: solves) may be spent; by default 5,000 per pair. Not used by the dense route.
    method : {"auto", "dense", "lanczos", "chebyshev", "lobpcg", "shift-invert"}
        "auto" takes LAPACK up to 2,000 rows (10,000 for more than n/4 pairs, and for smallest or interior pairs of a dense matrix); for interior
        pairs, and for smallest ones of a sparse matrix whose factors stay sparse, shift-invert; for other smallest ones Lanczos and,
        where it stalls, the Chebyshev filter from its Ritz vectors; else Lanczos.
    rng : numpy.random.Generator or int, optional
        Where random blocks come from.

    Returns
    -------
    EigenResult
        Torch tensors if A is one, else NumPy arrays.

    Warns
    -----
    ConvergenceWarning
        If a pair did not converge; the result flags which.

    Raises
    ------
    ValueError, TypeError
        If A is not square, Hermitian and finite, M not positive definite, or an option is out of range or impossible for this kind of A.

    Notes
    -----
    No method that only multiplies can prove that it missed nothing. Lanczos explores the complement of what it found from a fresh random block; the
    first shift for smallest pairs is certified by inertia to lie below the spectrum. Memory: n (2k + 20) entries, or 3 n k, and the factors.
    CUDA tensors are refused, not moved.

    Examples
    --------
    >>> path = scipy.sparse.diags_array([-np.ones(4999), np.r_[1.0, np.full(4998, 2.0), 1.0], -np.ones(4999)], offsets=[-1, 0, 1])
    >>> found = eigsh(path, 3, which="smallest", rng=0)
    >>> found.method, bool(np.allclose(found.eigenvalues, 4 * np.sin(np.arange(3) * np.pi / 10000) ** 2, atol=1e-12))
    ('shift-invert', True)
    """
    rng = random_generator(rng)
    operand = hermitian(A, "A", rng)
    k = integer(k, "k", at_least=1)
    if k > operand.n:
        raise ValueError(f"k must be at most the number of rows of A, {operand.n}, got {k}")
    which, method = choice(which, "which", ENDS), choice(method, "method", METHODS)
    tol = max(positive(tol, "tol"), ROUNDING_FLOOR * float(np.finfo(operand.dtype).eps))
    sigma = None if sigma is None else real(sigma, "sigma")
    if sigma is not None and which != "largest":
        raise ValueError(f"which must be left at its default when sigma is given, got {which!r}")
    weight = None if M is None else _weight(M, operand, rng)
    start = None if initial is None else _initial(initial, operand)
    budget = PRODUCTS_PER_PAIR * (k + 10) if max_matvecs is None else integer(max_matvecs, "max_matvecs", at_least=1)
    route = method
    if method == "auto":
        route = "lobpcg" if preconditioner is not None else _choose(operand, weight, k, which, sigma)
    _refuse_impossible(route, operand, weight, k, which, sigma)
    if preconditioner is not None and route != "lobpcg":
        raise ValueError(f"preconditioner must be None for method {route!r}, which uses none")
    precondition = _preconditioner(preconditioner, operand) if route == "lobpcg" else None
    if method == "auto" and route == "chebyshev":
        trial = min(budget, TRIAL_PRODUCTS_PER_PAIR * (k + 10))
        pairs, scale = _lanczos(operand, weight, k, which, sigma, tol, start, trial, rng)
        if not pairs.exhausted or trial == budget:
            return _finished(operand, weight, pairs, scale, tol, "lanczos", A)
        start, budget = pairs.vectors, budget - pairs.products
    if route == "lobpcg":
        pairs, scale = _lobpcg(operand, precondition, k, tol, start, budget, rng)
    else:
        solve = {"dense": _dense, "lanczos": _lanczos, "chebyshev": _chebyshev, "shift-invert": _shift_invert}[route]
        pairs, scale = solve(operand, weight, k, which, sigma, tol, start, budget, rng)
    return _finished(operand, weight, pairs, scale, tol, route, A)


def _choose(A: Hermitian, M: Hermitian | None, k: int, which: str, sigma: float | None) -> str:
    inner = which == "smallest" or sigma is not None
    if A.n <= ALWAYS_DENSE or (A.n <= DENSE_LIMIT and (k > A.n // 4 or (inner and A.is_dense))):
        return "dense"
    if sigma is not None:
        return "shift-invert"
    if which == "smallest" and A.is_sparse and (M is None or M.is_sparse):
        pattern = A.entries if M is None else abs(A.entries) + abs(M.entries)
        if k < A.n // 4 and factors_stay_sparse(scipy.sparse.csr_array(pattern)):
            return "shift-invert"
    return "chebyshev" if which == "smallest" and M is None and k < A.n // 4 else "lanczos"


def _refuse_impossible(route: str, A: Hermitian, M: Hermitian | None, k: int, which: str, sigma: float | None) -> None:
    if k == A.n and route != "dense":
        raise ValueError(f"k must be less than n for method {route!r}, got {k} of {A.n}")
    if sigma is not None and route not in ("dense", "shift-invert"):
        raise ValueError(f"method must be 'auto', 'dense' or 'shift-invert' when sigma is given, got {route!r}")
    if route == "shift-invert" and not (A.is_sparse or A.is_dense):
        raise ValueError("method 'shift-invert', and sigma for a large matrix, need the entries of A, got a LinearOperator")
    if route == "shift-invert" and sigma is None and which != "smallest":
        raise ValueError(f"which must be 'smallest' for method 'shift-invert' without sigma, got {which!r}")
    if route in ("chebyshev", "lobpcg") and (which != "smallest" or M is not None or sigma is not None):
        raise ValueError(f"method '{route}' finds the smallest pairs, which='smallest', without M")


def _dense(A, M, k, which, sigma, tol, start, budget, rng) -> tuple[RitzPairs, float]:
    weight = None if M is None else M.toarray()
    subset = None
    if sigma is None and which in ("largest", "smallest") and k <= A.n // 4:
        subset = (0, k - 1) if which == "smallest" else (A.n - k, A.n - 1)
    values, vectors = scipy.linalg.eigh(A.toarray(), weight, subset_by_index=subset)
    scale = float(np.max(np.abs(values))) if subset is None else _norm(A, rng)
    order = (wanted_order(values, which) if sigma is None else np.argsort(np.abs(values - sigma), kind="stable"))[:k]
    return RitzPairs(values[order], vectors[:, order], 0, 0, scale, False), scale


def _lanczos(A, M, k, which, sigma, tol, start, budget, rng) -> tuple[RitzPairs, float]:
    scale = 0.0 if M is None else _norm(A, rng)
    apply, weight = A.apply, None
    if M is not None:
        solve = _solver(M)
        apply, weight = (lambda X: solve(A.apply(X))), M.apply
    start, basis = start_block(start, A.n, LANCZOS_BLOCK, A.dtype, rng), max(2 * k + 20, 3 * k)
    filtered = M is None and which in ("largest", "smallest") and A.n > FILTERED_ROWS
    trial = min(budget, PLAIN_CYCLES * basis) if filtered else budget
    pairs = thick_restart_lanczos(apply, start, k, which, tol=tol / 2, basis_size=basis, max_products=trial, rng=rng, weight=weight)
    if pairs.exhausted and trial < budget:
        pairs = _filtered_lanczos(A, pairs, k, which, tol, budget, rng)
    return pairs, pairs.scale if M is None else scale


def _filtered_lanczos(A: Hermitian, pairs: RitzPairs, k: int, which: str, tol, budget: int, rng) -> RitzPairs:
    """Go on from unconverged Ritz pairs by Lanczos on a polynomial of A, or of -A for the largest."""
    sign = 1 if which == "smallest" else -1
    low, low_error, high, high_error = spectral_ends(A.apply, A.n, A.dtype, rng)
    scale = max(abs(low), abs(high), pairs.scale)
    upper = (high + high_error if sign > 0 else low_error - low) + float(np.finfo(A.dtype).eps) * scale
    step = csr_step(A.entries if sign > 0 else -A.entries) if A.is_sparse else operator_step(lambda X: sign * A.apply(X))
    counted = A.matvecs
    found = smallest_by_filtered_lanczos(lambda X: sign * A.apply(X), step, pairs, k, upper, tol=tol, scale=scale, max_products=budget, rng=rng)
    A.matvecs = counted + found.products - pairs.products
    return replace(found, values=sign * found.values)


def _chebyshev(A, M, k, which, sigma, tol, start, budget, rng) -> tuple[RitzPairs, float]:
    low, _, high, error = spectral_ends(A.apply, A.n, A.dtype, rng)
    scale = max(abs(low), abs(high))
    columns = min(k + max(GUARDS, k // 2), A.n)
    given = 0 if start is None else min(start.shape[1], columns)
    block = random_block(A.n, columns, A.dtype, rng)
    block[:, :given] = start[:, :given] if given else block[:, :0]
    step = csr_step(A.entries) if A.is_sparse else operator_step(A.apply)
    single = csr_step(A.entries.astype(np.float32)) if A.is_sparse and A.dtype == np.float64 else None
    upper = high + error + np.finfo(A.dtype).eps * scale
    before = A.matvecs
    pairs = filtered_smallest(A.apply, step, block, k, low, upper, tol=tol, scale=scale, max_products=budget, rng=rng, single_step=single)
    A.matvecs = before + pairs.products
    return pairs, scale


def _lobpcg(A: Hermitian, precondition, k: int, tol, start, budget: int, rng) -> tuple[RitzPairs, float]:
    scale = _norm(A, rng)
    columns = min(k + max(GUARDS, k // 4), A.n)
    given = 0 if start is None else min(start.shape[1], columns)
    block = random_block(A.n, columns, A.dtype, rng)
    if given:
        block[:, :given] = start[:, :given]
    return lobpcg_smallest(A.apply, precondition, block, k, tol=tol, scale=scale, max_products=budget, rng=rng), scale


def _preconditioner(preconditioner, A: Hermitian):
    """The preconditioner as a function of blocks; none is the identity."""
    if preconditioner is None:
        return lambda R: R
    if isinstance(preconditioner, str):
        choice(preconditioner, "preconditioner", ("amg",))
        if not A.is_sparse:
            raise ValueError("preconditioner must be an operator where A is not sparse, got 'amg'")
        size = float(abs(A.entries).sum(axis=0).max())
        shifted = A.entries + SINGULAR_SHIFT * size * scipy.sparse.eye_array(A.n, format="csr", dtype=A.dtype)
        return amg(scipy.sparse.csr_array(shifted)).matmat
    M = host_matrix(preconditioner, "preconditioner", square=True)
    if M.shape[0] != A.n:
        raise ValueError(f"preconditioner must have the shape of A, ({A.n}, {A.n}), got {tuple(M.shape)}")
    return lambda R: np.asarray(M @ R).astype(A.dtype, copy=False)


def _shift_invert(A, M, k, which, sigma, tol, start, budget, rng) -> tuple[RitzPairs, float]:
    entries, weight = _double(A), None if M is None else _double(M)
    tol = max(tol / 2, 1e-14)
    if sigma is not None:
        scale = _norm(A, rng)
        relative = (scale if M is None else scale / _norm(M, rng)) or 1.0
        pairs = shift_invert_lanczos(
            entries, weight, sigma, k, scale=relative, tol=tol, block=LANCZOS_BLOCK, start=start, max_products=budget, rng=rng
        )
    else:
        low, error, high, _ = spectral_ends(A.apply, A.n, A.dtype, rng)
        scale = max(abs(low), abs(high))
        relative = (scale if M is None else scale / _norm(M, rng)) or 1.0
        certain = float(np.min(_gershgorin(entries)))
        low = 0.0 if certain >= -1e-12 * scale or M is not None or low >= 0 else low - error
        pairs = smallest_by_shift_invert(
            entries,
            weight,
            k,
            low=low,
            spread=max(error, 1e-3 * relative),
            scale=relative,
            tol=tol,
            block=LANCZOS_BLOCK,
            start=start,
            max_products=budget,
            rng=rng,
        )
    A.matvecs += pairs.products
    return pairs, scale


def _finished(A: Hermitian, M: Hermitian | None, pairs: RitzPairs, scale: float, tol: float, route: str, reference) -> EigenResult:
    """Recompute the residuals from what is returned, flag and warn, and fix the signs."""
    real_dtype = np.empty(0, A.dtype).real.dtype
    values, vectors = pairs.values.astype(real_dtype, copy=False), canonical_signs(pairs.vectors.astype(A.dtype, copy=False))
    images = vectors if M is None else M.apply(vectors)
    residuals = np.linalg.norm(A.apply(vectors) - images * values, axis=0)
    scale = scale or 1.0  # of a zero matrix
    limits = tol * (scale + np.abs(values) * np.linalg.norm(images, axis=0)) if M is not None else tol * np.full(len(values), scale)
    converged = residuals <= limits
    if not converged.all():
        warn_not_converged(
            f"eigsh ({route}): {int(np.sum(~converged))} of {len(values)} pairs did not reach tol = {tol:.1e} with {A.matvecs} products; "
            f"the largest residual is {float(np.max(residuals)):.1e}, the limit {float(np.max(limits)):.1e}"
        )
    parts = (like(part, stored(reference)) for part in (values, vectors, residuals, converged))
    return EigenResult(*parts, matvecs=A.matvecs, restarts=pairs.restarts, method=route)


def canonical_signs(vectors: np.ndarray) -> np.ndarray:
    """Turn each column so that the first of its entries of largest modulus, ties up to rounding, is positive."""
    sizes = np.abs(vectors)
    first = np.argmax(sizes >= (1 - 1e-6) * np.max(sizes, axis=0), axis=0)
    pivots = vectors[first, np.arange(vectors.shape[1])]
    moduli = np.abs(pivots)
    return vectors * np.where(moduli > 0, pivots.conj() / np.where(moduli > 0, moduli, 1), 1)


def _weight(M, A: Hermitian, rng: np.random.Generator) -> Hermitian:
    weight = hermitian(M, "M", rng)
    if weight.n != A.n:
        raise ValueError(f"M must have the shape of A, ({A.n}, {A.n}), got ({weight.n}, {weight.n})")
    if not (weight.is_dense or weight.is_sparse):
        raise TypeError("M must be an explicit matrix, got a LinearOperator")
    if np.iscomplexobj(weight.entries) and A.dtype.kind != "c":
        raise TypeError(f"M must be real where A is, got {weight.dtype}")
    dtype = np.result_type(A.dtype, weight.dtype)
    weight.entries, weight.dtype = weight.entries.astype(dtype, copy=False), dtype
    try:
        if weight.is_dense:
            np.linalg.cholesky(weight.entries)
            return weight
        if (
            scipy.sparse.linalg.splu(
                scipy.sparse.csc_array(_double(weight)), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
            )
            .U.diagonal()
            .real.min()
            > 0
        ):
            return weight
    except (np.linalg.LinAlgError, RuntimeError):
        pass
    raise ValueError("M must be positive definite")


def _solver(M: Hermitian):
    if M.is_dense:
        factor = scipy.linalg.cho_factor(M.entries)
        return lambda X: scipy.linalg.cho_solve(factor, X)
    factors = scipy.sparse.linalg.splu(scipy.sparse.csc_array(_double(M)))
    return lambda X: factors.solve(np.asfortranarray(X, dtype=factors.L.dtype)).astype(X.dtype, copy=False)


def _initial(initial, A: Hermitian) -> np.ndarray:
    block = to_numpy(initial, "initial")
    block = matrix(block[:, None] if block.ndim == 1 else block, "initial", allow_complex=A.dtype.kind == "c")
    if block.shape[0] != A.n or block.shape[1] > A.n:
        raise ValueError(f"initial must have {A.n} rows, as A has, and no more columns, got shape {block.shape}")
    return block.astype(A.dtype)


def _double(A: Hermitian) -> scipy.sparse.csc_array:
    return scipy.sparse.csc_array(A.entries).astype(np.result_type(A.dtype, np.float64))


def _norm(A: Hermitian, rng: np.random.Generator) -> float:
    low, _, high, _ = spectral_ends(A.apply, A.n, A.dtype, rng)
    return max(abs(low), abs(high))


def _gershgorin(A: scipy.sparse.csc_array) -> np.ndarray:
    """Lower ends of the Gershgorin disks."""
    diagonal = A.diagonal()
    return diagonal.real + np.abs(diagonal) - np.asarray(abs(A).sum(axis=0)).ravel()
