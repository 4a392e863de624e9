"""Orthogonal matrices by name: orthogonal, the same in every process, unlike each other."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.linalg import OrthogonalFamily

KINDS = ("hadamard", "haar", "householder")
SPECIMENS = {"OrthogonalFamily": Specimen(OrthogonalFamily, lambda: {"D": 16, "kind": "hadamard", "seed": 0})}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("D", [1, 2, 64, 512])
def test_a_matrix_is_orthogonal_and_its_transpose_its_inverse(kind, D):
    Q = OrthogonalFamily(D, kind, seed=1)["key"]
    matrix = Q.toarray()
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(D), atol=1e-12)
    np.testing.assert_allclose(Q.T.toarray(), matrix.T, atol=1e-12)
    np.testing.assert_allclose(Q.T.T.toarray(), matrix, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_norms_and_angles_are_kept_at_any_depth(kind):
    family, rng = OrthogonalFamily(256, kind), np.random.default_rng(0)
    before = rng.standard_normal((256, 3))
    after = before
    for depth in range(64):
        after = family[f"key {depth}"] @ after
    np.testing.assert_allclose(after.T @ after, before.T @ before, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_different_keys_and_seeds_and_powers_are_unlike(kind):
    D = 1024
    family = OrthogonalFamily(D, kind, seed=2)
    a, b, c = family["a"].toarray(), family["b"].toarray(), OrthogonalFamily(D, kind, seed=3)["a"].toarray()
    for left, right in ((a, b), (a, c), (a, np.eye(D)), (a, a.T), (a @ b, b @ a)):
        assert abs(np.sum(left * right)) / D <= 5 / D**0.5


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_draws_the_same_matrix(kind):
    code = f"import sys; from ritz.linalg import OrthogonalFamily as F; sys.stdout.buffer.write(F(64, '{kind}', 7)['ключ'].toarray().tobytes())"
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment).stdout
        assert found == OrthogonalFamily(64, kind, 7)["ключ"].toarray().tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_is_multiplied(kind):
    Q, rng = OrthogonalFamily(32, kind)["a"], np.random.default_rng(0)
    matrix, X = Q.toarray(), rng.standard_normal((32, 70))
    for x in (X, np.asfortranarray(X), X[:, ::3], X[:, 0], X + 1j * X[:, ::-1], np.stack([X, 2 * X]), np.ones((32, 2), np.int64), X[:, :0]):
        np.testing.assert_allclose(Q @ x, matrix @ x, atol=1e-12)
        np.testing.assert_allclose(Q.T @ x, matrix.T @ x, atol=1e-12)
    single = Q @ X.astype(np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, matrix @ X, atol=1e-5)
    tensor = Q @ torch.from_numpy(X)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), matrix @ X, atol=1e-12)
    np.testing.assert_allclose((Q @ Q.T) @ X, X, atol=1e-12)
    np.testing.assert_allclose(Q.rmatvec(X[:, 0]), matrix.T @ X[:, 0], atol=1e-12)


def test_text_and_its_bytes_are_one_key_and_forgotten_matrices_come_back(monkeypatch):
    family = OrthogonalFamily(16)
    x = np.arange(16.0)
    first = family["a"] @ x
    np.testing.assert_array_equal(family[b"a"] @ x, first)
    monkeypatch.setitem(sys.modules["ritz.linalg.orthogonal_families"].KEPT, "hadamard", 2)
    for key in "bcd":
        family[key]
    assert b"a" not in family._kept
    np.testing.assert_array_equal(family["a"] @ x, first)


def test_refusals():
    with pytest.raises(ValueError, match="D must be a power of two"):
        OrthogonalFamily(12)
    with pytest.raises(TypeError, match="key must be text or bytes, got int"):
        OrthogonalFamily(8)[3]
    with pytest.raises(ValueError, match="x must have shape"):
        OrthogonalFamily(8)["a"] @ np.ones(4)
    assert OrthogonalFamily(12, "haar")["a"].shape == (12, 12)
