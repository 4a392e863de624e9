"""HiPPO systems x' = A x + B u, whose state holds the coefficients of the recent input in an orthogonal basis.

Gu et al., "HiPPO: Recurrent Memory with Optimal Polynomial Projections", NeurIPS 2020, arXiv:2008.07669, and
Gu et al., "How to Train Your HiPPO", ICLR 2023, arXiv:2206.12037, sections 2-3. The basis kernels are K(t) = exp(tA) B, t the lag:

- LegS: K_n(t) = sqrt(2n+1) exp(-t) P_n(2 exp(-t) - 1), exact at every N;
- LegT: K_n(t) ~ sqrt(2n+1) P_n(1 - 2t) on [0, 1] and ~ 0 beyond, in the limit of large N;
- FouT: K(t) ~ (1, 0, sqrt2 cos 2 pi t, sqrt2 sin 2 pi t, sqrt2 cos 4 pi t, ...) on [0, 1] and ~ 0 beyond, in the limit of large N.

Each A is normal plus low rank: A + P P^T = shift I + skew-symmetric, which a unitary V diagonalizes. A itself must never be diagonalized:
the eigenvectors of LegS have condition number 1e11 at N = 16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class HippoMatrices(NamedTuple):
    """A (N, N), B (N,), and P (N, rank) with A + P P^T normal; real float64."""

    A: np.ndarray
    B: np.ndarray
    P: np.ndarray


class NormalPlusLowRank(NamedTuple):
    """A = V (diag(eigenvalues) - P P^*) V^* with V unitary (N, N), P (N, rank) and B (N,) in the basis of V; the eigenvalues by imaginary part."""

    eigenvalues: np.ndarray
    P: np.ndarray
    B: np.ndarray
    V: np.ndarray


def legs(N: int) -> HippoMatrices:
    """Scaled Legendre: the whole past under the weight exp(-t). A + A^T = -(B B^T + I).

    Examples
    --------
    >>> legs(2).A
    array([[-1.        , -0.        ], [-1.73205081, -2.        ]])
    """
    n = np.arange(N)
    B = np.sqrt(2 * n + 1)
    A = -np.tril(np.outer(B, B), -1) - np.diag(n + 1.0)
    return HippoMatrices(A, B, (B / np.sqrt(2))[:, None])


def legt(N: int) -> HippoMatrices:
    """Translated Legendre: a window of length 1. A + A^T = -2 P P^T, the columns of P the even and odd entries of B."""
    n = np.arange(N)
    B = np.sqrt(2 * n + 1)
    parity = (-1.0) ** n
    A = -np.outer(B, B) * np.where(n[None, :] <= n[:, None], 1.0, np.outer(parity, parity))
    return HippoMatrices(A, B, np.stack([B * (n % 2 == 0), B * (n % 2 == 1)], axis=1))


def fout(N: int) -> HippoMatrices:
    """Translated Fourier: a window of length 1, N even. A + A^T = -4 b b^T with b = B / 2.

    State 1, the sine of frequency zero, is identically zero and coupled to nothing.
    """
    b = np.full(N, np.sqrt(2.0))
    b[0], b[1::2] = 1.0, 0.0
    rotation = np.zeros((N, N))
    cosine = np.arange(0, N, 2)
    rotation[cosine + 1, cosine] = np.pi * (cosine // 2)
    A = 2 * (rotation - rotation.T - np.outer(b, b))
    return HippoMatrices(A, 2 * b, np.sqrt(2) * b[:, None])


MEASURES: dict[str, Callable[[int], HippoMatrices]] = {"legs": legs, "legt": legt, "fout": fout}


def normal_plus_low_rank(measure: str, N: int) -> NormalPlusLowRank:
    """Diagonalize the normal part of a HiPPO matrix, A + P P^T, by a Hermitian eigenproblem. Cost O(N^3).

    Examples
    --------
    >>> eigenvalues, P, B, V = normal_plus_low_rank("legs", 8)
    >>> np.allclose(V @ (np.diag(eigenvalues) - P @ P.conj().T) @ V.conj().T, legs(8).A)
    True
    """
    A, B, P = MEASURES[measure](N)
    normal = A + P @ P.T
    shift = np.trace(normal) / N
    frequencies, V = np.linalg.eigh(-1j * (normal - shift * np.eye(N)))
    return NormalPlusLowRank(shift + 1j * frequencies, V.conj().T @ P, V.conj().T @ B, V)
