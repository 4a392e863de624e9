"""How well one basis of rank r serves many matrices side by side: upper bounds on ``||M - M_r||_F / ||M||_F`` of ``M = [A_1 ... A_K]``.

Shamrai, "Concatenated Matrix SVD: Compression Bounds, Incremental Approximation, and Error-Constrained Clustering", 2026, arXiv:2601.11626.

``||M||_F^2`` is the sum of the blocks' squared norms, so any lower bound on the r largest squared singular values of M bounds the error of its best
approximation of rank r from above. Three of them, from loose and cheap to tight:

- Weyl: ``sigma_t(M) >= sigma_t(A_0)`` for the blocks A_0 that come first;
- residual: M, seen in the bases of its blocks one after another, is block triangular, and the r largest singular values of all diagonal blocks,
  ``A_0`` and the residuals ``R_j = (I - Q Q^T) A_j``, lie below those of M in the sum of squares (pinching);
- incremental: singular vectors and values of what came so far, truncated to r plus some; truncation takes positive semidefinite parts away from
  ``M M^T``, so this is a bound too, which the paper calls an estimate.

Each is computed as the energy that is missed, a sum of what was left out, not as one minus what was kept: an error of 1e-12 is seen as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import scipy.sparse

from ritz.core import array, choice, integer, is_torch, to_numpy
from ritz.linalg.matrix_kinds import host_matrix

ESTIMATORS = ("incremental", "residual", "weyl")
DROPPED = 1e-12  # relative to the block: directions of a residual that are rounding
ORTHOGONALITY = 1e-12
OVERSAMPLING = 5


class Bound(Protocol):
    """What is known of some blocks side by side; immutable, so that a block can be tried."""

    def extended(self, block: np.ndarray) -> Bound:
        """The same with one more block."""

    @property
    def error(self) -> float:
        """The bound on the relative error."""


@dataclass(frozen=True)
class IncrementalBound:
    """Leading left singular vectors U (m, q) and values s (q,) of the blocks so far, the squared norm of all and the energy truncated away."""

    rank: int
    kept: int
    U: np.ndarray
    s: np.ndarray
    total: float
    truncated: float

    @classmethod
    def start(cls, block: np.ndarray, rank: int, oversampling: int = OVERSAMPLING) -> IncrementalBound:
        """The state after a first block."""
        empty = np.empty((block.shape[0], 0), block.dtype)
        return cls(rank, rank + oversampling, empty, np.empty(0, block.dtype), 0.0, 0.0).extended(block)

    def extended(self, block: np.ndarray) -> IncrementalBound:
        """One more block: ``[U diag(s), A] = [U, Q] [[diag(s), U^T A], [0, B]]`` with the residual ``(I - U U^T) A = Q B``, a small SVD."""
        block = narrowed(block)
        Y, Q, B, dropped = outside(self.U, block)
        q = len(self.s)
        core = np.zeros((q + len(B), q + block.shape[1]), block.dtype)
        core[:q, :q] = np.diag(self.s)
        core[:q, q:] = Y
        core[q:, q:] = B
        left, s, _ = np.linalg.svd(core, full_matrices=False)
        U = reorthogonalized(self.U @ left[:q, : self.kept] + Q @ left[q:, : self.kept])
        total, truncated = self.total + squared_norm(block), self.truncated + dropped + squared_norm(s[self.kept :])
        return replace(self, U=U, s=s[: self.kept], total=total, truncated=truncated)

    @property
    def error(self) -> float:
        """The bound on the relative error."""
        return relative_error(self.truncated + squared_norm(self.s[self.rank :]), self.total)


@dataclass(frozen=True)
class ResidualBound:
    """An orthonormal basis Q of all blocks so far, the r largest squared singular values of their residuals, and the energy of all else."""

    rank: int
    Q: np.ndarray
    largest: np.ndarray
    total: float
    missed: float

    @classmethod
    def start(cls, block: np.ndarray, rank: int) -> ResidualBound:
        """The state after a first block."""
        return cls(rank, np.empty((block.shape[0], 0), block.dtype), np.empty(0), 0.0, 0.0).extended(block)

    def extended(self, block: np.ndarray) -> ResidualBound:
        """One more block: its residual's singular values join the others; what lies in the basis is missed."""
        block = narrowed(block)
        Y, R = split(self.Q, block)
        U, s, _ = np.linalg.svd(R, full_matrices=False)
        grown = min(int(np.sum(s > np.finfo(s.dtype).eps * max(block.shape) * np.linalg.norm(block))), len(self.Q) - self.Q.shape[1])
        new = U[:, :grown] - self.Q @ (self.Q.T @ U[:, :grown])
        squares = np.sort(np.concatenate([self.largest, np.square(s, dtype=np.float64)]))[::-1]
        return replace(
            self,
            Q=np.hstack([self.Q, np.linalg.qr(new)[0]]),
            largest=squares[: self.rank],
            total=self.total + squared_norm(block),
            missed=self.missed + squared_norm(Y) + float(np.sum(squares[self.rank :])),
        )

    @property
    def error(self) -> float:
        """The bound on the relative error."""
        return relative_error(self.missed, self.total)


