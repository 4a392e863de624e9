"""A few singular triplets: LAPACK's values, orthonormal sides whatever the rank, every kind of matrix, refusals."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from linalg.kinds_of_input import KINDS, answers_in_torch
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import SVDResult, singular_values, svds


def gaussian(m, n, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((m, n)) + (1j * rng.standard_normal((m, n)) if np.dtype(dtype).kind == "c" else 0)).astype(dtype)


def low_rank(m, n, rank, dtype=np.float64):
    return gaussian(m, rank, dtype) @ gaussian(rank, n, dtype, 1)


SPECIMENS = {
    "SVDResult": Specimen(lambda: svds(np.eye(3), 1), dict),
    "svds": Specimen(svds, lambda: {"A": gaussian(8, 5), "k": 2, "which": "largest", "tol": 1e-8, "rng": 0}, accepts={"rng": ("none",)}),
}


def check(A, found, which="largest", tolerance=1e-8):
    """Singular values relative to the largest, both sides orthonormal, residuals as stated and small."""
    k, expected = len(found.singular_values), np.linalg.svd(A, compute_uv=False)
    wanted = expected[:k] if which == "largest" else expected[::-1][:k]
    U, s, Vh = (np.asarray(part) for part in (found.U, found.singular_values, found.Vh))
    assert np.max(np.abs(s - wanted)) <= tolerance * max(expected[0], 1e-300)
    assert np.max(np.abs(U.conj().T @ U - np.eye(k))) <= tolerance / 100
    assert np.max(np.abs(Vh @ Vh.conj().T - np.eye(k))) <= tolerance / 100
    left = np.linalg.norm(A @ Vh.conj().T - U * s, axis=0)
    right = np.linalg.norm(A.conj().T @ U - Vh.conj().T * s, axis=0)
    assert np.allclose(np.maximum(left, right), found.residual_norms, atol=tolerance / 10 * max(expected[0], 1.0))
    assert np.asarray(found.converged).all()


@pytest.mark.parametrize("shape", [(100_000, 50), (50, 100_000)])
def test_long_and_wide(shape):
    A = gaussian(*shape)
    found = svds(A, 6, rng=0)
    assert isinstance(found, SVDResult)
    check(A, found)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize(
    ("which", "shape"),
    [("largest", (900, 600)), ("largest", (600, 900)), ("largest", (700, 700)), ("smallest", (600, 300)), ("smallest", (300, 600))],
)
def test_lanczos_equals_lapack(which, shape, dtype):
    A = gaussian(*shape, dtype) + 0
    found = svds(scipy.sparse.linalg.aslinearoperator(A), 5, which=which, rng=0)
    assert found.method == "lanczos"
    check(A, found, which)


@pytest.mark.parametrize("which", ["largest", "smallest"])
@pytest.mark.parametrize("shape", [(900, 600), (600, 900)])
@pytest.mark.parametrize("operator", [True, False])
def test_more_triplets_than_the_rank(shape, which, operator):
    A = low_rank(*shape, 4)
    check(A, svds(scipy.sparse.linalg.aslinearoperator(A) if operator else A, 9, which=which, rng=0), which)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (2, 3), (5, 5)])
@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_small_matrices_and_every_k(shape, which):
    for A in (gaussian(*shape), np.zeros(shape), np.ones(shape)):
        for k in range(1, min(shape) + 1):
            check(A, svds(A, k, which=which), which)


def test_repeated_singular_values():
    Q, P = np.linalg.qr(gaussian(800, 800))[0], np.linalg.qr(gaussian(800, 800, seed=1))[0]
    A = (Q * np.r_[np.full(6, 5.0), np.linspace(4, 0, 794)]) @ P
    check(A, svds(scipy.sparse.linalg.aslinearoperator(A), 8, rng=0))


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_every_kind_of_input_gives_the_same_values(dtype):
    A = gaussian(40, 30, dtype)
    for kind in KINDS:
        found = svds(KINDS[kind](A), 3, rng=0)
        assert isinstance(found.U, torch.Tensor) == answers_in_torch(kind), kind
        check(A, found)


def test_single_precision_stays_single():
    A = gaussian(900, 700, np.float32)
    found = svds(scipy.sparse.linalg.aslinearoperator(A), 3, tol=1e-5, rng=0)
    assert found.U.dtype == found.Vh.dtype == found.singular_values.dtype == np.float32
    check(A.astype(float), found, tolerance=1e-3)


def test_same_seed_same_result_bit_for_bit_and_signs_are_fixed():
    A = scipy.sparse.random_array((1500, 800), density=0.01, rng=0)
    first, second = svds(A, 4, rng=3), svds(A, 4, rng=3)
    assert np.array_equal(first.U, second.U)
    assert np.array_equal(first.Vh, second.Vh)
    assert np.all(first.Vh[range(4), np.argmax(np.abs(first.Vh), axis=1)] > 0)


def test_what_is_not_reached_is_flagged_and_warned(monkeypatch):
    monkeypatch.setattr(singular_values, "PRODUCTS_PER_PAIR", 5)
    A = gaussian(600, 600)
    with pytest.warns(ConvergenceWarning, match="svds \\(lanczos\\): .* did not reach"):
        found = svds(scipy.sparse.linalg.aslinearoperator(A), 2, which="smallest", rng=0)
    assert not found.converged.all()
    V = found.Vh.T
    assert np.allclose(
        found.residual_norms,
        np.maximum(*(np.linalg.norm(R, axis=0) for R in (A @ V - found.U * found.singular_values, A.T @ found.U - V * found.singular_values))),
    )


@pytest.mark.parametrize(
    ("A", "options", "message"),
    [
        (np.ones(3), {}, "A must have 2"),
        (np.full((3, 3), np.nan), {}, "A must be finite"),
        (scipy.sparse.csr_array(np.full((3, 3), np.nan)), {}, "A must be finite"),
        (np.ones((0, 3)), {}, "A must not be empty"),
        (scipy.sparse.csr_array((0, 3)), {}, "A must not be empty"),
        (np.ones((3, 4)), {"k": 0}, "k must be"),
        (np.ones((3, 4)), {"k": 4}, "k must be"),
        (np.ones((3, 4)), {"which": "SM"}, "which must be"),
        (np.ones((3, 4)), {"tol": -1.0}, "tol must be"),
        (np.ones((3, 4)), {"rng": -1}, "rng must be"),
    ],
)
def test_refusals(A, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        svds(A, **({"k": 2} | options))
