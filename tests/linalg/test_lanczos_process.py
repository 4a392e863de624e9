"""The Lanczos process: its recurrence, orthogonality, and exhausted spaces."""

import numpy as np
import pytest
from linalg.kinds_of_input import KINDS, with_eigenvalues

from ritz.core import to_numpy
from ritz.linalg.lanczos_process import Lanczos
from ritz.linalg.products import as_products


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_recurrence_holds_for_every_column(kind, dtype):
    dense = with_eigenvalues(np.linspace(-2, 5, 30), dtype)
    A = as_products(KINDS[kind](dense))
    process = Lanczos(A, A.gaussian(np.random.default_rng(0), 30, 3))
    for _ in range(8):
        process.advance()
    T = to_numpy(process.tridiagonal())
    basis = np.stack([to_numpy(q) for q in process.basis])
    for column in range(3):
        Q = basis[:, :, column].T
        np.testing.assert_allclose(Q.conj().T @ Q, np.eye(9), atol=1e-13)
        np.testing.assert_allclose(Q[:, :8].conj().T @ dense @ Q[:, :8], T[column], atol=1e-12)


def test_exhausted_columns_are_decoupled_and_the_others_go_on():
    A = as_products(np.diag([1.0, 2.0, 3.0, 4.0]))
    start = np.stack([np.eye(4)[0], np.array([1.0, 1.0, 0, 0]), np.ones(4)], axis=1)
    process = Lanczos(A, start)
    for _ in range(4):
        assert not process.exhausted
        process.advance()
    assert process.exhausted
    T = process.tridiagonal()
    np.testing.assert_allclose(T[0], np.eye(4), atol=1e-14)
    np.testing.assert_allclose(np.linalg.eigvalsh(T[1]), [1, 1.5, 1.5, 2], atol=1e-14)
    np.testing.assert_allclose(np.linalg.eigvalsh(T[2]), [1, 2, 3, 4], atol=1e-13)
    combined = process.combine(np.array([[2.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 0]]))
    np.testing.assert_allclose(combined, np.stack([2 * np.eye(4)[0], start[:, 1] / np.sqrt(2), np.zeros(4)], axis=1))
