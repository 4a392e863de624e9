"""Monarch matrices: operator, nearest Monarch matrix, factors of MM*."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch
from specimens import Specimen

from ritz.linalg import (
    MonarchFactorization,
    MonarchOperator,
    TransposedMonarch,
    compose,
    monarch_factorize,
    monarch_project,
)
from ritz.linalg.monarch import monarch_mix, nearest_block_count

RNG = np.random.default_rng(0)
SIZES = [(2, 3, 4, 5), (1, 1, 1, 1), (4, 4, 4, 4), (5, 1, 3, 2), (1, 6, 2, 3)]  # K, J, I, O


def factors(K, J, I, O, rank=1, dtype=float, batch=()):
    shapes = (*batch, K, rank * J, I), (*batch, J, O, rank * K)
    draws = [RNG.standard_normal(shape) + (1j * RNG.standard_normal(shape) if dtype is complex else 0) for shape in shapes]
    return tuple(draw.astype(dtype) for draw in draws)


def mm_star(m):
    return MonarchFactorization(*np.random.default_rng(m).standard_normal((3, m, m, m)), 0.0).toarray()


BATCHED = dict.fromkeys("RLM", ("more dimensions",))  # leading dimensions are batches

SPECIMENS = {
    "MonarchOperator": Specimen(MonarchOperator, lambda: dict(zip("RL", factors(2, 3, 4, 5))), accepts=BATCHED),
    "TransposedMonarch": Specimen(TransposedMonarch, lambda: dict(zip("RL", factors(2, 3, 4, 5))), accepts=BATCHED),
    "compose": Specimen(lambda: compose([MonarchOperator(*factors(2, 2, 2, 2))]), dict),
    "monarch_project": Specimen(
        monarch_project, lambda: {"M": RNG.standard_normal((12, 8)), "blocks": 4, "rank": 2}, accepts=BATCHED | {"blocks": ("none",)}
    ),
    "monarch_factorize": Specimen(monarch_factorize, lambda: {"A": mm_star(3), "m": 3}),
    "MonarchFactorization": Specimen(
        MonarchFactorization,
        lambda: dict.fromkeys(("L1", "D", "L2"), np.ones((2, 2, 2))) | {"residual": 0.0},
        spare=frozenset({"L1", "D", "L2", "residual"}),
    ),
}


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("sizes", SIZES)
def test_operator_adjoint_and_dense_form_agree(sizes, dtype, rank):
    K, J, I, O = sizes
    R, L = factors(*sizes, rank=rank, dtype=dtype)
    M = MonarchOperator(R, L)
    dense = np.einsum("joka,kaji->ojki", L.reshape(J, O, K, rank), R.reshape(K, rank, J, I)).reshape(O * J, K * I)
    np.testing.assert_allclose(M.toarray(), dense, atol=1e-12)
    x, y, X = RNG.standard_normal(K * I), RNG.standard_normal(O * J), RNG.standard_normal((K * I, 3))
    np.testing.assert_allclose(M @ x, dense @ x, atol=1e-12)
    np.testing.assert_allclose(M.matmat(X), dense @ X, atol=1e-12)
    np.testing.assert_allclose(M.H @ y, dense.conj().T @ y, atol=1e-12)
    np.testing.assert_allclose(M.rmatvec(y), dense.conj().T @ y, atol=1e-12)
    np.testing.assert_allclose(M.T.toarray(), dense.T, atol=1e-12)
    np.testing.assert_allclose(M.H.T.toarray(), dense.conj(), atol=1e-12)
    assert M.rank == rank


def test_square_case_is_the_papers_product_and_einsum():
    m = 4
    R, L = factors(m, m, m, m)
    shuffle = np.eye(m * m).reshape(m, m, m * m).transpose(1, 0, 2).reshape(m * m, m * m)
    product = shuffle @ scipy.linalg.block_diag(*L) @ shuffle.T @ scipy.linalg.block_diag(*R)
    M = MonarchOperator(R, L).toarray()
    np.testing.assert_allclose(M, product, atol=1e-12)
    np.testing.assert_allclose(M, torch.einsum("jlk,kji->ljki", torch.from_numpy(L), torch.from_numpy(R)).reshape(m * m, m * m).numpy(), atol=1e-12)


def test_transpose_is_a_monarch_matrix_between_permutations():
    K, J, I, O = 2, 3, 4, 5
    R, L = factors(K, J, I, O)
    other = MonarchOperator(L.swapaxes(1, 2), R.swapaxes(1, 2)).toarray()  # input (j, o), output (i, k)
    reordered = other.reshape(I, K, J, O).transpose(1, 0, 3, 2).reshape(K * I, O * J)
    np.testing.assert_allclose(MonarchOperator(R, L).T.toarray(), reordered, atol=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_batches_of_factors_and_of_columns(kind):
    R, L = (kind(factor) for factor in factors(2, 3, 4, 5, batch=(6,)))
    X = kind(RNG.standard_normal((6, 8, 2)))
    M = MonarchOperator(R, L)
    for product, width in ((M @ X, 15), (M.T @ (M @ X), 8)):
        assert type(product) is type(X)
        assert tuple(product.shape) == (6, width, 2)
    for b in range(6):
        np.testing.assert_allclose(np.asarray((M @ X)[b]), np.asarray(MonarchOperator(R[b], L[b]).toarray() @ X[b]), atol=1e-12)
        np.testing.assert_allclose(np.asarray(M.toarray()[b]), np.asarray(MonarchOperator(R[b], L[b]).toarray()), atol=1e-12)


def test_gradients():
    R, L = (torch.from_numpy(factor).requires_grad_() for factor in factors(2, 3, 2, 2))
    columns = torch.from_numpy(RNG.standard_normal((4, 3))).requires_grad_()
    assert torch.autograd.gradcheck(monarch_mix, (R, L, columns))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("rank", [1, 2])
def test_projection_is_exact_for_monarch_matrices_and_idempotent(kind, dtype, rank):
    R, L = factors(3, 4, 5, 6, rank=rank, dtype=dtype)
    M = kind(MonarchOperator(R, L).toarray())
    nearest = monarch_project(M, blocks=(3, 4), rank=rank)
    assert type(nearest.R) is type(M)
    np.testing.assert_allclose(np.asarray(nearest.toarray()), np.asarray(M), atol=1e-10)
    general = kind(RNG.standard_normal((24, 15)))
    once = monarch_project(general, blocks=(3, 4), rank=rank).toarray()
    np.testing.assert_allclose(np.asarray(monarch_project(once, blocks=(3, 4), rank=rank).toarray()), np.asarray(once), atol=1e-10)


@pytest.mark.parametrize("blocks", [(3, 4), 4, 2, None])
@pytest.mark.parametrize("rank", [1, 2])
def test_projection_error_is_the_sum_of_the_singular_values_left_out(blocks, rank):
    M = RNG.standard_normal((24, 12))
    nearest = monarch_project(M, blocks=blocks, rank=rank)
    K, J = nearest.R.shape[0], nearest.L.shape[0]
    grid = M.reshape(24 // J, J, K, 12 // K).transpose(1, 2, 0, 3)
    kept = (np.linalg.svd(grid, compute_uv=False)[..., :rank] ** 2).sum()
    error = np.linalg.norm(M - nearest.toarray()) ** 2
    assert abs(error - (np.linalg.norm(M) ** 2 - kept)) < 1e-10 * np.linalg.norm(M) ** 2


def test_projection_is_never_worse_than_a_fit():
    M = RNG.standard_normal((12, 12))
    best = np.linalg.norm(M - monarch_project(M, blocks=(3, 4)).toarray())
    target = torch.from_numpy(M)

    def loss(flat):
        parameters = torch.from_numpy(flat).requires_grad_()
        R, L = parameters[:48].reshape(3, 4, 4), parameters[48:].reshape(4, 3, 3)
        value = (target - MonarchOperator(R, L).toarray()).square().sum()
        value.backward()
        return value.item(), parameters.grad.numpy()

    fits = [
        scipy.optimize.minimize(loss, RNG.standard_normal(84), jac=True, method="L-BFGS-B", options={"maxiter": 2000}).fun ** 0.5 for _ in range(20)
    ]
    assert best <= min(fits) + 1e-6
    assert min(fits) == pytest.approx(best, abs=1e-4)  # and the fits do reach it


@pytest.mark.parametrize("factor", [3.0, -1e-6, 1e8])
def test_projection_is_equivariant_to_scaling(factor):
    M = RNG.standard_normal((12, 12))
    scaled = monarch_project(factor * M, blocks=3).toarray()
    np.testing.assert_allclose(scaled, factor * monarch_project(M, blocks=3).toarray(), atol=1e-12 * abs(factor) * np.abs(M).max() * 10)


@pytest.mark.parametrize("shape", [(12, 12), (6, 24), (24, 6), (7, 5)])
def test_full_rank_is_exact_for_every_matrix(shape):
    M = RNG.standard_normal(shape)
    blocks = nearest_block_count(*shape)
    rank = min(shape[0] // (shape[0] // blocks), shape[1] // blocks)
    np.testing.assert_allclose(monarch_project(M, rank=rank).toarray(), M, atol=1e-12)


@pytest.mark.parametrize("n", [15, 36, 48, 85, 168, 512])
def test_projection_recovers_the_fourier_transform(n):
    K = nearest_block_count(n, n)
    fourier = np.fft.fft(np.eye(n)).reshape(n, n // K, K).transpose(0, 2, 1).reshape(n, n)
    error = np.linalg.norm(monarch_project(fourier).toarray() - fourier) / np.linalg.norm(fourier)
    assert error <= 1e-12


def test_projection_of_batches_zeros_and_float32():
    M = RNG.standard_normal((2, 3, 8, 8))
    batched = monarch_project(M, blocks=2).toarray()
    np.testing.assert_allclose(batched[1, 2], monarch_project(M[1, 2], blocks=2).toarray(), atol=1e-12)
    assert not monarch_project(np.zeros((4, 4)), blocks=2).toarray().any()
    single = monarch_project(torch.from_numpy(M[0, 0]).float(), blocks=2)
    assert single.R.dtype == torch.float32
    np.testing.assert_allclose(single.toarray().numpy(), monarch_project(M[0, 0], blocks=2).toarray(), atol=1e-5)


def test_default_blocks_are_nearest_to_the_root_the_larger_first():
    assert [nearest_block_count(n, n) for n in (16, 48, 36, 7, 1)] == [4, 8, 6, 7, 1]


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8, 8), {"blocks": 3}, "blocks must divide"),
        ((8, 8), {"blocks": (2, 3)}, "blocks must divide"),
        ((8, 8), {"blocks": 2, "rank": 5}, "rank must be"),
    ],
)
def test_projection_refuses_what_does_not_fit(shape, options, message):
    with pytest.raises(ValueError, match=message):
        monarch_project(np.ones(shape), **options)


@pytest.mark.parametrize("m", [1, 2, 4, 5, 6, 7, 8])
def test_factors_of_mm_star_are_recovered(m):
    A = mm_star(m)
    found = monarch_factorize(A, m)
    L1, D, L2 = found
    assert L1.shape == D.shape == L2.shape == (m, m, m)
    assert found.residual < 1e-6
    np.testing.assert_allclose(found.toarray(), A, atol=1e-6 * np.abs(A).max())


def test_factorization_is_the_papers_product():
    m = 3
    L1, D, L2 = np.random.default_rng(1).standard_normal((3, m, m, m))
    shuffle = np.eye(m * m).reshape(m, m, m * m).transpose(1, 0, 2).reshape(m * m, m * m)
    middle = scipy.linalg.block_diag(*(D[:, :, k] for k in range(m)))  # R: block k couples entry k of all blocks
    conjugated = [shuffle @ scipy.linalg.block_diag(*blocks) @ shuffle.T for blocks in (L1, L2)]
    np.testing.assert_allclose(MonarchFactorization(L1, D, L2, 0.0).toarray(), conjugated[0] @ middle @ conjugated[1], atol=1e-12)


def test_factorization_says_when_a_matrix_is_not_of_the_class():
    assert monarch_factorize(RNG.standard_normal((16, 16)), 4).residual > 0.1


def test_factorization_refuses_singular_blocks_and_wrong_sizes():
    A = mm_star(3)
    A.reshape(3, 3, 3, 3)[:, 1, :, 2] = 0
    with pytest.raises(ValueError, match="A must have invertible blocks"):
        monarch_factorize(A, 3)
    with pytest.raises(ValueError, match=r"A must have shape \(16, 16\)"):
        monarch_factorize(mm_star(3), 4)


def test_compose_holds_the_hadamard_transform_of_two():
    hadamard = scipy.linalg.hadamard(16).astype(float)
    half = monarch_project(hadamard, blocks=4)
    np.testing.assert_allclose(half.toarray(), hadamard, atol=1e-12)
    np.testing.assert_allclose(compose([half, half.H]).toarray(), 16 * np.eye(16), atol=1e-11)


@pytest.mark.parametrize(
    ("R", "L", "error", "message"),
    [
        (np.ones((2, 2, 2)), np.ones((2, 2, 3)), ValueError, "R and L must meet"),
        (np.ones((2, 2)), np.ones((2, 2, 3)), ValueError, "R must have shape"),
        (np.ones((2, 2, 2)), torch.ones(2, 2, 2), TypeError, "R and L must be of one kind"),
    ],
)
def test_factors_that_do_not_fit_are_refused(R, L, error, message):
    with pytest.raises(error, match=message):
        MonarchOperator(R, L)
