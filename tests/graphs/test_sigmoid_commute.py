"""Sigmoid commute-time kernels against their definitions."""

import networkx as nx
import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.graphs import sigmoid_commute

GRAPH = nx.to_numpy_array(nx.barbell_graph(4, 2)) * 1.5

SPECIMENS = {"sigmoid_commute": Specimen(sigmoid_commute, lambda: {"adjacency": GRAPH.copy(), "t": 0.5, "corrected": True})}


def corrected_by_definition(A):
    n, d = len(A), A.sum(axis=1)
    J, half = np.eye(n) - 1 / n, np.diag(d**-0.5)
    M = half @ (A - np.outer(d, d) / d.sum()) @ half
    return J @ half @ M @ np.linalg.pinv(np.eye(n) - M) @ M @ half @ J


@pytest.mark.parametrize("t", [0.3, 5.0])
def test_equals_its_definition(t):
    L = np.diag(GRAPH.sum(axis=1)) - GRAPH
    for corrected, K in ((False, np.linalg.pinv(L)), (True, corrected_by_definition(GRAPH))):
        kernel = sigmoid_commute(GRAPH, t, corrected=corrected)
        np.testing.assert_allclose(kernel, 1 / (1 + np.exp(-t * K / K.std())), atol=1e-10)
        np.testing.assert_array_equal(kernel, kernel.T)


def test_the_correction_is_small_between_far_parts_of_dense_graphs():
    # resistance tends to 1/d_i + 1/d_j there, which the correction removes
    A = nx.to_numpy_array(nx.gnp_random_graph(80, 0.5, seed=0))
    plain, corrected = (sigmoid_commute(A, 1.0, corrected=c) for c in (False, True))
    degrees = A.sum(axis=1)
    off = ~np.eye(80, dtype=bool)
    predicted = -np.add.outer(degrees, degrees)
    assert abs(np.corrcoef(plain.diagonal(), 1 / degrees)[0, 1]) > 0.8
    assert abs(np.corrcoef(corrected[off], predicted[off])[0, 1]) < 0.3


def test_edge_cases_and_refusals():
    np.testing.assert_allclose(sigmoid_commute(np.ones((3, 3)), 1.0, corrected=True), 0.5)
    assert isinstance(sigmoid_commute(torch.from_numpy(GRAPH), 1.0), torch.Tensor)
    with pytest.raises(ValueError, match="connected graph"):
        sigmoid_commute(np.kron(np.eye(2), GRAPH), 1.0)
    with pytest.raises(ValueError, match="at least two nodes"):
        sigmoid_commute([[0.0]], 1.0)
    with pytest.raises(ValueError, match="t must be a finite number above 0"):
        sigmoid_commute(GRAPH, 0.0)
