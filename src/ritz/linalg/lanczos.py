"""Thick-restart block Lanczos: a few eigenpairs at the ends of a Hermitian operator's spectrum, known only by its products with blocks.

Wu and Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems", SIAM J. Matrix Anal. Appl. 22 (2000) 602-616, in block form.

The basis V is orthonormalized by two passes of classical Gram-Schmidt, all in matrix products. The projected matrix ``H = V^H A V`` is filled from
the coefficients of those passes, so Rayleigh-Ritz is exact for whatever the basis holds: kept Ritz vectors, Krylov blocks, or fresh random blocks.

A Krylov space of block size b contains at most b copies of a multiple eigenvalue. So once k pairs have converged, they stay in the basis (locked) and
a fresh random block explores their complement, until what it finds can no longer displace one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Apply = Callable[[np.ndarray], np.ndarray]
ENDS = {"largest": (1,), "smallest": (-1,), "magnitude": (1, -1), "both": (1, -1)}
FEW_COLUMNS = 4  # up to which products with tall matrices go column by column
CHECKS_PER_CYCLE = 6
BREAKDOWN = 64.0  # times eps: a new direction shorter than this, relative to the operator, is rounding


@dataclass(frozen=True)
class RitzPairs:
    """Approximate eigenpairs, most wanted first, and how they were reached."""

    values: np.ndarray  # (k,) real
    vectors: np.ndarray  # (n, k), orthonormal
    restarts: int
    products: int  # with the operator, in columns
    scale: float  # the norm of the operator as far as it was seen
    exhausted: bool  # the budget of products ended before all pairs converged


def wanted_order(values: np.ndarray, which: str) -> np.ndarray:
    """Indices of `values`, most wanted first; "both" takes the largest and the smallest in turn."""
    ascending = np.argsort(values, kind="stable")
    if which == "smallest":
        return ascending
    if which == "largest":
        return ascending[::-1]
    if which == "magnitude":
        return np.argsort(-np.abs(values), kind="stable")
    order, half = np.empty_like(ascending), (len(values) + 1) // 2
    order[0::2] = ascending[::-1][:half]
    order[1::2] = ascending[: len(values) - half]
    return order


def orthonormal_complement(W: np.ndarray, basis: np.ndarray, weight: Apply | None, rng: np.random.Generator, floor: float):
    """Return C, Q, R with ``W = basis C + Q R`` and ``[basis, Q]`` orthonormal, by two passes of classical Gram-Schmidt in matrix products.

    Directions of `W` that are shorter than `floor` outside the basis are rounding: random ones take their place, with a zero row in R. Q has fewer
    columns than W where the space has no more room.
    """
    room = W.shape[0] - basis.shape[1]
    C, R = np.zeros((basis.shape[1], W.shape[1]), W.dtype), np.eye(W.shape[1], dtype=W.dtype)
    for _ in range(2):
        correction = _tall_product(adjoint(basis), _weighted(W, weight))
        W = W - _tall_product(basis, correction)
        C += correction @ R
        W, factor = _orthonormal_columns(W, weight)
        R = factor @ R
    if W.shape[1] <= room and float(np.min(np.linalg.norm(R, axis=1), initial=np.inf)) > floor:
        return C, W, R
    left, lengths, right = np.linalg.svd(R)
    alive = int(np.sum(lengths[: min(room, len(lengths))] > floor))
    rotated, width = W @ left[:, :alive], min(room, W.shape[1])
    R = np.zeros((width, W.shape[1]), W.dtype)
    R[:alive] = lengths[:alive, None] * right[:alive]
    Q = np.concatenate([rotated, random_block(W.shape[0], width - alive, W.dtype, rng)], axis=1)
    for _ in range(3):
        Q -= basis @ (adjoint(basis) @ _weighted(Q, weight))
        Q[:, alive:] -= Q[:, :alive] @ (adjoint(Q[:, :alive]) @ _weighted(Q[:, alive:], weight))
        Q[:, alive:] = _orthonormal_columns(Q[:, alive:], weight)[0]
    return C, Q, R


def random_block(n: int, columns: int, dtype, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian block (n, columns) of a real or complex dtype."""
    block = rng.standard_normal((n, columns))
    if np.dtype(dtype).kind == "c":
        block = block + 1j * rng.standard_normal((n, columns))
    return block.astype(dtype)


