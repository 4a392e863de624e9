"""Subspaces that a matrix's products span, and the singular vectors within them.

Each space comes as an orthonormal basis Z and its images Y = A Z, so that projecting costs no further product.
"""

from __future__ import annotations

from collections.abc import Callable

from ritz.core import namespace
from ritz.linalg.products import Products, adjoint


def power_space(A: Products, advance: Callable, start, iterations: int):
    """Orthogonal iteration: the basis of ``range((advance A)^iterations start)`` and its images.

    Parameters
    ----------
    A : Products (m, n)
        The matrix.
    advance : callable
        Takes images (m, b) back to the side of `start`: ``A.rmatmat`` for singular vectors, the identity for eigenvectors of a Hermitian A.
    start : array (n, b)
        Where it begins.
    iterations : int
        How often the block is advanced; it is orthonormalized each time.

    Returns
    -------
    Z (n, b), Y (m, b)
    """
    Z = A.xp.linalg.qr(start)[0]
    Y = A.matmat(Z)
    for _ in range(iterations):
        Z = A.xp.linalg.qr(advance(Y))[0]
        Y = A.matmat(Z)
    return Z, Y


def krylov_space(A: Products, advance: Callable, start, depth: int):
    """Block Krylov space ``span(start, C start, ..., C^depth start)`` of ``C = advance A``: the basis and its images.

    The basis is fully orthogonal by two passes of block Gram-Schmidt; directions that add nothing (up to rounding) are dropped, so the basis has at
    most ``(depth + 1) b`` columns, and at least the b of `start`. Parameters as in `power_space`.
    """
    xp = A.xp
    basis = xp.linalg.qr(start)[0]
    images = [A.matmat(basis)]
    for _ in range(depth):
        block = _new_directions(advance(images[-1]), basis)
        if block.shape[1] == 0:
            break
        basis = xp.concat([basis, block], axis=1)
        images.append(A.matmat(block))
    return basis, xp.concat(images, axis=1)


def tall_svd(Y, k: int):
    """Return the k leading singular triplets ``U (m, k), s (k,), Vh (k, b)`` of Y (m, b) with m >= b >= k.

    By the eigenvectors of Y^H Y where the k-th singular value is above ``eps^(3/8)`` times the first, with a second pass that makes U orthonormal
    and `s` accurate to rounding (as CholeskyQR2 does); by Householder's QR otherwise.
    """
    xp = namespace(Y)
    if not _squares_are_safe(Y):
        return _householder_svd(Y, k)
    squares, vectors = xp.linalg.eigh(adjoint(Y) @ Y)
    squares, X = xp.flip(squares, axis=0)[:k], xp.flip(vectors, axis=1)[:, :k]
    if float(squares[-1]) <= float(xp.finfo(Y.dtype).eps) ** 0.75 * float(squares[0]):
        return _householder_svd(Y, k)
    norms = xp.sqrt(squares)
    unit = Y @ (X / norms[None, :])
    correction, directions = xp.linalg.eigh(adjoint(unit) @ unit)
    roots = xp.sqrt(correction)
    inner, s, Wh = xp.linalg.svd(roots[:, None] * (adjoint(directions) * norms[None, :]), full_matrices=False)
    return unit @ (directions @ (inner / roots[:, None])), s, Wh @ adjoint(X)


def _squares_are_safe(Y) -> bool:
    """Whether squares neither overflow nor vanish."""
    xp = namespace(Y)
    least = float(xp.finfo(Y.dtype).smallest_normal) ** 0.25
    return least < float(xp.max(xp.abs(Y))) < 1 / least


def _householder_svd(Y, k: int):
    xp = namespace(Y)
    Q, R = xp.linalg.qr(Y)
    U, s, Vh = xp.linalg.svd(R, full_matrices=False)
    return Q @ U[:, :k], s[:k], Vh[:k, :]


def _new_directions(W, basis):
    """Orthonormal directions of W outside the basis."""
    xp = namespace(W)
    scale = float(xp.linalg.matrix_norm(W))
    for _ in range(2):
        W = W - basis @ (adjoint(basis) @ W)
    Q, R = xp.linalg.qr(W)
    U, s, _ = xp.linalg.svd(R)
    room = basis.shape[0] - basis.shape[1]
    count = min(room, int(xp.sum(xp.astype(s > 100 * float(xp.finfo(W.dtype).eps) * scale, xp.int64))))
    Z = Q @ U[:, :count]
    return xp.linalg.qr(Z - basis @ (adjoint(basis) @ Z))[0] if count else Z
