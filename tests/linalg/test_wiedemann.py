"""Exact systems over prime fields: solved, or reported as singular."""

import numpy as np
import pytest
import scipy.sparse
import torch
from specimens import Specimen

from ritz.linalg import minimal_polynomial, wiedemann

P = 2**31 - 1
SPECIMENS = {
    "wiedemann": Specimen(
        wiedemann, lambda: {"A": np.array([[2, 1], [1, 1]]), "b": np.array([3, 2]), "p": 101, "rng": 0}, accepts={"rng": ("none",)}
    ),
    "minimal_polynomial": Specimen(minimal_polynomial, lambda: {"A": np.array([[2, 1], [1, 1]]), "p": 101, "rng": 0}, accepts={"rng": ("none",)}),
}


def random_sparse(n, seed):
    """A sparse matrix with a random permutation in it, so that it is nonsingular with a chance of about 1 - 1/p."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.repeat(np.arange(n), 3), np.arange(n)])
    columns = np.concatenate([rng.integers(n, size=3 * n), rng.permutation(n)])
    return scipy.sparse.csr_array((rng.integers(1, P, size=4 * n), (rows, columns)), shape=(n, n))


def exact_product(A, x):
    return A.toarray().astype(object) @ np.asarray(x, dtype=object)


@pytest.mark.parametrize("seed", range(3))
def test_random_sparse_systems_are_solved_exactly(seed):
    A, x = random_sparse(200, seed), np.random.default_rng(seed + 50).integers(P, size=200)
    b = exact_product(A, x) % P
    np.testing.assert_array_equal(wiedemann(A, [int(value) for value in b], P, rng=seed), x)


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.coo_array, scipy.sparse.csc_matrix, torch.from_numpy])
@pytest.mark.parametrize("p", [3, 101, P])
def test_every_kind_of_matrix_and_small_primes(kind, p):
    A = np.array([[2, 1, 0], [1, 1, -5], [0, 7, 4]])
    x = np.array([1, 0, 2])
    np.testing.assert_array_equal(wiedemann(kind(A), A @ x, p, rng=0), x % p)
    np.testing.assert_array_equal(wiedemann(kind(A), [0, 0, 0], p, rng=0), 0)


def test_singular_systems_are_reported():
    for seed in range(5):
        A = random_sparse(40, seed).toarray()
        A[:, 3] = A[:, 17]
        with pytest.raises(ValueError, match="A must be nonsingular modulo 2147483647"):
            wiedemann(A, np.random.default_rng(seed).integers(P, size=40), P, rng=0)
    with pytest.raises(ValueError, match="A must be nonsingular"):
        wiedemann(np.zeros((2, 2), int), [1, 0], P)
    nilpotent = np.eye(4, k=1, dtype=int)
    with pytest.raises(ValueError, match="A must be nonsingular"):
        wiedemann(nilpotent, [0, 0, 0, 1], P, rng=0)


def test_minimal_polynomials():
    def full(A, p=P):
        found = minimal_polynomial(A, p, rng=0)
        return found.coefficients + (0,) * (found.order + 1 - len(found.coefficients))

    assert full(np.diag([2, 2, 3])) == (1, -5, 6)
    assert full(np.eye(5, dtype=int)) == (1, -1)
    assert full(np.zeros((3, 3), int)) == (1, 0)
    assert full(np.eye(4, k=1, dtype=int)) == (1, 0, 0, 0, 0)
    jordan = np.diag([3, 3, 3, 5]) + np.diag([1, 0, 0], 1)
    assert full(jordan) == (1, -11, 39, -45)  # (x - 3)^2 (x - 5)
    companion = np.array([[0, 0, 6], [1, 0, -11], [0, 1, 6]])
    assert full(companion) == (1, -6, 11, -6)
    A = random_sparse(30, 1).toarray()
    coefficients, power, total = full(A), np.eye(30, dtype=object), np.zeros((30, 30), dtype=object)
    for c in reversed(coefficients):
        total, power = (total + c * power) % P, power @ A.astype(object) % P
    assert not total.any()
    assert full(np.array([[0, 1], [1, 0]]), 2) == (1, 0, 1)


def test_refusals():
    A = np.array([[2, 1], [1, 1]])
    for bad in (6, 2**31 + 11, 2**40):
        with pytest.raises(ValueError, match="p must be"):
            wiedemann(A, [1, 1], bad)
    with pytest.raises(TypeError, match="A must be a matrix of integers, got dtype float64"):
        wiedemann(A + 0.5, [1, 1], 7)
    with pytest.raises(TypeError, match="A must be an explicit matrix"):
        wiedemann(scipy.sparse.linalg.aslinearoperator(A), [1, 1], 7)
    with pytest.raises(ValueError, match="A must be a square matrix"):
        minimal_polynomial(A[:1], 7)
    with pytest.raises(ValueError, match="b must have one entry for each of the 2 rows"):
        wiedemann(A, [1, 1, 1], 7)
    with pytest.raises(TypeError, match="b must be an integer"):
        wiedemann(A, [1, 0.5], 7)