def start_block(given: np.ndarray | None, n: int, columns: int, dtype, rng: np.random.Generator) -> np.ndarray:
    """A block (n, columns) to start from: random, or random combinations of the vectors given, from which a Krylov space soon recovers them."""
    if given is None:
        return random_block(n, columns, dtype, rng)
    given = given.astype(dtype, copy=False)
    return given if given.shape[1] <= columns else given @ random_block(given.shape[1], columns, dtype, rng)


def adjoint(X: np.ndarray) -> np.ndarray:
    """The conjugate transpose, a view where X is real."""
    return X.T.conj() if X.dtype.kind == "c" else X.T


def _tall_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right`` for few columns on the right: column by column where that streams `left` faster than BLAS-3 packs it."""
    if right.shape[1] > FEW_COLUMNS:
        return left @ right
    return np.stack([left @ np.ascontiguousarray(column) for column in right.T], axis=1) if right.shape[1] else left @ right


def _weighted(X: np.ndarray, weight: Apply | None) -> np.ndarray:
    return X if weight is None else weight(X)


def _orthonormal_columns(W: np.ndarray, weight: Apply | None):
    """``W = Q R`` with Q orthonormal in the inner product of `weight` where W has full rank: from its Gram matrix, which the second pass makes
    accurate, or by Householder reflections where W is too near to losing rank for that.
    """
    if W.shape[1] == 0:
        return W, np.zeros((0, 0), W.dtype)
    gram = adjoint(W) @ _weighted(W, weight)
    squares, S = np.linalg.eigh((gram + adjoint(gram)) / 2)
    if weight is None and squares[0] <= np.sqrt(np.finfo(W.dtype).eps) * squares[-1]:
        return np.linalg.qr(W)
    lengths = np.sqrt(np.maximum(squares, 0))
    inverse = np.divide(1, lengths, where=lengths > 0, out=np.zeros_like(lengths))
    return W @ (S * inverse), lengths[:, None] * adjoint(S)


def thick_restart_lanczos(
    apply: Apply,
    start: np.ndarray,
    k: int,
    which: str,
    *,
    tol: float,
    basis_size: int,
    max_products: int,
    rng: np.random.Generator,
    relative_to_value: bool = False,
    weight: Apply | None = None,
) -> RitzPairs:
    """Return the k most wanted Ritz pairs of the operator `apply`, self-adjoint in the inner product ``x^H weight(y)``.

    The columns of `start` (n, b) set the block size and the dtype. A pair has converged if its residual is at most `tol` times the largest Ritz value
    in modulus, or times its own value if `relative_to_value`. `basis_size` counts all columns that are kept.
    """
    return _Lanczos(apply, start, k, which, tol, basis_size, max_products, rng, relative_to_value, weight).run()


class _Lanczos:
    """The basis ``V[:, :size]``, its projection H, and the next block: ``A V = V H + next R [0 ... 0 I]``."""

    def __init__(self, apply, start, k, which, tol, basis_size, max_products, rng, relative_to_value, weight):
        n, block = start.shape
        self.apply, self.weight, self.rng = apply, weight, rng
        self.k, self.which, self.tol, self.relative_to_value = k, which, tol, relative_to_value
        self.block = min(block, n)
        self.capacity = min(n, max(basis_size, k + 2 * self.block))
        self.max_products, self.products, self.restarts = max_products, 0, 0
        self.V = np.empty((n, self.capacity), start.dtype, order="F")
        self.H = np.zeros((self.capacity, self.capacity), start.dtype)
        self.size, self.scale = 0, 0.0
        self.next = orthonormal_complement(start, self.V[:, :0], weight, rng, self._floor())[1]
        self.R = np.zeros((self.block, self.block), start.dtype)

    def run(self) -> RitzPairs:
        """Expand, project, restart; whenever k pairs have converged, explore their complement, until that changes none of them."""
        locked = None
        while True:
            self._expand()
            values, Y, residuals = self._ritz()
            limits = self._limits(values)
            converged = residuals <= limits
            complete = self.next.shape[1] == 0
            reached = self.size > self.k and bool(converged[: self.k].all())
            explored = reached and not complete and locked is not None and (bool(converged[self.k]) or not self._may_displace(values[: self.k]))
            complete = complete or (explored and bool(np.all(np.abs(values[: self.k] - locked) <= 2 * limits[: self.k])))
            if complete or (self.products >= self.max_products and self.size >= self.k):
                vectors = self.V[:, : self.size] @ Y[:, : self.k]
                return RitzPairs(values[: self.k], vectors, self.restarts, self.products, self.scale, not (reached or complete))
            if reached and (explored or locked is None):
                locked = values[: self.k]
                self._restart(values, Y, self.k)
                self._explore()
            elif not self._has_room():
                self._restart(values, Y, self._kept())

    def _limits(self, values: np.ndarray) -> np.ndarray:
        """The residuals at which pairs with these values have converged."""
        return self.tol * (np.abs(values) if self.relative_to_value else np.full(len(values), self.scale))

    def _has_room(self) -> bool:
        return 0 < self.next.shape[1] <= self.capacity - self.size

    def _expand(self) -> None:
        """Multiply by the next block and orthonormalize, for a part of the basis after which convergence is worth a look."""
        goal = self.size + max(self.capacity // CHECKS_PER_CYCLE, self.block)
        while self._has_room() and self.size < goal:
            first, last = self.size, self.size + self.next.shape[1]
            self.V[:, first:last] = self.next
            C, self.next, self.R = orthonormal_complement(self.apply(self.next), self.V[:, :last], self.weight, self.rng, self._floor())
            self.products += last - first
            self.H[:last, first:last] = C
            self.H[first:last, :first] = C[:first].conj().T
            self.H[first:last, first:last] = (C[first:] + C[first:].conj().T) / 2
            self.scale = max(self.scale, float(np.linalg.norm(C[first:], 2)))
            self.size = last

    def _ritz(self):
        """Ritz values, coordinates and residual norms, most wanted first."""
        values, Y = np.linalg.eigh(self.H[: self.size, : self.size])
        self.scale = max(self.scale, float(np.max(np.abs(values))))
        order = wanted_order(values, self.which)
        values, Y = values[order], Y[:, order]
        return values, Y, np.linalg.norm(self.R @ Y[self.size - self.R.shape[1] :], axis=0)

    def _kept(self) -> int:
        """A restart keeps the wanted Ritz vectors and half the slack."""
        slack = self.capacity - self.k - self.block
        return min(self.k + slack // 2, self.capacity - self.next.shape[1])

    def _restart(self, values: np.ndarray, Y: np.ndarray, kept: int) -> None:
        self.V[:, :kept] = self.V[:, : self.size] @ Y[:, :kept]
        self.H[:] = 0
        self.H[range(kept), range(kept)] = values[:kept]
        self.size, self.restarts = kept, self.restarts + 1

    def _explore(self) -> None:
        """Put a random block, orthogonal to the locked vectors, in the place of the next one."""
        fresh = random_block(len(self.V), self.block, self.V.dtype, self.rng)
        self.next = orthonormal_complement(fresh, self.V[:, : self.size], self.weight, self.rng, self._floor())[1]

    def _may_displace(self, wanted: np.ndarray) -> bool:
        """Whether an extreme Ritz value in the complement of the locked vectors, uncertain by its residual, reaches past a wanted one.

        Krylov iteration from a random block favors what is further out, so a missed eigenvector would come to dominate the extreme Ritz pair well
        before that pair settles on something less extreme.
        """
        values, Y = np.linalg.eigh(self.H[self.k : self.size, self.k : self.size])
        residuals = np.linalg.norm(self.R @ Y[len(Y) - self.R.shape[1] :], axis=0)
        margin = float(np.min(self._limits(wanted)))
        return any(float(np.max(sign * values + residuals)) > _least_wanted(wanted, self.which, sign) + margin for sign in ENDS[self.which])

    def _floor(self) -> float:
        return BREAKDOWN * float(np.finfo(self.V.dtype).eps) * self.scale


def _least_wanted(wanted: np.ndarray, which: str, sign: int) -> float:
    if which == "magnitude":
        return float(np.min(np.abs(wanted)))
    side = wanted if which != "both" else wanted[0::2] if sign > 0 else wanted[1::2]
    return float(np.min(sign * side, initial=np.inf))
