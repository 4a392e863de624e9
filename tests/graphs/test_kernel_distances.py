"""Proximities to distances and back."""

import networkx as nx
import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.graphs import distance_to_kernel, laplacian_pseudoinverse, proximity, proximity_distance

KARATE = nx.karate_club_graph()
K = np.array([[2.0, 0.5, 0.1], [0.4, 1.0, 0.3], [0.1, 0.2, 3.0]])

SPECIMENS = {
    "proximity_distance": Specimen(proximity_distance, lambda: {"K": K.copy(), "sqrt": False}),
    "distance_to_kernel": Specimen(distance_to_kernel, lambda: {"D": np.array([[0.0, 1.0], [1.0, 0.0]])}),
}


def test_is_the_formula():
    d = proximity_distance(K)
    assert d[0, 1] == pytest.approx((2.0 + 1.0 - 0.5 - 0.4) / 2, abs=1e-15)
    np.testing.assert_array_equal(d, d.T)
    np.testing.assert_array_equal(d.diagonal(), 0)
    np.testing.assert_array_equal(proximity_distance(K, sqrt=True), np.sqrt(d))
    assert proximity_distance(np.array([[0.0, 1.0], [1.0, 0.0]]), sqrt=True)[0, 1] == 0  # d = -1


@pytest.mark.parametrize("log", [False, True])
def test_kernel_to_distance_and_back_is_idempotent(log):
    kernel = proximity(KARATE, "communicability", 0.3, log=log)
    d = proximity_distance(kernel)
    centered = distance_to_kernel(d)
    np.testing.assert_allclose(proximity_distance(centered), d, rtol=1e-10, atol=1e-10 * d.max())
    np.testing.assert_allclose(distance_to_kernel(proximity_distance(centered)), centered, atol=1e-10 * np.abs(centered).max())
    J = np.eye(34) - 1 / 34
    np.testing.assert_allclose(centered, J @ kernel @ J, atol=1e-10 * np.abs(kernel).max())


def test_the_kernel_of_the_resistance_is_twice_the_pseudo_inverse():
    twice = 2 * laplacian_pseudoinverse(KARATE)
    np.testing.assert_allclose(distance_to_kernel(proximity_distance(twice)), twice, atol=1e-12)


def test_torch_in_torch_out():
    d = proximity_distance(torch.from_numpy(K), sqrt=True)
    assert isinstance(d, torch.Tensor)
    np.testing.assert_allclose(d.numpy(), proximity_distance(K, sqrt=True), atol=1e-15)
    assert isinstance(distance_to_kernel(d), torch.Tensor)


def test_what_is_no_distance_is_refused():
    with pytest.raises(ValueError, match="D must have a zero diagonal"):
        distance_to_kernel(np.eye(2))
    with pytest.raises(ValueError, match="D must be symmetric"):
        distance_to_kernel([[0.0, 1.0], [2.0, 0.0]])
    with pytest.raises(ValueError, match="K must be square"):
        proximity_distance(np.ones((2, 3)))
