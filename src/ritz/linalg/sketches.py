"""Random matrices S with few rows that keep lengths and inner products: ``E[S^T S] = I``.

Each is a linear operator on n rows known by what it was drawn from: ``S @ X``, ``S.T @ Y`` and ``S.toarray()``. X is a NumPy array, a SciPy sparse
array (the product is dense) or a torch tensor on any device (the product is one too); the computation runs in X's dtype, real or complex.

- `srht`: subsampled randomized Hadamard transform (Ailon and Chazelle 2006; Tropp, arXiv:1011.1595);
- `srct`: subsampled randomized circulant transform, of Song, Ye, Yin and Zhang, arXiv:2302.00248: any n, no padding;
- `gaussian_sketch`: independent normal entries, drawn block by block when they are needed, never stored;
- `countsketch`: one sign per column (Clarkson and Woodruff, arXiv:1207.6365); `sparse_sign`: a few per column (Nelson and Nguyen, arXiv:1211.1002).

What is drawn does not depend on what is multiplied: one seed is one matrix for all kinds and dtypes.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
import scipy.sparse

from ritz.core import flag, integer, is_torch, like, namespace, random_generator
from ritz.linalg.sketch_operators import BLOCK_ENTRIES, Sketch, add_rows, like_dtype
from ritz.linalg.walsh_hadamard import next_power_of_two, sampled_transform, transformed


def srht(m: int, n: int, rng: np.random.Generator | int | None = None, *, replace: bool = True) -> Sketch:
    """Draw a subsampled randomized Hadamard transform ``S = sqrt(n' / m) P H D``.

    D are random signs, H the orthonormal Walsh-Hadamard transform of size n', the next power of two (zeros are appended), P picks m of its rows.

    Parameters
    ----------
    m, n : int
        Rows and columns.
    rng : numpy.random.Generator or int, optional
        Where the signs and rows come from.
    replace : bool
        Whether a row may be picked twice. Without, m is at most n', the variance is a little less, and ``S^T S = I`` for m = n'.

    Returns
    -------
    Sketch
        A linear operator: ``S @ X`` takes ``n' log2(n')`` additions per column, in blocks of columns.

    Raises
    ------
    ValueError, TypeError
        If m or n is no positive integer, or m too large.

    References
    ----------
    .. [1] Tropp, "Improved Analysis of the Subsampled Randomized Hadamard Transform", 2011, arXiv:1011.1595.

    Examples
    --------
    >>> S = srht(4, 4, rng=0, replace=False)
    >>> x = np.array([3.0, 0.0, 4.0, 0.0])
    >>> float(np.linalg.norm(S @ x).round(12))
    5.0
    """
    m, n = _shape(m, n)
    return _HadamardSketch(m, n, random_generator(rng), flag(replace, "replace"))


def srct(m: int, n: int, rng: np.random.Generator | int | None = None) -> Sketch:
    """Draw a subsampled randomized circulant transform ``S = P G D / sqrt(m)``.

    D are random signs, G the circulant matrix whose first column is a vector of random signs, P picks m rows, with replacement.

    Parameters
    ----------
    m, n : int
        Rows and columns; n is not padded.
    rng : numpy.random.Generator or int, optional
        Where the signs and rows come from.

    Returns
    -------
    Sketch
        A linear operator: two fast Fourier transforms of size n per column, in blocks of columns.

    Raises
    ------
    ValueError, TypeError
        If m or n is no positive integer.

    References
    ----------
    .. [1] Song, Ye, Yin and Zhang, "A Nearly-Optimal Bound for Fast Regression with l_inf Guarantee", ICML 2023, arXiv:2302.00248.

    Examples
    --------
    >>> S = srct(5, 3, rng=0)
    >>> bool(np.allclose(abs(S.toarray()), 1 / np.sqrt(5)))  # every entry is a sign
    True
    """
    return _CirculantSketch(*_shape(m, n), random_generator(rng))


def gaussian_sketch(m: int, n: int, rng: np.random.Generator | int | None = None) -> Sketch:
    """Draw a matrix of independent entries N(0, 1/m).

    Parameters
    ----------
    m, n : int
        Rows and columns.
    rng : numpy.random.Generator or int, optional
        Where its seed comes from. The entries are drawn again at each product, some columns at a time: memory stays bounded whatever m and n are.

    Returns
    -------
    Sketch
        A linear operator: m n draws, and m n multiply-adds per column.

    Raises
    ------
    ValueError, TypeError
        If m or n is no positive integer.

    Examples
    --------
    >>> gaussian_sketch(2, 1000, rng=0).shape
    (2, 1000)
    """
    return _GaussianSketch(*_shape(m, n), random_generator(rng))


def sparse_sign(m: int, n: int, nnz: int = 8, rng: np.random.Generator | int | None = None) -> Sketch:
    """Draw a sparse sign matrix (OSNAP): in each column `nnz` entries ``+-1 / sqrt(nnz)``, in distinct rows.

    Parameters
    ----------
    m, n : int
        Rows and columns.
    nnz : int
        Entries per column, at most m.
    rng : numpy.random.Generator or int, optional
        Where rows and signs come from.

    Returns
    -------
    Sketch
        A linear operator: `nnz` additions per entry of X, or per stored entry of a sparse X.

    Raises
    ------
    ValueError, TypeError
        If a size is no positive integer, or nnz above m.

    References
    ----------
    .. [1] Nelson and Nguyen, "OSNAP: Faster Numerical Linear Algebra Algorithms via Sparser Subspace Embeddings", FOCS 2013, arXiv:1211.1002.

    Examples
    --------
    >>> (abs(sparse_sign(6, 4, nnz=2, rng=0).toarray()) > 0).sum(axis=0)
    array([2, 2, 2, 2])
    """
    m, n = _shape(m, n)
    return _SparseSketch(m, n, integer(nnz, "nnz", at_least=1, at_most=m), random_generator(rng))


def countsketch(m: int, n: int, rng: np.random.Generator | int | None = None) -> Sketch:
    """Draw a matrix with one sign in each column, in a random row.

    Parameters
    ----------
    m, n : int
        Rows and columns.
    rng : numpy.random.Generator or int, optional
        Where rows and signs come from.

    Returns
    -------
    Sketch
        A linear operator: one addition per entry of X, or per stored entry of a sparse X.

    Raises
    ------
    ValueError, TypeError
        If m or n is no positive integer.

    References
    ----------
    .. [1] Clarkson and Woodruff, "Low Rank Approximation and Regression in Input Sparsity Time", STOC 2013, arXiv:1207.6365.

    Examples
    --------
    >>> abs(countsketch(3, 5, rng=0).toarray()).sum(axis=0)
    array([1., 1., 1., 1., 1.])
    """
    return _SparseSketch(*_shape(m, n), 1, random_generator(rng))


class _HadamardSketch(Sketch):
    def __init__(self, m: int, n: int, rng: np.random.Generator, replace: bool):
        super().__init__(m, n)
        self.padded, self.replace = next_power_of_two(n), replace
        if not replace and m > self.padded:
            raise ValueError(f"m must be at most {self.padded}, the padded n, without replacement, got {m}")
        self.signs = random_signs(rng, n)
        self.rows = rng.integers(self.padded, size=m) if replace else rng.permutation(self.padded)[:m]
        self.scale = 1 / math.sqrt(m)

    def redraw(self, rng):
        return _HadamardSketch(*self.shape, rng, self.replace)

    def _times(self, X):
        if not is_torch(X):
            return sampled_transform(X, self.signs, self.padded, self.rows, self.scale)
        signed = X.new_zeros((self.padded, X.shape[1]))
        signed[: len(X)] = like_dtype(self.signs, X)[:, None] * X
        return self.scale * transformed(signed)[like(self.rows, X)]

    def _transpose_times(self, Y):
        spread = transformed(add_rows(self.rows, self.scale * Y, self.padded))
        return like_dtype(self.signs, Y)[:, None] * spread[: self.shape[1]]


class _CirculantSketch(Sketch):
    def __init__(self, m: int, n: int, rng: np.random.Generator):
        super().__init__(m, n)
        self.signs, self.rows = random_signs(rng, n), rng.integers(n, size=m)
        self.spectrum = scipy.fft.fft(random_signs(rng, n))
        self.scale = 1 / math.sqrt(m)

    def redraw(self, rng):
        return _CirculantSketch(*self.shape, rng)

    def _times(self, X):
        width = max(1, BLOCK_ENTRIES // len(X))
        signs = like_dtype(self.signs, X)[:, None]
        blocks = [X[:, first : first + width] for first in range(0, X.shape[1], width)]
        rows = like(self.rows, X)
        return namespace(X).concat([self.scale * circulant_times(self.spectrum, signs * block)[rows] for block in blocks], axis=1)

    def _transpose_times(self, Y):
        return like_dtype(self.signs, Y)[:, None] * circulant_times(self.spectrum.conj(), add_rows(self.rows, self.scale * Y, self.shape[1]))


class _GaussianSketch(Sketch):
    def __init__(self, m: int, n: int, rng: np.random.Generator):
        super().__init__(m, n)
        self.seed = int(rng.integers(2**63))
        self.width = max(1, BLOCK_ENTRIES // m)

    def redraw(self, rng):
        return _GaussianSketch(*self.shape, rng)

    def _times(self, X):
        product = 0
        for columns, block in self._blocks():
            product = product + _matrix_like(block, X) @ X[columns]
        return product

    def _transpose_times(self, Y):
        return namespace(Y).concat([_matrix_like(block, Y).T @ Y for _, block in self._blocks()], axis=0)

    def _blocks(self):
        m, n = self.shape
        for index, first in enumerate(range(0, n, self.width)):
            size = min(self.width, n - first)
            entries = np.random.default_rng([self.seed, index]).standard_normal((m, size))
            yield slice(first, first + size), entries / math.sqrt(m)


class _SparseSketch(Sketch):
    def __init__(self, m: int, n: int, nnz: int, rng: np.random.Generator):
        super().__init__(m, n)
        self.nnz = nnz
        rows, signs = distinct_rows(rng, m, n, nnz), random_signs(rng, n * nnz)
        starts = np.arange(0, n * nnz + 1, nnz)
        self.matrix = scipy.sparse.csc_array((signs / math.sqrt(nnz), rows.reshape(-1), starts), shape=(m, n))
        self.matrix.sort_indices()

    def redraw(self, rng):
        return _SparseSketch(*self.shape, self.nnz, rng)

    def _times(self, X):
        return _sparse_times(self.matrix, X)

    def _transpose_times(self, Y):
        return _sparse_times(self.matrix.T, Y)

    def _times_sparse(self, X):
        return (self.matrix.astype(X.real.dtype) @ X).toarray()


def random_signs(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw independent signs, +1.0 or -1.0."""
    return 2.0 * rng.integers(2, size=size) - 1.0


