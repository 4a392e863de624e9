"""The subsampled randomized circulant transform of a Kronecker product, without forming the product.

Song, Ye, Yin and Zhang, "A Nearly-Optimal Bound for Fast Regression with l_inf Guarantee", ICML 2023, arXiv:2302.00248, section on tensor sketches.
With ``S = P ((G1 D1) ⊗ (G2 D2)) / sqrt(m)`` and P picking pairs (i, j) of rows, ``(S kron(x1, x2))_r = (G1 D1 x1)_i (G2 D2 x2)_j / sqrt(m)``.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
import scipy.sparse

from ritz.core import array, integer, is_torch, namespace, random_generator
from ritz.linalg.sketch_operators import Sketch, add_rows, like_dtype
from ritz.linalg.sketches import circulant_times, random_signs
from ritz.linalg.structured_operators import KroneckerOperator


class TensorSRCT(Sketch):
    """A random (m, n1 n2) matrix with ``E[S^T S] = I`` that multiplies Kronecker products by their factors.

    Parameters
    ----------
    m : int
        Rows.
    shape : (int, int)
        The sizes n1 and n2 of the factors.
    rng : numpy.random.Generator or int, optional
        Where signs, circulant matrices and row pairs come from.

    Raises
    ------
    ValueError, TypeError
        If m or a size is no positive integer.

    Notes
    -----
    `kron` costs two fast Fourier transforms per column of each factor, O(n1 log n1 + n2 log n2), and m multiplications per pair of columns.
    ``S @ KroneckerOperator(A, B)`` is `kron` of its factors; ``S @ X`` with an explicit X (n1 n2, k) transforms along both sizes.
    With two factors of signs a row's variance is larger than that of `srct`, at worst by a constant factor.

    Examples
    --------
    >>> S = TensorSRCT(6, (4, 3), rng=0)
    >>> x, y = np.array([1.0, 2.0, 0.0, 1.0]), np.array([3.0, 0.0, 1.0])
    >>> bool(np.allclose(S.kron(x, y), S.toarray() @ np.kron(x, y)))
    True
    """

    def __init__(self, m: int, shape: tuple[int, int], rng: np.random.Generator | int | None = None):
        m, sizes = integer(m, "m", at_least=1), _sizes(shape)
        super().__init__(m, math.prod(sizes))
        rng = random_generator(rng)
        self.sizes, self.scale = sizes, 1 / math.sqrt(m)
        self.signs = [random_signs(rng, n) for n in sizes]
        self.spectra = [scipy.fft.fft(random_signs(rng, n)) for n in sizes]
        self.rows = [rng.integers(n, size=m) for n in sizes]

    def redraw(self, rng: np.random.Generator) -> TensorSRCT:
        """Draw another of these sizes."""
        return TensorSRCT(self.shape[0], self.sizes, rng)

    def __matmul__(self, x):
        """Multiply an array as any sketch does, or a `KroneckerOperator` by its factors."""
        return self.kron(x.A, x.B) if isinstance(x, KroneckerOperator) else super().__matmul__(x)

    def kron(self, x1, x2):
        """Return ``S kron(x1, x2)``.

        Parameters
        ----------
        x1, x2 : array or torch tensor (n1,) and (n2,), or (n1, k1) and (n2, k2)
            The factors, both vectors or both matrices, both NumPy or both torch.

        Returns
        -------
        array or torch tensor (m,) or (m, k1 k2)

        Raises
        ------
        ValueError, TypeError
            If they are not finite arrays of these sizes.
        """
        factors = [array(x, name, ndim=(1, 2), allow_complex=True) for x, name in ((x1, "x1"), (x2, "x2"))]
        for x, n, name in zip(factors, self.sizes, ("x1", "x2")):
            if x.shape[0] != n:
                raise ValueError(f"{name} must have {n} rows, got shape {tuple(x.shape)}")
        if factors[0].ndim != factors[1].ndim or is_torch(factors[0]) != is_torch(factors[1]):
            raise ValueError(f"x2 must be a vector or a matrix as x1 is, and of its kind, got shape {tuple(factors[1].shape)} of {type(x2).__name__}")
        left, right = (self._side(side, x if x.ndim == 2 else x[:, None]) for side, x in enumerate(factors))
        xp = namespace(left)
        product = self.scale * xp.reshape(left[:, :, None] * right[:, None, :], (self.shape[0], -1))
        return product if factors[0].ndim == 2 else product[:, 0]

    def _side(self, side: int, x):
        """The sampled rows of G D x for one of the two factors."""
        return self._transformed(side, x)[self.rows[side]]

    def _transformed(self, side: int, x):
        return circulant_times(self.spectra[side], like_dtype(self.signs[side], x)[:, None] * x)

    def _times(self, X):
        xp, (n1, n2) = namespace(X), self.sizes
        first = xp.reshape(self._transformed(0, xp.reshape(X, (n1, -1))), (n1, n2, -1))
        second = self._transformed(1, xp.reshape(xp.moveaxis(first, 1, 0), (n2, -1)))
        return self.scale * xp.reshape(second, (n2, n1, -1))[self.rows[1], self.rows[0]]

    def _transpose_times(self, Y):
        xp, (n1, n2) = namespace(Y), self.sizes
        grid = add_rows(self.rows[1] * n1 + self.rows[0], self.scale * Y, n1 * n2)
        second = xp.reshape(self._transposed(1, xp.reshape(grid, (n2, -1))), (n2, n1, -1))
        return xp.reshape(self._transposed(0, xp.reshape(xp.moveaxis(second, 1, 0), (n1, -1))), (n1 * n2, -1))

    def _transposed(self, side: int, y):
        return like_dtype(self.signs[side], y)[:, None] * circulant_times(self.spectra[side].conj(), y)


def _sizes(shape) -> tuple[int, int]:
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise TypeError(f"shape must be a pair of sizes, got {shape!r}")
    return integer(shape[0], "shape", at_least=1), integer(shape[1], "shape", at_least=1)
