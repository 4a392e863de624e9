"""GCRO-DR: restarted GMRES that keeps an approximate invariant subspace over its restarts and hands it on to the next system.

Problem: ``min ||b - A x||`` for x in span(U) + M K, with K a Krylov space of (I - C C^H) A M, ``A U = C`` and ``C^H C = I``. The k columns of U span
harmonic Ritz vectors of the smallest harmonic Ritz values met so far: the part of the spectrum that restarted GMRES has to learn anew in each cycle.

Parks, de Sturler, Mackey, Johnson and Maiti, "Recycling Krylov Subspaces for Sequences of Linear Systems", SIAM J. Sci. Comput. 28(5), 2006;
algorithm 2 of Wang et al., "Accelerating Data Generation for Neural Operators via Krylov Subspace Recycling", ICLR 2024, arXiv:2401.09516.

Bases are rows here: U and C (k, n), W = [C; V] (k + s + 1, n).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from ritz.core import Result, array, integer, is_torch, like, namespace, same_shape, to_numpy, warn_not_converged
from ritz.linalg.givens_least_squares import GivensLeastSquares, negligible
from ritz.linalg.krylov_system import Columns, Iteration, KrylovResult, LinearSystem, linear_system, row_norms


@dataclass(frozen=True, eq=False, repr=False)
class RecycleSpace(Result):
    """A subspace that `gcrodr` learned from one system and can use for the next.

    Attributes
    ----------
    U : array (n, k)
        Its basis, in the variable x. For the system it comes from, the columns of ``A U`` are orthonormal.
    preimage : array (n, k)
        The basis before the preconditioner, ``U = M preimage``; `U` itself by default. It only guides the choice of the next space: where the next
        system's M differs, it is near rather than right.

    Raises
    ------
    ValueError, TypeError
        If they are no finite matrices of one shape.

    Examples
    --------
    >>> RecycleSpace(np.eye(4)[:, :2])
    RecycleSpace(U=float64[4, 2], preimage=float64[4, 2])
    """

    U: np.ndarray
    preimage: np.ndarray | None = None

    def __post_init__(self) -> None:
        U = array(self.U, "U", ndim=2, allow_complex=True)
        preimage = U if self.preimage is None else array(self.preimage, "preimage", ndim=2, allow_complex=True)
        same_shape(U, "U", preimage, "preimage")
        if is_torch(U) != is_torch(preimage) or U.dtype != preimage.dtype:
            raise TypeError(f"preimage must be of the kind and dtype of U, {U.dtype}, got {type(preimage).__name__} of {preimage.dtype}")
        object.__setattr__(self, "U", U)
        object.__setattr__(self, "preimage", preimage)


@dataclass(frozen=True, eq=False, repr=False)
class RecycledSolve(KrylovResult):
    """What `gcrodr` returns: a `KrylovResult` and what is left for the next system.

    Attributes
    ----------
    space : RecycleSpace or None
        The subspace after the last cycle; None if there is none (``recycle=0``, or solved in fewer steps than it would have columns).
    matvecs : int or array (k,) of int
        Products of A with a vector, those that fit the given space to A and that compute ``b - A x`` included.

    Examples
    --------
    >>> result = gcrodr(np.diag(np.arange(1.0, 31)), np.ones(30), restart=12, recycle=4)
    >>> result.converged, result.space
    (True, RecycleSpace(U=float64[30, 4], preimage=float64[30, 4]))
    """

    space: RecycleSpace | None
    matvecs: int | np.ndarray


def gcrodr(
    A,
    b,
    *,
    x0=None,
    M=None,
    restart: int = 40,
    recycle: int = 20,
    space: RecycleSpace | None = None,
    tol: float = 1e-8,
    maxiter: int = 10_000,
    callback: Callable[[float], None] | None = None,
) -> RecycledSolve:
    """Solve ``A x = b`` for square A by GMRES with deflated restarts, and return the deflation space for reuse.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Any square matrix, real or complex.
    b : array (n,) or (n, k)
        Right-hand sides, torch if A is. Columns are solved one after the other, each with the space that the one before it left.
    x0 : array like b, optional
        Where to start; zero by default. Where b is zero, the answer is zero whatever x0.
    M : as A, optional
        Preconditioner near the inverse of A, applied by multiplication from the right: residuals are those of ``A x = b``.
    restart : int
        Dimension m of the search space in a cycle, of which `recycle` come from the cycle before. Above `recycle`.
    recycle : int
        Columns k of the space that is kept. One more or less where the last is half of a complex pair; 0 is restarted GMRES.
    space : RecycleSpace, optional
        From an earlier, similar system, with fewer than `restart` columns.
    tol : float
        Stop at ``||b - A x|| <= tol ||b||``.
    maxiter : int
        Steps per column over all cycles. A step has one product with A.
    callback : callable, optional
        Called after each step with the residual's norm.

    Returns
    -------
    RecycledSolve
        Residual norms never grow but by rounding; where the given space alone solves the system, in no step, the only norm is the final one.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, entries are not finite, torch meets NumPy, ``restart <= recycle``, or `space` is of another size or kind.

    Warns
    -----
    ConvergenceWarning
        If a column did not converge; `reason` says why.

    Notes
    -----
    A cycle costs m - k products with A and M, one more product for the true residual, ``4 n (m^2 - k^2)`` operations for orthogonalizing (twice) and
    ``8 n m k`` for the new space; a given space costs k products and ``6 n k^2`` operations. Memory ``n (2 m + 3 k)`` numbers.
    The new space is the invariant subspace of ``(W^H V) G^-1`` to its largest eigenvalues, the inverse harmonic Ritz values, by an ordered Schur
    form: it spans what eigenvectors would span, with an orthonormal basis, complex pairs together, defective eigenvalues included.
    Directions that A M sends to zero are not recycled. Gradients are not recorded.

    [2] hands the space on in the variable u of ``x = M u``. Here it is handed on in x, as flexible methods have it: small eigenvectors of related
    operators are alike in x, while M changes with A. On Darcy's equation with a lognormal coefficient and `jacobi` that saves a seventh of the steps.
    With one M for all systems the two are the same.

    References
    ----------
    .. [1] Parks, de Sturler, Mackey, Johnson and Maiti, SIAM J. Sci. Comput. 28(5), 2006.
    .. [2] Wang, Hao, Wang, Geng, Wang, Li and Wu, ICLR 2024, arXiv:2401.09516, algorithm 2.

    Examples
    --------
    >>> A = np.diag(np.r_[1e-3, 2e-3, np.linspace(1, 2, 98)])
    >>> first = gcrodr(A, np.ones(100), restart=10, recycle=2)
    >>> second = gcrodr(A, np.arange(100.0), restart=10, recycle=2, space=first.space)
    >>> second.converged, second.iterations < first.iterations
    (True, True)
    """
    restart, recycle = sizes(restart, recycle)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {type(callback).__name__}")
    system = linear_system(A, b, x0, M, name="M")
    result = solve_columns(
        system, _checked(space, system, restart, recycle), restart, recycle, tol, integer(maxiter, "maxiter", at_least=1), callback
    )
    if complaint := result.complaint("gcrodr"):
        warn_not_converged(complaint)
    return result


def sizes(restart: int, recycle: int) -> tuple[int, int]:
    """Check the two dimensions of a cycle."""
    recycle = integer(recycle, "recycle", at_least=0)
    restart = integer(restart, "restart", at_least=1)
    if restart <= recycle:
        raise ValueError(f"restart must be above recycle, the dimension that is kept, {recycle}, got {restart}")
    return restart, recycle


def _checked(space: RecycleSpace | None, system: LinearSystem, restart: int, recycle: int) -> RecycleSpace | None:
    if space is None:
        return None
    if not isinstance(space, RecycleSpace):
        raise TypeError(f"space must be a RecycleSpace or None, got {type(space).__name__}")
    if recycle == 0:
        raise ValueError("space must be None with recycle=0, which keeps nothing")
    if space.U.shape[1] >= restart:
        raise ValueError(f"space must have fewer columns than restart, {restart}, got {space.U.shape[1]}")
    if not fits(space, system):
        found = f"{tuple(space.U.shape)} of {space.U.dtype}"
        raise ValueError(f"space must have {system.b.shape[1]} rows of a kind and dtype that suit {system.b.dtype}, got {found}")
    return space


def fits(space: RecycleSpace, system: LinearSystem) -> bool:
    """Whether a space has the size of a system, its kind, and no imaginary part where the system is real."""
    b = system.b
    same_kind = is_torch(space.U) == is_torch(b) and (space.U.dtype == b.dtype if is_torch(b) else np.can_cast(space.U.dtype, b.dtype, "same_kind"))
    return space.U.shape[0] == b.shape[1] and same_kind


def solve_columns(system: LinearSystem, space, restart: int, recycle: int, tol: float, maxiter: int, callback=None) -> RecycledSolve:
    """`gcrodr` on a system that is checked: the right-hand sides one after the other."""
    results = []
    for k in range(len(system.b)):
        one = replace(system, b=system.b[k : k + 1], x0=system.x0[k : k + 1], scales=system.scales[k : k + 1], is_vector=True)
        counted = _Counted(one.multiply)
        cycles = _Cycles(replace(one, multiply=counted), space, restart, recycle, callback)
        found = Iteration(cycles.system, tol, maxiter).run(cycles)
        space = cycles.space
        results.append(RecycledSolve(**found.as_dict(), space=space, matvecs=counted.products))
    return results[0] if system.is_vector else _side_by_side(results, system.xp)


def _side_by_side(results: list[RecycledSolve], xp) -> RecycledSolve:
    """The results of the columns as one; histories that are shorter repeat their last value."""
    longest = max(len(result.residual_norms) for result in results)
    norms = [np.pad(result.residual_norms, (0, longest - len(result.residual_norms)), mode="edge") for result in results]
    return RecycledSolve(
        x=xp.stack([result.x for result in results], axis=1),
        converged=np.array([result.converged for result in results]),
        iterations=np.array([result.iterations for result in results]),
        residual_norms=np.stack(norms, axis=1),
        reason=tuple(result.reason for result in results),
        space=results[-1].space,
        matvecs=np.array([result.matvecs for result in results]),
    )


class _Counted:
    """A product that counts the vectors it was given."""

    def __init__(self, multiply: Callable):
        self._multiply, self.products = multiply, 0

    def __call__(self, rows):
        self.products += len(rows)
        return self._multiply(rows)


class _Cycles:
    """The cycles of GCRO-DR for one right-hand side, with the pair U, C that goes from each to the next."""

    def __init__(self, system: LinearSystem, space: RecycleSpace | None, restart: int, recycle: int, callback):
        self.system, self.restart, self.recycle, self._callback = system, restart, recycle, callback
        b = system.b
        self._conj = system.xp.conj if system.xp.isdtype(b.dtype, "complex floating") else lambda x: x
        self.U = self.preimage = self.C = system.xp.zeros((0, b.shape[1]), dtype=b.dtype, device=b.device)
        self._given = space
        if space is not None and system.xp.any(b != 0):
            self._fit(*(system.xp.astype(basis.T, b.dtype, copy=True) for basis in (space.U, space.preimage)))

    @property
    def space(self) -> RecycleSpace | None:
        """What the next system is given."""
        return RecycleSpace(self.U.T, self.preimage.T) if len(self.U) else self._given

    def _fit(self, U, preimage) -> None:
        """Turn a basis of a space into U and C for this system, without the directions that A sends (nearly) to each other's span."""
        xp = self.system.xp
        image = self.system.multiply(U)
        Q, R = xp.linalg.qr(image.T)
        sizes = abs(np.diagonal(to_numpy(R)))
        sound = np.flatnonzero(sizes > negligible(sizes.dtype) * sizes.max())
        if not len(sound):
            return
        if len(sound) < len(U):
            U, preimage = U[sound], preimage[sound]
            Q, R = xp.linalg.qr(image[sound].T)
        self.C = xp.asarray(Q.T, copy=True)
        self.U, self.preimage = xp.linalg.solve(R.T, U), xp.linalg.solve(R.T, preimage)

    def __call__(self, iteration: Iteration, columns: Columns) -> None:
        """One cycle from x with residual r, by which the column is retired, as "restart" if it is not done.

        W = [C; V] are orthonormal rows, Z = M V[:s] and ``A [U; Z] = [C; C B + V Hbar]``; H = [B; Hbar] (k + s + 1, s) is on the host.
        """
        c, U, C = columns, self.U, self.C
        kept, n = C.shape
        along = self._conj(C @ self._conj(c.r[0]))
        r = c.r[0] - along @ C
        norm = _norm(r)
        if norm <= iteration.target[c.index[0]] or kept >= n:
            c.x = c.x + along @ U
            iteration.retire_where(np.ones(1, dtype=bool), "converged", c)
            return
        steps = min(self.restart, n, iteration.limit + kept) - kept
        W = self.system.xp.empty((kept + steps + 1, n), dtype=r.dtype, device=r.device)
        Z = self.system.xp.empty((steps, n), dtype=r.dtype, device=r.device)
        W[:kept], W[kept] = C, r / norm
        H = np.zeros((kept + steps + 1, steps), dtype=to_numpy(r[:0]).dtype)
        problem = GivensLeastSquares(norm, steps, H.dtype)
        for j in range(steps):
            exhausted = self._extend(W, Z, H, j)
            norm, singular = problem.append(H[kept : kept + j + 2, j], exhausted)
            spent = iteration.steps[c.index[0]] + 1 >= iteration.limit
            last = exhausted or spent or j + 1 == steps or not norm > iteration.target[c.index[0]]
            if last:
                y = like(problem.solution(), r)
                used = len(y)
                c.x = c.x + y @ Z[:used] + (along - like(H[:kept, :used], r) @ y) @ U
            if self._callback is not None:
                self._callback(float(norm * self.system.scales[0]))
            iteration.advance(np.array([norm]), c)
            if last:
                self._renew(W[: kept + used + 1], Z[:used], H[: kept + used + 1, :used])
                iteration.retire_where(np.ones(len(c.index), dtype=bool), "singular" if singular else "restart", c)
                return

    def _extend(self, W, Z, H: np.ndarray, j: int) -> bool:
        """Append to W the image of its last row, orthogonalized twice; return whether nothing was left of it."""
        conj, last = self._conj, len(W) - len(Z) - 1 + j
        basis = W[: last + 1]
        Z[j : j + 1] = self.system.precondition(W[last : last + 1])
        w = self.system.multiply(Z[j : j + 1])[0]
        size = _norm(w)
        first = conj(basis @ conj(w))
        w = w - first @ basis
        second = conj(basis @ conj(w))
        w = w - second @ basis
        beyond = _norm(w)
        exhausted = not beyond > 50 * np.finfo(H.dtype).eps * size
        beyond = 0.0 if exhausted else beyond
        H[: last + 1, j], H[last + 1, j] = to_numpy(first + second), beyond
        W[last + 1] = w / (beyond or 1.0)
        return exhausted

    def _renew(self, W, Z, H: np.ndarray) -> None:
        """Replace U and C by the harmonic Ritz vectors of the smallest values over the whole search space, V^ = [preimages; V[:s]], if large enough.

        With their preimages scaled to unit columns, ``A M V^ = W G`` and the pencil ``G^H G z = theta G^H (W^H V^) z`` becomes, with G = Q R and
        y = R z, ``(Q^H W^H V^ R^-1) y = theta^-1 y``.
        """
        U, kept, steps = self.U, len(self.U), H.shape[1]
        if not self.recycle or not steps or kept + steps < self.recycle:
            return
        lengths = row_norms(self.preimage)
        lengths[lengths == 0] = 1
        scale = like(1 / lengths, U)[:, None]
        G = np.zeros((kept + steps + 1, kept + steps), dtype=H.dtype)
        G[:kept, :kept], G[:, kept:] = np.diag(1 / lengths), H
        overlap = np.eye(kept + steps + 1, kept + steps, dtype=H.dtype)
        overlap[:, :kept] = to_numpy(self._conj(W) @ (scale * self.preimage).T)
        Q, R = scipy.linalg.qr(G, mode="economic", check_finite=False)
        diagonal = np.abs(np.diagonal(R))
        if not diagonal.min() > negligible(diagonal.dtype) * diagonal.max():
            return
        inverse = scipy.linalg.solve_triangular(R.T, (Q.conj().T @ overlap).T, lower=True, check_finite=False).T
        chosen = leading_subspace(inverse, self.recycle, self.restart - 1)
        P = scipy.linalg.solve_triangular(R, chosen, check_finite=False)
        of_kept, of_new = like(P[:kept].T, W) * scale.T, like(P[kept:].T, W)
        self.C = like((Q @ chosen).T, W) @ W
        self.U, self.preimage = of_kept @ U + of_new @ Z, of_kept @ self.preimage + of_new @ W[kept : kept + steps]


