"""The tiled product is the product, whatever the tiles."""

import itertools

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.linalg import tiled_matmul

RNG = np.random.default_rng(0)
SPECIMENS = {
    "tiled_matmul": Specimen(tiled_matmul, lambda: {"A": np.ones((3, 4)), "B": np.ones((4, 2)), "tiles": (2, 2, 2)}, spare=frozenset({"tiles"}))
}
SHAPES = [(1, 1, 1), (7, 13, 11), (64, 64, 64), (97, 53, 101), (5, 200, 3), (33, 1, 70)]
TILES = [(1, 1, 1), (8, 8, 8), (16, 64, 256), (500, 500, 500), (3, 17, 5), (64, 256, 64)]


@pytest.mark.parametrize(("shape", "tiles"), list(itertools.product(SHAPES, TILES)))
def test_it_is_the_product(shape, tiles):
    m, n, k = shape
    A, B = RNG.standard_normal((m, k)), RNG.standard_normal((k, n))
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        a, b = A.astype(dtype), B.astype(dtype)
        found = tiled_matmul(a, b, tiles=tiles)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, A @ B, rtol=0, atol=tolerance * (np.abs(A) @ np.abs(B)).max())


def test_nothing_to_add_up_is_zero_and_views_and_torch_are_taken():
    assert not tiled_matmul(np.ones((3, 0)), np.ones((0, 2))).any()
    assert tiled_matmul(np.ones((0, 3)), np.ones((3, 2))).shape == (0, 2)
    A, B = RNG.standard_normal((9, 8)), RNG.standard_normal((5, 8))
    np.testing.assert_allclose(tiled_matmul(A[::2], B.T), A[::2] @ B.T, atol=1e-12)
    found = tiled_matmul(torch.from_numpy(A), torch.from_numpy(B.T.copy()), tiles=(4, 4, 4))
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found.numpy(), A @ B.T, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("tiles", [(16, 16, 16), (64, 128, 32)])
def test_on_a_gpu(tiles):
    A, B = torch.randn(130, 70, device="cuda"), torch.randn(70, 50, device="cuda")
    torch.testing.assert_close(tiled_matmul(A, B, tiles=tiles), (A.double() @ B.double()).float(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="powers of two"):
        tiled_matmul(A, B, tiles=(8, 16, 16))


@pytest.mark.parametrize(
    ("A", "B", "tiles", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), (1, 1, 1), "B must have 3 rows"),
        (np.ones((2, 2)), np.ones((2, 2), dtype=np.float32), (1, 1, 1), "B must be of the kind and dtype"),
        (np.ones((2, 2)), torch.ones(2, 2, dtype=torch.float64), (1, 1, 1), "B must be of the kind and dtype"),
        (np.ones((2, 2), dtype=np.float16), np.ones((2, 2), dtype=np.float16), (1, 1, 1), "float32 or float64"),
        (np.ones((2, 2)), np.ones((2, 2)), (1, 1), "tiles must be three sizes"),
        (np.ones((2, 2)), np.ones((2, 2)), (1, 0, 1), r"tiles\[1\] must be"),
        (np.ones((2, 2)), np.ones((2, 2)), 4, "tiles must be three sizes"),
    ],
)
def test_refusals(A, B, tiles, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tiled_matmul(A, B, tiles=tiles)
