"""Bit planes: the exact product for all widths and odd shapes, round trips, signed operands, refusals."""

import itertools

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.linalg import BipolarTensor, bipolar_matmul, quantize_bipolar
from ritz.linalg.bipolar import pack, words

RNG = np.random.default_rng(0)


def odd(rows, K, bits):
    return 2 * RNG.integers(0, 2**bits, (rows, K)) - (2**bits - 1)


def signed(rows, K, bits):
    return RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (rows, K))


W, X = BipolarTensor.from_int(odd(5, 70, 2), 2), BipolarTensor.from_int(odd(3, 70, 4), 4)

SPECIMENS = {
    "BipolarTensor": Specimen(
        BipolarTensor, lambda: {"packed": np.zeros((2, 1, 1), np.uint64), "bits": 1, "K": 5}, spare=frozenset({"packed"})
    ),
    "BipolarTensor.from_int": Specimen(BipolarTensor.from_int, lambda: {"values": odd(3, 5, 2), "bits": 2}),
    "BipolarTensor.from_signed": Specimen(BipolarTensor.from_signed, lambda: {"values": signed(3, 5, 2), "bits": 2}),
    "bipolar_matmul": Specimen(
        bipolar_matmul, lambda: {"W": W, "X": X, "out_dtype": "float32", "threads": 1}, spare=frozenset({"W", "X"}), accepts={"threads": ("none",)}
    ),
}  # fmt: skip


def and_form(W, X):
    """The product from conjunctions: 4 popcount(w & x) - 2 popcount(w) - 2 popcount(x) + K for each pair of planes."""
    total = np.zeros((W.shape[0], X.shape[0]), np.int64)
    w, x = words(W), words(X)
    counts = [np.bitwise_count(planes).sum(axis=2, dtype=np.int64) for planes in (w, x)]
    for i, j in itertools.product(range(W.bits), range(X.bits)):
        both = np.bitwise_count(w[:, None, i] & x[None, :, j]).sum(axis=2, dtype=np.int64)
        total += (4 * both - 2 * counts[0][:, i, None] - 2 * counts[1][:, j] + W.K) << (i + j)
    return total


@pytest.mark.parametrize("widths", list(itertools.product(range(1, 9), range(1, 9))), ids=str)
def test_the_product_is_exact_for_all_widths_and_is_the_and_form(widths):
    for M, N, K in ((7, 5, 130), (1, 1, 1), (4, 3, 64)):
        w, x = odd(M, K, widths[0]), odd(N, K, widths[1])
        W, X = BipolarTensor.from_int(w, widths[0]), BipolarTensor.from_int(x, widths[1])
        np.testing.assert_array_equal(bipolar_matmul(W, X), w @ x.T)
        np.testing.assert_array_equal(and_form(W, X), w @ x.T)


@pytest.mark.parametrize("K", [1, 63, 64, 65, 4097])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 9), (6, 70), (130, 67)])
def test_the_product_is_exact_for_odd_shapes(K, shape):
    w, x = odd(shape[0], K, 3), odd(shape[1], K, 2)
    np.testing.assert_array_equal(bipolar_matmul(BipolarTensor.from_int(w, 3), BipolarTensor.from_int(x, 2)), w @ x.T)


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_extreme_codes(bits):
    largest = 2**bits - 1
    for first, second in itertools.product((-largest, largest), repeat=2):
        W, X = (BipolarTensor.from_int(np.full((3, 100), value), bits) for value in (first, second))
        assert np.all(bipolar_matmul(W, X) == 100 * first * second)


def test_views_and_other_orders():
    wide = odd(20, 300, 3)
    for view in (wide[::2, ::3], wide[:, ::-1], np.asfortranarray(wide), wide.T):
        tensor = BipolarTensor.from_int(view, 3)
        np.testing.assert_array_equal(tensor.to_int(), view)
        np.testing.assert_array_equal(bipolar_matmul(tensor, tensor), view @ view.T)


@pytest.mark.parametrize("bits", range(1, 9))
def test_round_trips_and_representable_values(bits):
    levels = np.arange(-(2**bits - 1), 2**bits, 2)
    tensor = BipolarTensor.from_int(levels[None], bits)
    np.testing.assert_array_equal(tensor.to_int()[0], levels)
    codes = np.arange(2**bits, dtype=np.uint8)[None]
    np.testing.assert_array_equal(pack(codes, bits).to_int()[0], levels)
    v = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))[None]
    np.testing.assert_array_equal(BipolarTensor.from_signed(v, bits).to_signed(), v)
    np.testing.assert_array_equal(BipolarTensor.from_signed(v, bits).to_int(), 2 * v + 1)