def _norm(x) -> float:
    return math.sqrt(np.vdot(x, x).real) if isinstance(x, np.ndarray) else float(namespace(x).linalg.vector_norm(x))


def leading_subspace(T: np.ndarray, k: int, most: int) -> np.ndarray:
    """An orthonormal basis of the invariant subspace of T to its k largest eigenvalues, real if T is; a complex pair is taken whole, or not at all
    where that would make more than `most`.
    """
    is_complex = T.dtype.kind == "c"
    S, Z = scipy.linalg.schur(T, output="complex" if is_complex else "real", check_finite=False)
    sizes = _eigenvalue_sizes(S)
    chosen = np.zeros(len(T), dtype=bool)
    chosen[np.argsort(-sizes, kind="stable")[:k]] = True
    for i in np.flatnonzero(np.diagonal(S, -1)) if not is_complex else ():
        if chosen[i] != chosen[i + 1]:
            chosen[i : i + 2] = chosen.sum() < most
    (reorder,) = scipy.linalg.get_lapack_funcs(("trsen",), (S, Z))
    ordered = reorder(chosen.astype(np.int32), S, Z, job=b"N")
    return ordered[1][:, : chosen.sum()]


def _eigenvalue_sizes(S: np.ndarray) -> np.ndarray:
    """The moduli of the eigenvalues of a (quasi-)triangular matrix; of both of a pair it is the root of its block's determinant."""
    sizes = np.abs(np.diagonal(S)).copy()
    if S.dtype.kind != "c":
        for i in np.flatnonzero(np.diagonal(S, -1)):
            sizes[i : i + 2] = np.sqrt(abs(np.linalg.det(S[i : i + 2, i : i + 2])))
    return sizes