@dataclass(frozen=True)
class WeylBound:
    """What the best basis of the first block misses of it, and all of the others."""

    total: float
    missed: float

    @classmethod
    def start(cls, block: np.ndarray, rank: int) -> WeylBound:
        """The state after a first block."""
        tail = squared_norm(np.linalg.svd(narrowed(block), compute_uv=False)[rank:]) if min(block.shape) > rank else 0.0
        return cls(squared_norm(block), tail)

    def extended(self, block: np.ndarray) -> WeylBound:
        """One more block: only its norm is needed."""
        energy = squared_norm(block)
        return WeylBound(self.total + energy, self.missed + energy)

    @property
    def error(self) -> float:
        """The bound on the relative error."""
        return relative_error(self.missed, self.total)


def concatenation_error_bound(
    blocks, rank: int, *, estimator: str = "incremental", order: Sequence[int] | None = None, oversampling: int = OVERSAMPLING
) -> float:
    """Bound the error of the best basis of so many columns for matrices side by side: ``||M - M_r||_F / ||M||_F`` for ``M = [A_1 ... A_K]``.

    Parameters
    ----------
    blocks : list of arrays, sparse arrays or torch tensors (m, n_i)
        Real matrices with equal numbers of rows; memory-mapped arrays are read one at a time.
    rank : int
        Columns r of the basis.
    estimator : {"incremental", "residual", "weyl"}
        - "incremental": an incremental SVD that keeps ``r + oversampling`` directions. Nearly tight, and exact if M has no higher rank.
          ``O(m (r + oversampling + n_i)^2)`` per block.
        - "residual": from the singular values of what each block adds to those before. ``O(m n_i (rank of all before + n_i))`` per block.
        - "weyl": from the norms and the first blocks alone.
    order : sequence of int, optional
        The order in which blocks are taken, a permutation of their indices. By default the largest norm first. Blocks at its beginning count as one
        as long as they have at most r columns.
    oversampling : int
        Directions that the incremental bound keeps beyond r: more where singular values fall slowly.

    Returns
    -------
    float
        At least the true error, up to rounding; at most 1. The residual bound is at most Weyl's.

    Raises
    ------
    ValueError, TypeError
        If there is no block, one is no finite real matrix, their numbers of rows differ, or an option is out of range.

    References
    ----------
    .. [1] Shamrai, 2026, arXiv:2601.11626.

    Examples
    --------
    >>> shared, other = np.eye(6)[:, :2], np.eye(6)[:, 2:4]
    >>> concatenation_error_bound([shared, 2 * shared], 2)
    0.0
    >>> round(concatenation_error_bound([shared, other], 2), 6)  # half of the energy
    0.707107
    """
    blocks = checked_blocks(blocks)
    rank = integer(rank, "rank", at_least=1)
    estimator = choice(estimator, "estimator", ESTIMATORS)
    oversampling = integer(oversampling, "oversampling", at_least=0)
    order = _checked_order(order, len(blocks)) if order is not None else heaviest_first(blocks)
    first = starting_blocks(blocks, order, rank)
    state = started(estimator, [blocks[i] for i in order[:first]], rank, oversampling)
    for i in order[first:]:
        state = state.extended(dense(blocks[i]))
    return state.error


def started(estimator: str, blocks: list, rank: int, oversampling: int) -> Bound:
    """The state after some blocks that count as one."""
    block = np.hstack([dense(block) for block in blocks])
    if estimator == "incremental":
        return IncrementalBound.start(block, rank, oversampling)
    return {"residual": ResidualBound, "weyl": WeylBound}[estimator].start(block, rank)


