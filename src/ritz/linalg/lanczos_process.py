"""The Lanczos process for many starting vectors at once, with full reorthogonalization.

For each column b of a block, steps of ``A Q = Q T + beta q e^T`` with an orthonormal Q and a tridiagonal T. The columns do not know of each other;
they share the products, so that one pass over A serves all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ritz.linalg.products import Products


@dataclass
class Lanczos:
    """A Lanczos process under way.

    Where a column's space is exhausted (invariant under A), its further basis vectors are zero, its further diagonal entries repeat the first one
    and its off-diagonal entries are zero: such rows are decoupled and leave every function of T, seen from the first vector, as it was.

    Parameters
    ----------
    A : Products (n, n)
        Hermitian.
    start : array (n, b)
        No column is zero.
    """

    A: Products
    start: object
    basis: list = field(default_factory=list)
    diagonal: list = field(default_factory=list)
    off_diagonal: list = field(default_factory=list)

    def __post_init__(self) -> None:
        self.norms = self.A.xp.linalg.vector_norm(self.start, axis=0)
        self.basis.append(self.start / self.A.xp.astype(self.norms, self.A.dtype)[None, :])

    @property
    def steps(self) -> int:
        """How many steps were done: the order of T."""
        return len(self.diagonal)

    @property
    def exhausted(self) -> bool:
        """Whether every column's space is invariant."""
        return bool(self.off_diagonal) and not bool(self.A.xp.any(self.off_diagonal[-1] > 0))

    def advance(self) -> None:
        """Do one step for every column."""
        xp = self.A.xp
        q = self.basis[-1]
        w = self.A.matmat(q)
        size = xp.linalg.vector_norm(w, axis=0)
        alpha = self._inner(q, w)
        if self.off_diagonal:
            alpha = xp.where(self.off_diagonal[-1] > 0, alpha, self.diagonal[0])
        for _ in range(2):
            for earlier in self.basis:
                w = w - earlier * self._coefficients(earlier, w)[None, :]
        beta = xp.linalg.vector_norm(w, axis=0)
        alive = beta > 10 * self.A.eps * self.A.shape[0] ** 0.5 * size
        beta = xp.where(alive, beta, xp.zeros_like(beta))
        scale = xp.where(alive, 1 / xp.where(alive, beta, xp.ones_like(beta)), xp.zeros_like(beta))
        self.diagonal.append(alpha)
        self.off_diagonal.append(beta)
        self.basis.append(w * xp.astype(scale, self.A.dtype)[None, :])

    def tridiagonal(self):
        """T of every column: (b, steps, steps), real."""
        xp = self.A.xp
        alpha, beta = xp.stack(self.diagonal, axis=-1), xp.stack(self.off_diagonal, axis=-1)
        size = self.steps
        T = xp.zeros((alpha.shape[0], size, size), dtype=alpha.dtype, device=self.A.device)
        for j in range(size):
            T[:, j, j] = alpha[:, j]
            if j + 1 < size:
                T[:, j, j + 1] = T[:, j + 1, j] = beta[:, j]
        return T

    def combine(self, coefficients):
        """Return the sum of the basis vectors weighted per column: coefficients (b, steps) -> (n, b)."""
        return sum(
            vectors * self.A.xp.astype(coefficients[:, j], self.A.dtype)[None, :] for j, vectors in enumerate(self.basis[: coefficients.shape[1]])
        )

    def _coefficients(self, q, w):
        return self.A.xp.sum((self.A.xp.conj(q) if self.A.is_complex else q) * w, axis=0)

    def _inner(self, q, w):
        inner = self._coefficients(q, w)
        return self.A.xp.real(inner) if self.A.is_complex else inner
