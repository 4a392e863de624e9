"""Random sketches: unbiased, adjoint to their transposes, equal to their matrices, for all kinds of input."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch
from linalg.kinds_of_input import DTYPES, KINDS, answers_in_torch, tolerance
from specimens import Specimen

import ritz.linalg.sketch_operators
import ritz.linalg.sketches
from ritz.core import to_numpy
from ritz.linalg import TensorSRCT, countsketch, gaussian_sketch, sparse_sign, srct, srht

SIZES = {"m": 6, "n": 9, "rng": 0}
SPECIMENS = {
    "srht": Specimen(srht, lambda: SIZES | {"replace": True}, accepts={"rng": ("none",)}),
    "srct": Specimen(srct, lambda: SIZES, accepts={"rng": ("none",)}),
    "gaussian_sketch": Specimen(gaussian_sketch, lambda: SIZES, accepts={"rng": ("none",)}),
    "countsketch": Specimen(countsketch, lambda: SIZES, accepts={"rng": ("none",)}),
    "sparse_sign": Specimen(sparse_sign, lambda: SIZES | {"nnz": 3}, accepts={"rng": ("none",)}),
}
FAMILIES = {
    "srht": srht,
    "srht without replacement": lambda m, n, rng: srht(m, n, rng, replace=False),
    "srct": srct,
    "gaussian": gaussian_sketch,
    "countsketch": countsketch,
    "sparse sign": lambda m, n, rng: sparse_sign(m, n, 4, rng),
    "tensor": lambda m, n, rng: TensorSRCT(m, (2, n // 2), rng),
}
DENSE_KINDS = [kind for kind in KINDS if kind != "LinearOperator" and "structured" not in kind]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_of_the_gram_matrix_is_the_identity(family):
    rng = np.random.default_rng(1)
    grams = np.stack([(S := FAMILIES[family](8, 16, rng).toarray()).T @ S for _ in range(2000)])
    error = np.abs(grams.mean(axis=0) - np.eye(16))
    assert np.all(error <= 5 * grams.std(axis=0) / np.sqrt(2000) + 1e-12)


@pytest.mark.parametrize("n", [1, 16, 64])
def test_all_rows_of_the_hadamard_transform_are_orthonormal(n):
    S = srht(n, n, rng=0, replace=False).toarray()
    np.testing.assert_allclose(S.T @ S, np.eye(n), atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 7, 12, 31])
def test_the_circulant_sketch_is_its_matrix(n):
    S = srct(5, n, rng=3)
    generator = np.fft.ifft(S.spectrum).real
    assert np.allclose(abs(generator), 1)
    explicit = (scipy.linalg.circulant(generator) * S.signs)[S.rows] / np.sqrt(5)
    np.testing.assert_allclose(S.toarray(), explicit, atol=1e-12)


def test_the_hadamard_sketch_is_its_matrix():
    S = srht(5, 11, rng=3)
    explicit = (scipy.linalg.hadamard(16)[:, :11] * S.signs)[S.rows] / np.sqrt(5)
    np.testing.assert_allclose(S.toarray(), explicit, atol=1e-12)


@pytest.mark.parametrize(("m", "nnz"), [(8, 8), (8, 3), (50, 1)])
def test_sparse_columns_have_distinct_rows_and_unit_norm(m, nnz):
    S = sparse_sign(m, 200, nnz, rng=0).toarray()
    assert np.all((S != 0).sum(axis=0) == nnz)
    np.testing.assert_allclose(np.linalg.norm(S, axis=0), 1)
    counts = (S != 0).sum(axis=1)
    expected = 200 * nnz / m
    assert np.all(np.abs(counts - expected) <= 5 * np.sqrt(expected))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_transpose_is_the_adjoint(family, dtype):
    rng = np.random.default_rng(2)
    S = FAMILIES[family](7, 12, rng)
    x, y = (rng.standard_normal((size, 2)) @ [1, 1j if dtype.startswith("complex") else 0] for size in (12, 7))
    x, y = (vector.astype(dtype) if dtype.startswith("complex") else vector.real.astype(dtype) for vector in (x, y))
    for kind in (np.asarray, torch.from_numpy):
        image, back = S @ kind(x), S.T @ kind(y)
        assert image.dtype == kind(x).dtype == back.dtype
        np.testing.assert_allclose(np.vdot(y, to_numpy(image)), np.vdot(to_numpy(back), x), rtol=0, atol=10 * tolerance(dtype))
    np.testing.assert_allclose(S.T.toarray(), S.toarray().T, atol=1e-13)
    assert S.T.T is S


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", DENSE_KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_seed_is_one_matrix_for_every_kind_of_input(family, kind, dtype):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((12, 5)) * (rng.random((12, 5)) < 0.6)
    X = (X + 1j * rng.standard_normal((12, 5)) if dtype.startswith("complex") else X).astype(dtype)
    S = FAMILIES[family](7, 12, 5)
    found = S @ KINDS[kind](X)
    assert isinstance(found, torch.Tensor if answers_in_torch(kind) else np.ndarray)
    assert str(found.dtype).removeprefix("torch.") == dtype
    np.testing.assert_allclose(to_numpy(found), FAMILIES[family](7, 12, 5).toarray() @ X, atol=tolerance(dtype))
    np.testing.assert_allclose(to_numpy(S.T @ KINDS[kind](X[:7])), S.toarray().T @ X[:7], atol=tolerance(dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_change_nothing(family, monkeypatch):
    X = np.random.default_rng(0).standard_normal((3, 12, 5))
    whole = FAMILIES[family](7, 12, 5) @ X
    np.testing.assert_allclose(whole[1], FAMILIES[family](7, 12, 5).toarray() @ X[1], atol=1e-12)
    for module in (ritz.linalg.sketch_operators, ritz.linalg.sketches):
        monkeypatch.setattr(module, "BLOCK_ENTRIES", 24)
    if family != "gaussian":  # whose blocks are what is drawn
        np.testing.assert_allclose(FAMILIES[family](7, 12, 5) @ X, whole, atol=1e-12)
    S = FAMILIES[family](7, 12, 5)
    np.testing.assert_allclose(S @ scipy.sparse.csr_array(X[0]), S.toarray() @ X[0], atol=1e-12)
    np.testing.assert_allclose(S.T @ X[0, :7], S.toarray().T @ X[0, :7], atol=1e-12)


def test_sketches_compose_with_other_operators():
    S, T = srht(6, 10, rng=0), gaussian_sketch(4, 6, rng=1)
    np.testing.assert_allclose((T @ S).toarray(), T.toarray() @ S.toarray(), atol=1e-12)
    np.testing.assert_allclose((2 * S + S).toarray(), 3 * S.toarray(), atol=1e-12)
    np.testing.assert_allclose((T @ S).T.toarray(), (T.toarray() @ S.toarray()).T, atol=1e-12)
    np.testing.assert_allclose(scipy.sparse.linalg.aslinearoperator(S).rmatvec(np.ones(6)), S.toarray().T @ np.ones(6), atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_redrawn_sketch_is_another_of_its_kind(family):
    S = FAMILIES[family](7, 12, 5)
    other, again = (S.redraw(np.random.default_rng(8)) for _ in range(2))
    assert type(other) is type(S)
    assert other.shape == S.shape
    assert np.array_equal(other.toarray(), again.toarray())
    assert not np.array_equal(other.toarray(), S.toarray())


def test_refusals():
    with pytest.raises(ValueError, match="m must be"):
        srct(0, 3)
    with pytest.raises(ValueError, match="nnz must be an integer of at least 1 and at most 4"):
        sparse_sign(4, 10, nnz=5)
    with pytest.raises(ValueError, match="m must be at most 16"):
        srht(17, 9, replace=False)
    for S in (srht(4, 8, rng=0), srht(4, 8, rng=0).T.T):
        with pytest.raises(ValueError, match="x must have shape"):
            S @ np.ones(7)
    with pytest.raises(TypeError, match="x must have one of the dtypes"):
        srht(4, 8, rng=0) @ np.ones(8, dtype=np.float16)
    assert (srht(4, 8, rng=0) @ np.ones(8, dtype=int)).dtype == np.float64