def test_signed_products_of_all_pairs_of_four_bits_and_of_random_bytes():
    pairs = np.array(list(itertools.product(range(-8, 8), repeat=2)))
    W, X = (BipolarTensor.from_signed(pairs[:, side, None], 4) for side in (0, 1))
    np.testing.assert_array_equal(W.signed_matmul(X), pairs[:, :1] @ pairs[:, 1:].T)
    w, x = signed(9, 333, 8), signed(11, 333, 8)
    np.testing.assert_array_equal(BipolarTensor.from_signed(w, 8).signed_matmul(BipolarTensor.from_signed(x, 8)), w @ x.T)
    np.testing.assert_array_equal(BipolarTensor.from_signed(w, 8).row_sums(), (2 * w + 1).sum(axis=1))


@pytest.mark.parametrize(("bits", "rows", "K"), [(1, 3, 64), (3, 5, 65), (8, 2, 1)])
def test_bytes_and_planes(bits, rows, K):
    x = odd(rows, K, bits)
    tensor = BipolarTensor.from_int(x, bits)
    assert tensor.nbytes == bits * rows * 8 * -(-K // 64)
    assert tensor.planes.shape == (bits, rows, -(-K // 64))
    ones = np.unpackbits(np.ascontiguousarray(tensor.planes).view(np.uint8), axis=2, bitorder="little").astype(int)
    np.testing.assert_array_equal(sum((2 * ones[i, :, :K] - 1) * 2**i for i in range(bits)), x)
    assert not ones[:, :, K:].any()


def test_a_product_too_large_for_32_bits_is_wide():
    K = 2**31 // 255**2 + 1
    W, X = (BipolarTensor.from_int(np.full((1, K), sign * 255), 8) for sign in (1, -1))
    found = bipolar_matmul(W, X)
    assert found.dtype == np.int64
    assert found[0, 0] == -K * 255**2
    assert bipolar_matmul(BipolarTensor.from_int(odd(1, 9, 8), 8), BipolarTensor.from_int(odd(1, 9, 8), 8)).dtype == np.int32


def test_threads_change_nothing():
    w, x = odd(333, 200, 2), odd(70, 200, 3)
    W, X = BipolarTensor.from_int(w, 2), BipolarTensor.from_int(x, 3)
    one, two = (bipolar_matmul(W, X, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(two, w @ x.T)


def test_scales_of_rows_and_of_groups():
    A, B = RNG.standard_normal((6, 256)), RNG.standard_normal((4, 256))
    for groups in ((None, None), (64, None), (128, 128), (None, 64)):
        W, X = (quantize_bipolar(matrix, 3, group_size=size)[0] for matrix, size in zip((A, B), groups))
        np.testing.assert_allclose(bipolar_matmul(W, X, out_dtype="float32"), W.dequantize() @ X.dequantize().T, rtol=1e-5, atol=1e-5)
    plain = bipolar_matmul(BipolarTensor.from_int(odd(2, 5, 2), 2), BipolarTensor.from_int(odd(2, 5, 2), 2), out_dtype="float32")
    assert plain.dtype == np.float32


def test_tensors_give_tensors():
    w, x = torch.from_numpy(odd(3, 80, 2)), torch.from_numpy(odd(2, 80, 3))
    W, X = BipolarTensor.from_int(w, 2), BipolarTensor.from_int(x, 3)
    assert torch.equal(bipolar_matmul(W, X).long(), w @ x.T)
    assert torch.equal(W.to_int(), w)
    with pytest.raises(TypeError, match="X must be of the kind"):
        bipolar_matmul(W, BipolarTensor.from_int(x.numpy(), 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BipolarTensor.from_int([[0, 1]], 2), "values must be odd"),
        (lambda: BipolarTensor.from_int([[5, 1]], 2), "values must be from -3 to 3"),
        (lambda: BipolarTensor.from_int([[1]], 0), "bits must be"),
        (lambda: BipolarTensor.from_int([[1]], 9), "bits must be"),
        (lambda: BipolarTensor.from_signed([[2]], 2), "values must be from -2 to 1"),
        (lambda: BipolarTensor.from_int(np.ones((0, 3), int), 2), "values must be a matrix that is not empty"),
        (lambda: bipolar_matmul(W, BipolarTensor.from_int(odd(2, 71, 2), 2)), "X must have as many columns as W, 70, got 71"),
        (lambda: bipolar_matmul(*(quantize_bipolar(np.eye(90), 2, group_size=45)[0],) * 2, out_dtype="float32"), "groups of a multiple of 64"),
        (lambda: BipolarTensor(np.zeros((2, 2, 1), np.uint64), 1, 5), "packed must have shape"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_types_are_refused():
    with pytest.raises(TypeError, match="values must be an array of integers"):
        BipolarTensor.from_int([[1.0, np.nan]], 2)
    with pytest.raises(TypeError, match="W must be a BipolarTensor"):
        bipolar_matmul(np.eye(2), X)
