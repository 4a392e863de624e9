"""Families of random orthogonal matrices, one for each name: Q[key] is a function of the seed and of the key's bytes alone.

Gallant, "Orthogonal Matrices for MBAT Vector Symbolic Architectures, and a 'Soft' VSA Representation for JSON", 2022, arXiv:2202.04771.

Binding by an orthogonal matrix keeps norms and angles at any depth, and its transpose unbinds. Three ways to draw one, of order D:

- *hadamard*: ``P3 (H/sqrt(D)) D2 P2 (H/sqrt(D)) D1 P1``, with the Walsh-Hadamard matrix H, random signs D1, D2 and random permutations P1, P2, P3.
  With a single H and no permutations a matrix would be its own inverse, and a key bound twice would unbind itself.
- *householder*: a random signed permutation followed by `REFLECTIONS` random reflections. The reflections alone would not do: a product of a few
  of them is the identity but for a space of a few dimensions, so that any key would unbind any other.
- *haar*: the Q of a Gaussian matrix' QR factorization, R's diagonal made positive: uniform on the orthogonal group.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
from numba import get_num_threads, njit, prange

from ritz.core import choice, integer, like
from ritz.linalg.keyed_randomness import keyed_generator, name_bytes
from ritz.linalg.operators import StructuredOperator
from ritz.linalg.walsh_hadamard import next_power_of_two, transform_in_place

KINDS = ("hadamard", "haar", "householder")
REFLECTIONS = 12
KEPT = {"hadamard": 4096, "haar": 64, "householder": 1024}  # matrices of a family that stay in memory; the others are drawn again when asked for
LINE = 16  # numbers of a cache line
BLOCK_ENTRIES = 1 << 15  # of the rows that are transformed together: they fit the second-level cache, twice


class OrthogonalFamily:
    """Random orthogonal matrices by name.

    Parameters
    ----------
    D : int
        The order of the matrices; a power of two for "hadamard".
    kind : {"hadamard", "haar", "householder"}
        How they are drawn. A product with a vector costs O(D log D), O(D^2) and O(D); a matrix takes O(D), D^2 and O(D) numbers of memory
        ("haar" wants D of at most some thousands). The matrices used last are kept, the others are drawn again when asked for.
    seed : int
        Another seed is another family.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    ``family[key]``, for text or bytes, is a `LinearOperator` of shape (D, D): ``Q @ x`` multiplies vectors (D,), matrices (D, k) and batches
    (..., D, k), of NumPy or torch (without gradients); ``Q.T`` is its transpose and inverse; ``Q.toarray()`` writes it out. float32 stays float32.
    Source: Gallant 2022, arXiv:2202.04771.

    Examples
    --------
    >>> Q = OrthogonalFamily(8, "hadamard", seed=0)
    >>> x = np.arange(8.0)
    >>> bound = Q["name"] @ x
    >>> bool(np.allclose(np.linalg.norm(bound), np.linalg.norm(x))), bool(np.allclose(Q["name"].T @ bound, x))
    (True, True)
    """

    def __init__(self, D: int, kind: str = "hadamard", seed: int = 0):
        self.D = integer(D, "D", at_least=1)
        self.kind = choice(kind, "kind", KINDS)
        self.seed = integer(seed, "seed", at_least=0, at_most=2**64 - 1)
        if kind == "hadamard" and next_power_of_two(D) != D:
            raise ValueError(f"D must be a power of two for kind 'hadamard', got {D}")
        self._kept: OrderedDict[bytes, Rotation] = OrderedDict()

    def __getitem__(self, key: str | bytes) -> Rotation:
        """The matrix of a key."""
        if not isinstance(key, str | bytes):
            raise TypeError(f"key must be text or bytes, got {type(key).__name__}")
        name = name_bytes(key)
        if name not in self._kept:
            self._kept[name] = _DRAWN[self.kind](self.D, keyed_generator(name, self.seed))
            if len(self._kept) > KEPT[self.kind]:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]


class Rotation(StructuredOperator):
    """A real orthogonal matrix known by its factors; a subclass defines `T` and `rows`."""

    @property
    def H(self) -> Rotation:
        """The transpose."""
        return self.T

    def rows(self, X: np.ndarray) -> np.ndarray:
        """Multiply every row of a contiguous float32 or float64 matrix (n, D): ``X Q^T``, in X's dtype."""
        raise NotImplementedError

    def __matmul__(self, x):
        """Multiply a vector, a matrix or a batch of them; torch comes back as torch."""
        return like(super().__matmul__(x), x)

    def _apply(self, columns):
        if np.iscomplexobj(columns):
            return self._apply(columns.real) + 1j * self._apply(columns.imag)
        columns = columns if columns.dtype in (np.float32, np.float64) else columns.astype(np.float64)
        rows = np.ascontiguousarray(np.moveaxis(columns, -2, -1))
        return np.moveaxis(self.rows(rows.reshape(-1, self.shape[0])).reshape(rows.shape), -1, -2)


