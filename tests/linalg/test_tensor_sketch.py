"""The sketch of Kronecker products equals the explicit one."""

import numpy as np
import pytest
import scipy.linalg
import torch
from specimens import Specimen

from ritz.linalg import KroneckerOperator, TensorSRCT

SPECIMENS = {
    "TensorSRCT": Specimen(TensorSRCT, lambda: {"m": 5, "shape": (4, 3), "rng": 0}, accepts={"rng": ("none",)}),
    "TensorSRCT.kron": Specimen(TensorSRCT(5, (4, 3), rng=0).kron, lambda: {"x1": np.arange(4.0), "x2": np.ones(3)}),
}


@pytest.mark.parametrize("sizes", [(4, 3), (1, 5), (8, 8)])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_it_is_the_explicit_kronecker_sketch(sizes, kind, dtype):
    rng = np.random.default_rng(0)
    S = TensorSRCT(9, sizes, rng)
    left, right = (scipy.linalg.circulant(np.fft.ifft(spectrum).real) * signs for spectrum, signs in zip(S.spectra, S.signs))
    explicit = np.kron(left, right)[S.rows[0] * sizes[1] + S.rows[1]] / 3
    np.testing.assert_allclose(S.toarray(), explicit, atol=1e-12)
    A, B = (rng.standard_normal((n, k)).astype(dtype) for n, k in zip(sizes, (2, 3)))
    expected = explicit @ np.kron(A, B)
    np.testing.assert_allclose(np.asarray(S.kron(kind(A), kind(B))), expected, atol=1e-12)
    np.testing.assert_allclose(np.asarray(S @ KroneckerOperator(kind(A), kind(B))), expected, atol=1e-12)
    np.testing.assert_allclose(np.asarray(S @ kind(np.kron(A, B))), expected, atol=1e-12)
    np.testing.assert_allclose(np.asarray(S.kron(kind(A[:, 0]), kind(B[:, 0]))), expected[:, 0], atol=1e-12)


def test_refusals():
    S = TensorSRCT(5, (4, 3), rng=0)
    with pytest.raises(ValueError, match="x1 must have 4 rows"):
        S.kron(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="x2 must be a vector or a matrix as x1 is"):
        S.kron(np.ones(4), np.ones((3, 1)))
    with pytest.raises(TypeError, match="shape must be a pair"):
        TensorSRCT(5, 12)
