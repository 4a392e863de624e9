"""Randomized decompositions: exact where they should be, within Halko et al.'s bounds elsewhere, for every kind of input."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
import torch
from linalg.kinds_of_input import DTYPES, KINDS, OPERATORS, check_kind, real_of, tolerance, with_eigenvalues, with_singular_values
from specimens import Specimen

from ritz.linalg import StreamingSVD, randomized_eigh, randomized_svd

DECAY = np.arange(1, 81) ** -1.5


def matrix_argument():
    return np.random.default_rng(0).standard_normal((12, 9))


def symmetric_argument():
    return with_eigenvalues(np.arange(9.0) - 4)


def options():
    return {"k": 2, "oversampling": 3, "power_iterations": 1, "rng": 0}


SPECIMENS = {
    "randomized_svd": Specimen(randomized_svd, lambda: {"A": matrix_argument()} | options(), accepts={"rng": ("none",)}),
    "randomized_svd.auto": Specimen(
        randomized_svd,
        lambda: {"A": scipy.sparse.csr_array(matrix_argument()), "k": 2, "power_iterations": "auto"},
        accepts={"power_iterations": ("number",)},
    ),
    "randomized_eigh": Specimen(randomized_eigh, lambda: {"A": symmetric_argument()} | options(), accepts={"rng": ("none",)}),
    "StreamingSVD": Specimen(StreamingSVD, lambda: {"k": 2, "oversampling": 3, "rng": 0}, accepts={"rng": ("none",)}),
    "StreamingSVD.update": Specimen(lambda rows: StreamingSVD(2, rng=0).update(rows), lambda: {"rows": matrix_argument()}),
    "SVDApproximation": Specimen(lambda: randomized_svd(matrix_argument(), 2), dict),
    "EigenApproximation": Specimen(lambda: randomized_eigh(symmetric_argument(), 2), dict),
}


def check_triplets(A, found, kind, dtype, k):
    """Orthonormal vectors of the right kind, descending values; returns them as NumPy."""
    U, Vh = check_kind(found.U, kind, dtype), check_kind(found.Vh, kind, dtype)
    s = check_kind(found.s, kind, real_of(dtype))
    assert (U.shape, s.shape, Vh.shape) == ((A.shape[0], k), (k,), (k, A.shape[1]))
    np.testing.assert_allclose(U.conj().T @ U, np.eye(k), atol=tolerance(dtype))
    np.testing.assert_allclose(Vh @ Vh.conj().T, np.eye(k), atol=tolerance(dtype))
    assert np.all(np.diff(s) <= 0)
    return U, s, Vh


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(120, 80), (80, 120)])
def test_low_rank_matrices_are_found_whole_whatever_their_kind(kind, dtype, shape):
    values = [5.0, 3.0, 3.0, 1.0, 0.5]
    dense = with_singular_values(values, *shape, dtype)
    for power_iterations in ("auto", 0, 2):
        found = randomized_svd(KINDS[kind](dense), 7, power_iterations=power_iterations, rng=0)
        U, s, Vh = check_triplets(dense, found, kind, dtype, 7)
        np.testing.assert_allclose(s, [*values, 0, 0], atol=tolerance(dtype))
        np.testing.assert_allclose((U * s) @ Vh, dense, atol=tolerance(dtype))
        assert found.residual_norm < tolerance(dtype) * 10
        assert found.method != "exact"


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_give_the_same(kind):
    dense = with_singular_values(DECAY, 100, 80)
    expected, found = randomized_svd(dense, 5, rng=3), randomized_svd(KINDS[kind](dense), 5, rng=3)
    np.testing.assert_allclose(np.asarray(found.s), expected.s, rtol=1e-12)
    np.testing.assert_allclose(found.residual_norm, expected.residual_norm, rtol=1e-10 if kind not in OPERATORS else 0.3)


@pytest.mark.parametrize("k", [1, 4, 9])
@pytest.mark.parametrize("shape", [(12, 9), (9, 12), (9, 9), (200, 9)])
def test_small_matrices_are_decomposed_exactly(shape, k):
    A = np.random.default_rng(0).standard_normal(shape)
    found = randomized_svd(A, k, rng=0)
    U, s, Vh = check_triplets(A, found, "numpy", "float64", k)
    full = np.linalg.svd(A, full_matrices=False)
    np.testing.assert_allclose(s, full[1][:k], rtol=1e-12)
    np.testing.assert_allclose((U * s) @ Vh, (full[0][:, :k] * full[1][:k]) @ full[2][:k], atol=1e-11)
    np.testing.assert_allclose(found.residual_norm, np.linalg.norm(full[1][k:]), rtol=1e-8, atol=1e-12)
    assert found.method == "exact"


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_vectors_and_numbers(shape):
    A = np.full(shape, -2.0)
    found = randomized_svd(A, 1, rng=0)
    np.testing.assert_allclose(found.U * found.s @ found.Vh, A, atol=1e-14)


def test_the_zero_matrix():
    found = randomized_svd(np.zeros((100, 90)), 3, rng=0)
    check_triplets(np.zeros((100, 90)), found, "numpy", "float64", 3)
    assert np.array_equal(found.s, np.zeros(3))
    assert found.residual_norm == 0


def test_the_mean_error_is_within_the_bound_of_halko_martinsson_and_tropp():
    """Theorem 10.5: the mean squared Frobenius error of the range of A Omega is at most (1 + k / (p - 1)) times the tail; over 20 seeds."""
    A, k, p = with_singular_values(DECAY, 100, 80), 8, 4
    squares = [randomized_svd(A, k + p, oversampling=0, power_iterations=0, rng=seed).residual_norm ** 2 for seed in range(20)]
    bound = (1 + k / (p - 1)) * np.sum(DECAY[k:] ** 2)
    assert np.mean(squares) + 2 * np.std(squares, ddof=1) / np.sqrt(20) < bound


def test_more_power_iterations_are_more_accurate_and_auto_is_as_good_as_four():
    s = np.arange(1, 201) ** -0.5
    A = with_singular_values(s, 400, 200)
    best = np.linalg.norm(s[20:])

    def excess(power_iterations):
        return np.mean([randomized_svd(A, 20, power_iterations=power_iterations, rng=seed).residual_norm / best - 1 for seed in range(5)])

    measured = [excess(q) for q in (0, 1, 2, 4)]
    assert all(later < earlier for earlier, later in pairwise(measured))
    assert 0 <= excess("auto") <= measured[-1]


@pytest.mark.parametrize("values", [[1.0] * 20 + [0.5] * 180, [2.0] * 200, [3.0] * 10 + [2.0] * 15 + [0.1] * 175])
def test_repeated_singular_values(values):
    """A spectrum of few distinct values exhausts the Krylov space early; what it has then is exact."""
    found = randomized_svd(with_singular_values(values, 300, 200), 20, rng=0)
    assert found.method != "exact"
    np.testing.assert_allclose(found.s, values[:20], rtol=1e-10)
    np.testing.assert_allclose(found.U.T @ found.U, np.eye(20), atol=1e-10)


@pytest.mark.parametrize("power_iterations", ["auto", 0, 3])
def test_the_same_seed_gives_the_same_and_values_never_exceed_the_true_ones(power_iterations):
    A = with_singular_values(DECAY, 100, 80)
    first, second = (randomized_svd(A, 6, power_iterations=power_iterations, rng=5) for _ in range(2))
    assert all(np.array_equal(first.as_dict()[name], second.as_dict()[name]) for name in ("U", "s", "Vh", "residual_norm"))
    assert np.all(first.s <= DECAY[:6] * (1 + 1e-12))


@pytest.mark.parametrize("kind", ["numpy", "LinearOperator"])
def test_the_residual_is_that_of_the_triplets_returned(kind):
    A = with_singular_values(DECAY, 100, 80)
    found = randomized_svd(KINDS[kind](A), 5, power_iterations=0, rng=1)
    true = np.linalg.norm(A - (found.U * found.s) @ found.Vh)
    # The 10 probes of an operator: relative standard error of the square at most sqrt(2 / 10), so 3 of them are 1.34 in the square.
    np.testing.assert_allclose(found.residual_norm**2, true**2, rtol=1e-9 if kind == "numpy" else 1.34)


@pytest.mark.parametrize("shape", [(100_000, 50), (50, 100_000)])
def test_extreme_shapes(shape):
    s = np.concatenate([np.arange(30, 0, -1.0), np.zeros(20)])
    A = with_singular_values(s, *shape)
    found = randomized_svd(A, 40, power_iterations=1, rng=0)
    np.testing.assert_allclose(found.s, s[:40], atol=1e-8 * 30)
    np.testing.assert_allclose(found.U.T @ found.U, np.eye(40), atol=1e-10)
    np.testing.assert_allclose(found.Vh @ found.Vh.T, np.eye(40), atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_eigenpairs_of_every_kind(kind, dtype):
    values = np.concatenate([[-6.0, 5.0, 4.0, -4.0, 1.0], np.zeros(95)])
    dense = with_eigenvalues(values, dtype)
    for power_iterations in ("auto", 0, 1):
        found = randomized_eigh(KINDS[kind](dense), 5, power_iterations=power_iterations, rng=0)
        V, theta = check_kind(found.eigenvectors, kind, dtype), check_kind(found.eigenvalues, kind, real_of(dtype))
        np.testing.assert_allclose(np.sort(theta), np.sort(values[:5]), atol=tolerance(dtype) * 10)
        assert np.all(np.diff(np.abs(theta)) <= tolerance(dtype))
        np.testing.assert_allclose(V.conj().T @ V, np.eye(5), atol=tolerance(dtype))
        np.testing.assert_allclose((V * theta) @ V.conj().T, dense, atol=tolerance(dtype) * 10)
        assert found.residual_norm < tolerance(dtype) * 100


def test_eigenpairs_need_no_adjoint_and_their_residual_is_exact():
    A = with_eigenvalues(np.concatenate([[9.0, -7.0], np.cos(np.arange(98))]))
    operator = scipy.sparse.linalg.LinearOperator((100, 100), matvec=lambda x: A @ x, dtype=np.float64)
    np.testing.assert_allclose(randomized_eigh(operator, 2, rng=0).eigenvalues, [9.0, -7.0], rtol=1e-6)
    found = randomized_eigh(A, 2, rng=0)
    true = np.linalg.norm(A - (found.eigenvectors * found.eigenvalues) @ found.eigenvectors.T)
    np.testing.assert_allclose(found.residual_norm, true, rtol=1e-9)
    with pytest.raises(TypeError, match="A must be an operator that defines rmatmat"):
        randomized_svd(operator, 2)


@pytest.mark.parametrize("kind", ["numpy", "fortran", "csr_array", "torch", "torch sparse csr"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stream_of_rows_equals_the_whole(kind, dtype):
    dense = with_singular_values([5.0, 3.0, 2.0, 1.0], 60, 30, dtype)
    stream = StreamingSVD(5, oversampling=4, rng=0)
    for rows in np.split(dense, [1, 7, 40]):
        stream.update(KINDS[kind](rows))
    found = stream.result()
    U, s, Vh = check_triplets(dense, found, kind, dtype, 5)
    loose = 2e-3 if real_of(dtype) == "float32" else 1e-7  # the squares in H cost half the digits
    np.testing.assert_allclose(s, [5, 3, 2, 1, 0], atol=loose)
    np.testing.assert_allclose((U * s) @ Vh, dense, atol=loose)
    assert found.residual_norm <= 10 * np.sqrt(np.finfo(dense.dtype).eps) * np.linalg.norm(dense)


def test_the_blocks_do_not_matter_and_the_error_is_that_of_one_pass():
    A = with_singular_values(DECAY, 100, 80)
    results = []
    for cuts in ([], [50], list(range(1, 100))):
        stream = StreamingSVD(8, oversampling=6, rng=2)
        for rows in np.split(A, cuts):
            stream.update(rows)
        results.append(stream.result())
    for other in results[1:]:
        np.testing.assert_allclose(other.s, results[0].s, rtol=1e-10)
    found = results[0]
    np.testing.assert_allclose(found.residual_norm, np.linalg.norm(A - (found.U * found.s) @ found.Vh), rtol=1e-8)
    omega = np.random.default_rng(2).standard_normal((80, 14))
    Q = np.linalg.qr(A @ omega)[0]
    np.testing.assert_allclose(found.s, np.linalg.svd(Q.T @ A, compute_uv=False)[:8], rtol=1e-9)


def test_a_stream_goes_on_after_a_result_and_after_a_refusal():
    A = with_singular_values(DECAY, 100, 80)
    stream = StreamingSVD(3, rng=0).update(A[:50])
    half = stream.result()
    for bad, error in ((np.ones((2, 79)), ValueError), (np.ones((2, 80), dtype=np.float32), TypeError), (torch.ones(2, 80), TypeError)):
        with pytest.raises(error, match="rows must"):
            stream.update(bad)
    with pytest.raises(TypeError, match="rows must be an explicit matrix"):
        stream.update(scipy.sparse.linalg.aslinearoperator(A))
    assert np.array_equal(stream.result().s, half.s)
    assert stream.update(A[50:]).result().U.shape == (100, 3)


def test_streams_too_short_or_too_narrow_are_refused():
    with pytest.raises(ValueError, match="rows must be at least k"):
        StreamingSVD(3).result()
    with pytest.raises(ValueError, match="rows must be at least k"):
        StreamingSVD(3).update(np.ones((2, 5))).result()
    with pytest.raises(ValueError, match="rows must have at least k"):
        StreamingSVD(3).update(np.ones((5, 2)))


@pytest.mark.parametrize("call", [randomized_svd, randomized_eigh])
def test_options_out_of_range_are_refused(call):
    A = np.eye(6)
    for k in (0, 7):
        with pytest.raises(ValueError, match="k must be"):
            call(A, k)
    with pytest.raises(ValueError, match="oversampling must be"):
        call(A, 2, oversampling=-1)
    with pytest.raises(ValueError, match="power_iterations must be"):
        call(A, 2, power_iterations=-1)
    with pytest.raises(ValueError, match="power_iterations must be 'auto'"):
        call(A, 2, power_iterations="many")
