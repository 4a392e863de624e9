"""Functions of M-matrices: entries that are right to their last digits, however small."""

import math
from fractions import Fraction

import networkx as nx
import numpy as np
import pytest

from ritz.graphs.m_matrix_functions import MMatrixExponential, m_matrix_inverse

PATH = nx.to_numpy_array(nx.path_graph(24))
BARBELL = nx.to_numpy_array(nx.barbell_graph(5, 3)) * 1.7


def laplacian_of(A):
    return np.diag(A.sum(axis=1)) - A


def exact_series(G, t, terms=120):
    """exp(-t G) by the sum of non-negative terms: no cancellation, so every entry is accurate."""
    c = G.diagonal().max()
    B, term = t * (c * np.eye(len(G)) - G), np.eye(len(G))
    total = term.copy()
    for k in range(1, terms):
        term = term @ B / k
        total += term
    return total * math.exp(-t * c)


@pytest.mark.parametrize("A", [PATH, BARBELL], ids=["path", "barbell"])
@pytest.mark.parametrize("t", [1e-9, 1e-3, 0.3, 3.0])
def test_small_entries_of_the_exponential(A, t):
    G = laplacian_of(A)
    np.testing.assert_allclose(MMatrixExponential(G).at(t), exact_series(G, t), rtol=1e-9)


def test_a_long_time_and_many_squarings():
    G = laplacian_of(PATH)
    family = MMatrixExponential(G)
    np.testing.assert_allclose(family._series(200.0), family.at(200.0), rtol=1e-11)


def test_entries_of_unconnected_nodes_are_exactly_zero():
    A = nx.to_numpy_array(nx.disjoint_union(nx.path_graph(5), nx.cycle_graph(4)))
    G = laplacian_of(A)
    for K in (MMatrixExponential(G).at(0.5), MMatrixExponential(G)._series(0.5), m_matrix_inverse(np.eye(9) + G)):
        assert not K[:5, 5:].any()
        assert (K[:5, :5] > 0).all()


def test_the_inverse_agrees_with_rational_arithmetic():
    A = nx.to_numpy_array(nx.barbell_graph(3, 6))
    t = 2.0**-30
    M = np.eye(len(A)) + t * laplacian_of(A)
    exact = rational_inverse(M)
    assert exact.min() < 1e-60
    np.testing.assert_allclose(m_matrix_inverse(M), exact, rtol=1e-14)


def rational_inverse(M):
    n = len(M)
    rows = [[Fraction(x) for x in row] + [Fraction(int(i == j)) for j in range(n)] for i, row in enumerate(M.tolist())]
    for i in range(n):
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for j in range(n):
            if j != i and rows[j][i]:
                rows[j] = [x - rows[j][i] * y for x, y in zip(rows[j], rows[i])]
    return np.array([[float(x) for x in row[n:]] for row in rows])


def test_an_indefinite_matrix_is_refused():
    with pytest.raises(np.linalg.LinAlgError):
        m_matrix_inverse(np.array([[1.0, -2.0], [-2.0, 1.0]]))