def starting_blocks(blocks: list, order: Sequence[int], rank: int) -> int:
    """How many blocks at the beginning of `order` have at most `rank` columns in all; at least one."""
    columns = np.cumsum([blocks[i].shape[1] for i in order])
    return max(1, int(np.searchsorted(columns, rank, side="right")))


def heaviest_first(blocks: list) -> list[int]:
    """Indices by descending norm; equal norms in their order."""
    return np.argsort([-squared_norm(block) for block in blocks], kind="stable").tolist()


def checked_blocks(blocks) -> list[np.ndarray | scipy.sparse.csr_array]:
    """Check a list of real matrices with equal numbers of rows; all in one dtype, at least float32."""
    if not isinstance(blocks, list | tuple):
        raise TypeError(f"blocks must be a list of matrices, got {type(blocks).__name__}")
    if not blocks:
        raise ValueError("blocks must hold a matrix, got an empty list")
    checked = [_checked_block(block, f"blocks[{i}]") for i, block in enumerate(blocks)]
    rows = checked[0].shape[0]
    for i, block in enumerate(checked):
        if block.shape[0] != rows:
            raise ValueError(f"blocks must have equal numbers of rows, got {rows} in blocks[0] and {block.shape[0]} in blocks[{i}]")
    dtype = np.result_type(np.float32, *(block.dtype for block in checked))
    return [block.astype(dtype, copy=False) for block in checked]


def checked_block(block, name: str) -> np.ndarray:
    """Check one real matrix and return it dense, at least in float32."""
    checked = dense(_checked_block(block, name))
    return checked.astype(np.result_type(np.float32, checked.dtype), copy=False)


def _checked_block(block, name: str):
    if not scipy.sparse.issparse(block) and not is_torch(block):
        block = array(block, name, ndim=2)
    checked = host_matrix(block, name)
    if checked.dtype.kind == "c":
        raise TypeError(f"{name} must be real, got {checked.dtype}")
    return checked


def _checked_order(order: Sequence[int], count: int) -> list[int]:
    indices = to_numpy(order, "order")
    if indices.dtype.kind not in "iu" or sorted(indices.ravel().tolist()) != list(range(count)):
        raise ValueError(f"order must be a permutation of 0 to {count - 1}, got {order}")
    return indices.ravel().tolist()


def dense(block) -> np.ndarray:
    """A block as an array in memory."""
    return block.toarray() if scipy.sparse.issparse(block) else np.asarray(block)


def squared_norm(block) -> float:
    """The squared Frobenius norm."""
    entries = block.data if scipy.sparse.issparse(block) else block.ravel()
    return float(np.dot(entries, entries)) if entries.dtype == np.float64 else float(np.sum(np.square(entries, dtype=np.float64)))


def relative_error(missed: float, total: float) -> float:
    """The relative error of missed energy: 0 of nothing, at most 1."""
    return float(min(np.sqrt(missed / total), 1.0)) if total > 0 else 0.0


def narrowed(block: np.ndarray) -> np.ndarray:
    """The block, or if it is wider than high a square one with the same ``A A^T``."""
    return np.linalg.qr(block.T, mode="r").T if block.shape[1] > block.shape[0] else block


def split(basis: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``Y = Q^T A`` and the residual ``A - Q Y``; projected twice, so that it is orthogonal to the basis."""
    Y = basis.T @ block
    R = block - basis @ Y
    again = basis.T @ R
    return Y + again, R - basis @ again


def outside(basis: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """``Y = U^T A``, and the residual ``Q B`` without directions that are rounding; also the energy left out with them."""
    Y, R = split(basis, block)
    Q, B = np.linalg.qr(R)
    sizes = np.linalg.norm(B, axis=1)
    kept = sizes > max(DROPPED, 10 * float(np.finfo(B.dtype).eps)) * np.linalg.norm(block)
    return Y, Q[:, kept], B[kept], squared_norm(sizes[~kept])


def reorthogonalized(U: np.ndarray) -> np.ndarray:
    """The same directions, orthonormal again if rounding has added up."""
    limit = max(ORTHOGONALITY, 10 * float(np.finfo(U.dtype).eps))
    if np.linalg.norm(U.T @ U - np.eye(U.shape[1], dtype=U.dtype)) <= limit:
        return U
    Q, R = np.linalg.qr(U)
    return Q * np.sign(np.diag(R))
