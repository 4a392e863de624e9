"""Structured operators equal their dense matrices, in every product, transpose, sum and solve."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg
import torch
from linalg.kinds_of_input import assert_near, draw
from specimens import Specimen

from ritz.linalg import (
    BlockDiagonalOperator,
    DiagonalOperator,
    DiagonalPlusLowRankOperator,
    KroneckerOperator,
    LowRankOperator,
    OperatorSum,
    ScaledOperator,
)

RNG = np.random.default_rng(0)


def dense_and_structured(name: str, dtype, kind):
    """A structured operator and the NumPy matrix that it stands for."""
    draws = {
        "d": (6,),
        "U": (6, 2),
        "V": (6, 2),
        "W": (4, 2),
        "blocks": (3, 2, 2),
        "tall": (2, 4, 3),
        "A": (3, 3),
        "B": (2, 2),
        "C": (2, 3),
        "D": (4, 2),
    }
    x = {key: draw(RNG, *shape, dtype=dtype) for key, shape in draws.items()}
    x["A"], x["B"], x["blocks"] = x["A"] + 3 * np.eye(3, dtype=dtype), x["B"] + 3 * np.eye(2, dtype=dtype), x["blocks"] + 3 * np.eye(2, dtype=dtype)
    x["d"] = x["d"] + np.sign(x["d"].real)
    k = {key: kind(value) for key, value in x.items()}
    D, UVt = np.diag(x["d"]), x["U"] @ x["V"].T
    kron = KroneckerOperator(k["A"], k["B"])
    return {
        "diagonal": lambda: (DiagonalOperator(k["d"]), D),
        "low rank": lambda: (LowRankOperator(k["W"], k["U"]), x["W"] @ x["U"].T),
        "diagonal plus low rank": lambda: (DiagonalPlusLowRankOperator(k["d"], k["U"], k["V"]), D + UVt),
        "block diagonal": lambda: (BlockDiagonalOperator(k["blocks"]), scipy.linalg.block_diag(*x["blocks"])),
        "tall blocks": lambda: (BlockDiagonalOperator(k["tall"]), scipy.linalg.block_diag(*x["tall"])),
        "kronecker": lambda: (kron, np.kron(x["A"], x["B"])),
        "rectangular kronecker": lambda: (KroneckerOperator(k["C"], k["D"]), np.kron(x["C"], x["D"])),
        "sum": lambda: (kron + LowRankOperator(k["U"], k["V"]) + DiagonalOperator(k["d"]), np.kron(x["A"], x["B"]) + UVt + D),
        "difference": lambda: (kron - DiagonalOperator(k["d"]), np.kron(x["A"], x["B"]) - D),
        "product": lambda: (kron @ LowRankOperator(k["U"], k["V"]) @ kron.H, np.kron(x["A"], x["B"]) @ UVt @ np.kron(x["A"], x["B"]).conj().T),
        "scaled": lambda: (kron * 2.5, 2.5 * np.kron(x["A"], x["B"])),
        "scaled from the left": lambda: (-2 * kron / 4, -0.5 * np.kron(x["A"], x["B"])),
    }[name]()


NAMES = [
    "diagonal", "low rank", "diagonal plus low rank", "block diagonal", "tall blocks", "kronecker", "rectangular kronecker", "sum", "difference",
    "product", "scaled", "scaled from the left",
]  # fmt: skip
SOLVABLE = ["diagonal", "diagonal plus low rank", "block diagonal", "kronecker"]
BATCHED = ("more dimensions",)  # leading dimensions are batches

SPECIMENS = {
    "DiagonalOperator": Specimen(DiagonalOperator, lambda: {"diagonal": np.arange(1.0, 4)}, accepts={"diagonal": BATCHED}),
    "DiagonalOperator.solve": Specimen(DiagonalOperator(np.arange(1.0, 4)).solve, lambda: {"b": np.ones((3, 2))}, accepts={"b": BATCHED}),
    "LowRankOperator": Specimen(
        LowRankOperator, lambda: {"U": RNG.standard_normal((4, 2)), "V": RNG.standard_normal((3, 2))}, accepts=dict.fromkeys("UV", BATCHED)
    ),
    "DiagonalPlusLowRankOperator": Specimen(
        DiagonalPlusLowRankOperator,
        lambda: {"diagonal": np.arange(1.0, 4), "U": RNG.standard_normal((3, 2)), "V": RNG.standard_normal((3, 2))},
        accepts=dict.fromkeys(("diagonal", "U", "V"), BATCHED),
    ),
    "DiagonalPlusLowRankOperator.solve": Specimen(
        DiagonalPlusLowRankOperator(np.arange(1.0, 4), np.ones((3, 1)), np.ones((3, 1))).solve, lambda: {"b": np.ones((3, 2))}, accepts={"b": BATCHED}
    ),
    "BlockDiagonalOperator": Specimen(BlockDiagonalOperator, lambda: {"blocks": RNG.standard_normal((2, 3, 4))}, accepts={"blocks": BATCHED}),
    "BlockDiagonalOperator.solve": Specimen(
        BlockDiagonalOperator(RNG.standard_normal((2, 3, 3))).solve, lambda: {"b": np.ones((6, 2))}, accepts={"b": BATCHED}
    ),
    "KroneckerOperator": Specimen(
        KroneckerOperator, lambda: {"A": RNG.standard_normal((2, 3)), "B": RNG.standard_normal((3, 2))}, accepts=dict.fromkeys("AB", BATCHED)
    ),
    "KroneckerOperator.solve": Specimen(
        KroneckerOperator(RNG.standard_normal((2, 2)), RNG.standard_normal((3, 3))).solve, lambda: {"b": np.ones((6, 2))}, accepts={"b": BATCHED}
    ),
    "OperatorSum": Specimen(lambda: OperatorSum([DiagonalOperator(np.ones(3))]), dict),
    "ScaledOperator": Specimen(
        lambda factor: ScaledOperator(DiagonalOperator(np.ones(3)), factor), lambda: {"factor": 2.0}, accepts={"factor": ("complex",)}
    ),
}


@pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("name", NAMES)
def test_products_and_transposes_equal_the_dense_matrix(name, dtype, kind):
    A, dense = dense_and_structured(name, dtype, kind)
    tolerance = 100 * np.finfo(dtype).eps
    for operator, matrix in ((A, dense), (A.T, dense.T), (A.H, dense.conj().T), (A.T.H, dense.conj()), (A.H.H, dense)):
        assert operator.shape == matrix.shape
        assert operator.dtype == dtype
        for x in (draw(RNG, matrix.shape[1], dtype=dtype), draw(RNG, matrix.shape[1], 3, dtype=dtype), draw(RNG, 2, matrix.shape[1], 3, dtype=dtype)):
            found = operator @ kind(x)
            assert type(found) is type(kind(x))
            assert_near(found, matrix @ x, tolerance)
        assert_near(operator.toarray(), matrix, tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_scipy_takes_them(name):
    A, dense = dense_and_structured(name, float, np.asarray)
    assert isinstance(A, scipy.sparse.linalg.LinearOperator)
    x, y = draw(RNG, A.shape[1]), draw(RNG, A.shape[0], 2)
    np.testing.assert_allclose(A.matvec(x), dense @ x, atol=1e-11)
    np.testing.assert_allclose(A.rmatmat(y), dense.T @ y, atol=1e-11)
    found = scipy.sparse.linalg.lsqr(A, dense @ x, atol=1e-14, btol=1e-14, iter_lim=1000)[0]
    np.testing.assert_allclose(dense @ found, dense @ x, atol=1e-6)
    shifted = A + scipy.sparse.linalg.aslinearoperator(np.ones(dense.shape))
    np.testing.assert_allclose(shifted @ x, dense @ x + x.sum(), atol=1e-11)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("name", SOLVABLE)
def test_solve_inverts_the_product(name, dtype, kind):
    A, dense = dense_and_structured(name, dtype, kind)
    for operator, matrix in ((A, dense), (A.T, dense.T), (A.H, dense.conj().T)):
        for b in (draw(RNG, 6, dtype=dtype), draw(RNG, 6, 3, dtype=dtype), draw(RNG, 2, 6, 3, dtype=dtype)):
            expected = np.linalg.solve(matrix, b if b.ndim > 1 else b[:, None]).reshape(b.shape)
            assert_near(operator.solve(kind(b)), expected, 1e-10)


def test_batches_of_factors():
    d, U, V = draw(RNG, 5, 6), draw(RNG, 5, 6, 2), draw(RNG, 5, 6, 2)
    d += 4 * np.sign(d)
    b = draw(RNG, 5, 6, 3)
    A = DiagonalPlusLowRankOperator(d, U, V)
    kron = KroneckerOperator(U[:, :3], V[:, :2])
    blocks = BlockDiagonalOperator(draw(RNG, 5, 3, 2, 2))
    for i in range(5):
        one = DiagonalPlusLowRankOperator(d[i], U[i], V[i])
        np.testing.assert_allclose((A @ b)[i], one @ b[i], atol=1e-12)
        np.testing.assert_allclose(A.solve(b)[i], one.solve(b[i]), atol=1e-12)
        np.testing.assert_allclose(kron.toarray()[i], np.kron(U[i, :3], V[i, :2]), atol=1e-12)
        np.testing.assert_allclose(blocks.solve(b)[i], BlockDiagonalOperator(blocks.blocks[i]).solve(b[i]), atol=1e-9)


def test_gradients_reach_the_factors():
    d, U, V = (torch.from_numpy(draw(RNG, *shape)).requires_grad_() for shape in ((4,), (4, 2), (4, 2)))
    b = torch.from_numpy(draw(RNG, 4, 2))
    assert torch.autograd.gradcheck(lambda d, U, V: DiagonalPlusLowRankOperator(d, U, V).solve(b), (d, U, V))
    assert torch.autograd.gradcheck(lambda A, B: KroneckerOperator(A, B) @ b, (U[:2], V[:2]))


def test_numpy_scalars_leave_the_dtype_alone():
    A = DiagonalOperator(np.ones(3, dtype=np.float32))
    assert (A * np.float64(2)).dtype == np.float32
    assert ((np.float64(2) * A) @ np.ones(3, dtype=np.float32)).dtype == np.float32
    assert (1j * A).dtype == np.complex64
    np.testing.assert_allclose((1j * A).H @ np.ones(3), -1j * np.ones(3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: DiagonalOperator([1.0, 0.0]).solve(np.ones(2)),
        lambda: DiagonalPlusLowRankOperator([1.0, 0.0], np.ones((2, 1)), np.ones((2, 1))).solve(np.ones(2)),
        lambda: DiagonalPlusLowRankOperator(np.ones(3), -np.ones((3, 1)) / 3, np.ones((3, 1))).solve(np.arange(3.0)),
        lambda: BlockDiagonalOperator(np.array([np.eye(2), np.ones((2, 2))])).solve(np.arange(4.0)),
        lambda: KroneckerOperator(np.eye(2), np.arange(9.0).reshape(3, 3)).solve(np.arange(6.0)),
        lambda: KroneckerOperator(torch.eye(2), torch.zeros(3, 3)).solve(torch.ones(6)),
    ],
)
def test_singular_operators_refuse_to_solve(make):
    with pytest.raises(np.linalg.LinAlgError, match="the operator"):
        make()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LowRankOperator(np.ones((3, 2)), np.ones((3, 1))), ValueError, "V must have as many columns"),
        (lambda: LowRankOperator(np.ones((3, 2)), torch.ones(3, 2)), TypeError, "V must be of the kind"),
        (lambda: DiagonalPlusLowRankOperator(np.ones(3), np.ones((4, 1)), np.ones((4, 1))), ValueError, "U must have shape"),
        (lambda: BlockDiagonalOperator(np.ones((2, 2))), ValueError, "blocks must have at least 3"),
        (lambda: BlockDiagonalOperator(np.ones((2, 2, 3))).solve(np.ones(4)), ValueError, "blocks must be square"),
        (lambda: KroneckerOperator(np.ones((2, 3)), np.eye(2)).solve(np.ones(4)), ValueError, "A must be square"),
        (lambda: KroneckerOperator(np.eye(2), np.eye(2)).solve(np.ones(5)), ValueError, "b must have shape"),
        (lambda: OperatorSum([DiagonalOperator(np.ones(2)), DiagonalOperator(np.ones(3))]), ValueError, "operators must have one shape"),
        (lambda: OperatorSum([DiagonalOperator(np.ones(2)), DiagonalOperator(torch.ones(2))]), TypeError, "operators must be of one kind"),
        (lambda: OperatorSum([]), TypeError, "operators must be a sequence"),
        (lambda: ScaledOperator(np.eye(2), 2.0), TypeError, "operator must be a structured"),
        (lambda: 1j * DiagonalOperator(torch.ones(2)), TypeError, "factor must be real"),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make()