class HadamardRotation(Rotation):
    """``S3 (H/sqrt(D)) S2 (H/sqrt(D)) S1`` with signed permutations.

    The first scatters, ``(S x)[places[i]] = signs[i] x[i]``, and the others gather, ``(S x)[i] = signs[i] x[places[i]]``: so both walk through their
    outer vector in order, and the transpose has the same first and last arrays, exchanged.

    Parameters
    ----------
    places : ndarray (3, D) of int64
        Permutations, the first of them applied first.
    signs : ndarray (3, D) of float64
        Their signs.
    """

    def __init__(self, places: np.ndarray, signs: np.ndarray):
        self.places, self.signs = places, signs
        super().__init__(signs, (signs.shape[1],) * 2)

    @classmethod
    def drawn(cls, D: int, rng: np.random.Generator) -> HadamardRotation:
        """Draw one; the last permutation has no signs."""
        places = np.array([rng.permutation(D) for _ in range(3)])
        return cls(places, np.vstack([_signs(D, rng), _signs(D, rng), np.ones(D)]))

    @property
    def T(self) -> HadamardRotation:
        """The transposed factors in reverse order."""
        first, middle, last = self.places
        back = np.argsort(middle)
        return HadamardRotation(np.array([last, back, first]), np.array([self.signs[2], self.signs[1][back], self.signs[0]]))

    def rows(self, X: np.ndarray) -> np.ndarray:
        """Multiply every row."""
        D = self.shape[0]
        found = np.empty_like(X)
        width = max(1, min(len(X), LINE, BLOCK_ENTRIES // D))
        _rotate_rows(X, self.places, self.signs.astype(X.dtype), X.dtype.type(1 / D), found, width, get_num_threads())
        return found


class HouseholderRotation(Rotation):
    """Reflections ``I - 2 u u^T`` at the rows of `normals` in turn, after a signed permutation: or, transposed, before its transpose.

    Parameters
    ----------
    normals : ndarray (r, D) of float64
        Unit vectors.
    places : ndarray (D,) of int64
        The permutation.
    signs : ndarray (D,) of float64
        Its signs.
    transposed : bool
        Whether this is the transpose.
    """

    def __init__(self, normals: np.ndarray, places: np.ndarray, signs: np.ndarray, *, transposed: bool = False):
        self.normals, self.places, self.signs, self.transposed = normals, places, signs, transposed
        super().__init__(signs, (len(signs),) * 2)

    @classmethod
    def drawn(cls, D: int, rng: np.random.Generator) -> HouseholderRotation:
        """Draw one."""
        normals = rng.standard_normal((REFLECTIONS, D))
        return cls(normals / np.linalg.norm(normals, axis=1, keepdims=True), rng.permutation(D), _signs(D, rng))

    @property
    def T(self) -> HouseholderRotation:
        """The transpose."""
        return HouseholderRotation(self.normals, self.places, self.signs, transposed=not self.transposed)

    def rows(self, X: np.ndarray) -> np.ndarray:
        """Multiply every row."""
        normals, signs = self.normals.astype(X.dtype), self.signs.astype(X.dtype)
        if not self.transposed:
            return _reflected(X[:, self.places] * signs, normals)
        found = np.empty_like(X)
        found[:, self.places] = _reflected(X.copy(), normals[::-1]) * signs
        return found


class DenseRotation(Rotation):
    """An orthogonal matrix written out.

    Parameters
    ----------
    matrix : ndarray (D, D)
        Its entries.
    """

    def __init__(self, matrix: np.ndarray):
        self.matrix = matrix
        super().__init__(matrix, matrix.shape)

    @classmethod
    def drawn(cls, D: int, rng: np.random.Generator) -> DenseRotation:
        """Draw one, uniformly."""
        Q, R = np.linalg.qr(rng.standard_normal((D, D)))
        return cls(Q * np.where(np.diagonal(R) < 0, -1.0, 1.0))

    @property
    def T(self) -> DenseRotation:
        """The transpose."""
        return DenseRotation(self.matrix.T)

    def rows(self, X: np.ndarray) -> np.ndarray:
        """Multiply every row."""
        return np.ascontiguousarray(X @ self.matrix.T.astype(X.dtype, copy=False))


_DRAWN = {"hadamard": HadamardRotation.drawn, "haar": DenseRotation.drawn, "householder": HouseholderRotation.drawn}


def semi_orthogonal(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """A random (rows, columns) matrix that keeps norms: exactly if rows >= columns, else in the mean over all directions."""
    Q = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))[0]
    return Q if rows >= columns else Q.T * math.sqrt(columns / rows)


def _signs(D: int, rng: np.random.Generator) -> np.ndarray:
    return 2.0 * rng.integers(2, size=D) - 1


def _reflected(X: np.ndarray, normals: np.ndarray) -> np.ndarray:
    for u in normals:
        X -= np.outer(2 * (X @ u), u)
    return X


@njit(cache=True, nogil=True, parallel=True)
def _rotate_rows(X, places, signs, scale, found, width, threads):
    n, D = X.shape
    for thread in prange(threads):
        first_buffer, second_buffer = np.empty(D * width, X.dtype), np.empty(D * width, X.dtype)
        for start in range(thread * width, n, threads * width):
            w = min(width, n - start)
            x, y = first_buffer[: D * w], second_buffer[: D * w]
            for block in range(0, D, LINE):  # whole cache lines of each row at a time
                for k in range(w):
                    for i in range(block, min(block + LINE, D)):
                        x[places[0, i] * w + k] = signs[0, i] * X[start + k, i]
            transform_in_place(x, D, w)
            for i in range(D):
                place, sign = places[1, i] * w, signs[1, i]
                for k in range(w):
                    y[i * w + k] = sign * x[place + k]
            transform_in_place(y, D, w)
            for block in range(0, D, LINE):
                for k in range(w):
                    for i in range(block, min(block + LINE, D)):
                        found[start + k, i] = scale * signs[2, i] * y[places[2, i] * w + k]
