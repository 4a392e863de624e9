"""Sparse factors for studies: random matrices, documents, multigrid hierarchies; float64, with 32-bit indices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse

from ritz.core import random_generator
from ritz.studies.data.linear_systems import poisson


def erdos_renyi(n: int, per_row: int, seed: int) -> scipy.sparse.csr_array:
    """A square matrix of normal entries at random places, `per_row` of them a row on average."""
    rng = random_generator(seed)
    places = rng.integers(n, size=(2, n * per_row))
    return _short_indices(scipy.sparse.csr_array((rng.standard_normal(n * per_row), tuple(places)), shape=(n, n)))


def documents(seed: int, count: int, words: int) -> scipy.sparse.csr_array:
    """Counts of words in documents of about 100 words, drawn by Zipf's law: what scikit-learn makes of newsgroups, without a download."""
    rng = random_generator(seed)
    lengths = rng.poisson(100, count)
    shares = 1 / np.arange(1, words + 1)
    drawn = rng.choice(words, size=lengths.sum(), p=shares / shares.sum())
    return _short_indices(scipy.sparse.csr_array((np.ones(len(drawn)), (np.repeat(np.arange(count), lengths), drawn)), shape=(count, words)))


def aggregation_hierarchy(side: int) -> Iterator[tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]]:
    """Yield A and the smoothed prolongator P of each level of algebraic multigrid on a Poisson grid, with aggregates of 3 x 3 neighbors."""
    A = poisson(side, side)
    while side >= 9:
        coarse = -(-side // 3)
        i, j = np.divmod(np.arange(side * side), side)
        tentative = scipy.sparse.csr_array((np.ones(side * side), (np.arange(side * side), i // 3 * coarse + j // 3)))
        damped = scipy.sparse.diags_array(2 / 3 / A.diagonal())
        P = _short_indices(scipy.sparse.csr_array(tentative - damped @ (A @ tentative)))
        yield A, P
        A, side = _short_indices(scipy.sparse.csr_array(P.T @ A @ P)), coarse


def _short_indices(A: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    A.sum_duplicates()
    return scipy.sparse.csr_array((A.data, A.indices.astype(np.int32), A.indptr.astype(np.int32)), shape=A.shape)