def distinct_rows(rng: np.random.Generator, m: int, n: int, count: int) -> np.ndarray:
    """Draw n uniform subsets of `count` of the numbers below m, as rows (n, count): Floyd's algorithm, for all subsets at once."""
    chosen = np.empty((n, count), dtype=np.int64)
    for k in range(count):
        last = m - count + k
        drawn = rng.integers(last + 1, size=n)
        taken = (chosen[:, :k] == drawn[:, None]).any(axis=1)
        chosen[:, k] = np.where(taken, last, drawn)
    return chosen


def circulant_times(spectrum: np.ndarray, X):
    """Multiply X (n, k) by the circulant matrix whose first column has this Fourier transform (n,), a real matrix."""
    if is_torch(X):
        return _torch_circulant_times(spectrum, X)
    rows, n = np.ascontiguousarray(X.T), len(X)
    if X.dtype.kind == "c":
        return scipy.fft.ifft(scipy.fft.fft(rows, axis=1) * spectrum.astype(X.dtype), axis=1).T
    half = scipy.fft.rfft(rows, axis=1)
    half *= spectrum[: n // 2 + 1].astype(half.dtype)
    return scipy.fft.irfft(half, n, axis=1).T


def _torch_circulant_times(spectrum: np.ndarray, X):
    import torch

    n = len(X)
    if X.is_complex():
        return torch.fft.ifft(torch.fft.fft(X, dim=0) * like_dtype(spectrum, X)[:, None], dim=0)
    half = torch.fft.rfft(X, dim=0)
    return torch.fft.irfft(half * like_dtype(spectrum[: n // 2 + 1], half)[:, None], n, dim=0)


def _matrix_like(values: np.ndarray, X):
    """Bring a NumPy matrix to X's kind and dtype, complex if X is: torch multiplies no matrices of two dtypes."""
    return namespace(X).astype(like_dtype(values, X), X.dtype, copy=False)


def _sparse_times(matrix, X):
    if not is_torch(X):
        return matrix.astype(X.real.dtype) @ X
    import torch

    entries = matrix.tocoo()
    positions = torch.from_numpy(np.stack(entries.coords)).to(X.device)
    values = like(entries.data, X).to(X.dtype)
    return torch.sparse_coo_tensor(positions, values, matrix.shape, check_invariants=False) @ X


def _shape(m: int, n: int) -> tuple[int, int]:
    return integer(m, "m", at_least=1), integer(n, "n", at_least=1)
