"""Conjugate directions from any proposal: reductions to known methods, monotone errors, conjugacy, invariances, refusals."""

import warnings

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from linalg.kinds_of_input import KINDS, answers_in_torch, check_kind, matching
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import DirectionSolve, amg, cg, dcdm, jacobi
from ritz.linalg.sor import IterativeSolve
from ritz.studies.data.linear_systems import diffusion, poisson

RNG = np.random.default_rng(0)
A32, b32 = poisson(32, 32), RNG.standard_normal(1024)
A8, b8 = poisson(8, 8), RNG.standard_normal(64)

SPECIMENS = {
    "dcdm": Specimen(
        dcdm,
        lambda: {
            "A": A8, "b": b8.copy(), "direction": lambda r: r, "x0": np.ones(64), "conjugate_to": 2, "tol": 1e-4, "maxiter": 100,
            "normalize": True, "fallback": True,
        },
        accepts={"x0": ("none",)},
    ),
    "DirectionSolve": Specimen(
        DirectionSolve,
        lambda: {"x": np.ones(2), "converged": True, "iterations": 1, "residual_norms": np.ones(2), "fallback_steps": 0},
        spare=frozenset({"x", "converged", "iterations", "residual_norms", "fallback_steps"}),
    ),
}  # fmt: skip


def identity(r):
    return r


def random_direction(seed=0):
    rng = np.random.default_rng(seed)
    return lambda r: rng.standard_normal(r.shape)


def adversarial(r):
    """Nearly orthogonal to the residual, changing from one call to the next, of wild size."""
    d = np.roll(r, 1) * (1 + np.arange(len(r)) % 7) - 3 * r**3
    return 1e6 * (d - (d @ r) / (r @ r) * r) + 1e-3 * r


def path(A, b, direction, **options):
    """The iterates, x0 among them."""
    iterates = [np.zeros_like(b)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        dcdm(A, b, direction, callback=lambda x: iterates.append(x.copy()), **options)
    return np.array(iterates)


@pytest.mark.parametrize("conjugate_to", [1, 2, 5])
def test_the_identity_gives_conjugate_gradients(conjugate_to):
    ours, theirs = dcdm(A32, b32, identity, conjugate_to=conjugate_to, tol=1e-10), cg(A32, b32, tol=1e-10)
    np.testing.assert_allclose(ours.residual_norms[:31], theirs.residual_norms[:31], rtol=1e-8)
    assert ours.converged
    assert abs(ours.iterations - theirs.iterations) <= 1


def test_the_inverse_gives_one_step():
    found = dcdm(A32, b32, scipy.sparse.linalg.splu(A32.tocsc()).solve, tol=1e-10)
    assert (found.iterations, found.converged, found.fallback_steps) == (1, True, 0)


def test_a_preconditioner_gives_preconditioned_conjugate_gradients():
    A = diffusion(np.exp(2 * RNG.standard_normal((24, 24))))
    b = RNG.standard_normal(A.shape[0])
    for M in (jacobi(A), amg(A)):
        ours, theirs = dcdm(A, b, M, tol=1e-10), cg(A, b, preconditioner=M, tol=1e-10)
        steps = min(21, len(theirs.residual_norms) - 1)
        np.testing.assert_allclose(ours.residual_norms[:steps], theirs.residual_norms[:steps], rtol=1e-6)
        assert abs(ours.iterations - theirs.iterations) <= 1


@pytest.mark.parametrize("direction", [random_direction(), adversarial, lambda r: -np.sign(r), lambda r: np.abs(r)])
@pytest.mark.parametrize("conjugate_to", [0, 2, 10])
def test_the_error_never_grows_in_the_norm_of_A(direction, conjugate_to):
    iterates = path(A8, b8, direction, conjugate_to=conjugate_to, maxiter=40, tol=1e-13)
    errors = iterates - np.linalg.solve(A8.toarray(), b8)
    norms = np.sqrt(np.einsum("ki,ki->k", errors, (A8 @ errors.T).T))
    assert (np.diff(norms) <= 1e-12 * norms[0]).all()


@pytest.mark.parametrize("direction", [random_direction(), adversarial, identity])
@pytest.mark.parametrize("conjugate_to", [1, 2, 10])
def test_directions_are_conjugate_within_the_window_and_residuals_orthogonal_to_the_step(direction, conjugate_to):
    # tighter than this the directions, which are differences of iterates here, drown in the rounding of x
    iterates = path(A8, b8, direction, conjugate_to=conjugate_to, maxiter=60, tol=1e-3)
    steps, residuals = np.diff(iterates, axis=0), b8 - (A8 @ iterates.T).T
    products = steps @ (A8 @ steps.T)
    sizes = np.sqrt(np.diag(products))
    for k in range(len(steps)):
        near = range(max(0, k - conjugate_to), k)
        assert all(abs(products[k, i]) <= 1e-8 * sizes[k] * sizes[i] for i in near)
        assert abs(residuals[k + 1] @ steps[k]) <= 1e-10 * np.linalg.norm(residuals[k]) * np.linalg.norm(steps[k])


def test_the_size_of_the_direction_and_of_b_does_not_matter():
    def nonlinear(r):
        return r / (0.1 + np.abs(r)) + 0.5 * np.roll(r, 1)

    plain = dcdm(A32, b32, nonlinear, tol=1e-6)
    for c in (-1.0, 1e-9, 1e12):
        found = dcdm(A32, b32, lambda r, c=c: c * nonlinear(r), tol=1e-6)
        np.testing.assert_allclose(found.residual_norms[:30], plain.residual_norms[:30], rtol=1e-8)
    for c in (1e-100, 3.0, -1e150):
        found = dcdm(A32, c * b32, nonlinear, tol=1e-6)
        np.testing.assert_allclose(found.residual_norms[:30] / abs(c), plain.residual_norms[:30], rtol=1e-8)
        np.testing.assert_allclose(found.x / c, plain.x, atol=1e-4)


def test_normalize_says_what_the_direction_sees():
    seen = []

    def spy(r):
        seen.append(np.linalg.norm(r))
        return r

    found = dcdm(A8, 1e5 * b8, spy, tol=1e-6)
    np.testing.assert_allclose(seen, 1, rtol=1e-12)
    seen.clear()
    dcdm(A8, 1e5 * b8, spy, tol=1e-6, normalize=False)
    np.testing.assert_allclose(seen, found.residual_norms[: len(seen)], rtol=1e-9)


@pytest.mark.parametrize("direction", [identity, amg(A32), adversarial])
def test_a_batch_is_its_rows(direction):
    b = RNG.standard_normal((4, 1024)) * np.array([[1.0], [1e-8], [0.0], [1e5]])
    x0 = 0.1 * RNG.standard_normal((4, 1024)) * np.array([[1.0], [0.0], [0.0], [0.0]])
    batch = dcdm(A32, b, direction, x0=x0, tol=1e-5)
    for i in range(4):
        single = dcdm(A32, b[i], direction, x0=x0[i], tol=1e-5)
        assert abs(batch.iterations[i] - single.iterations) <= 1
        assert bool(batch.converged[i]) == single.converged
        np.testing.assert_allclose(batch.x[i], single.x, atol=1e-4 * max(np.abs(single.x).max(), 1e-300))
    assert batch.iterations[2] == 0
    assert batch.residual_norms.shape == (batch.iterations.max() + 1, 4)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kind_of_matrix(kind, dtype):
    A, b = KINDS[kind](A8.toarray().astype(dtype)), matching(kind, b8.astype(dtype))
    found = dcdm(A, b, identity, tol=1e-5 if dtype == "float32" else 1e-10)
    x = check_kind(found.x, kind, dtype)
    np.testing.assert_allclose(A8 @ x, b8, atol=1e-3 if dtype == "float32" else 1e-8)
    batch = dcdm(A, torch.stack([b, 2 * b]) if answers_in_torch(kind) else np.stack([b, 2 * b]), identity, tol=1e-5)
    assert batch.converged.all()


def test_bad_directions_fall_back_on_the_residual():
    for bad in (lambda r: 0 * r, lambda r: np.nan * r, lambda r: np.roll(r, 1) - (np.roll(r, 1) @ r) / (r @ r) * r):
        found = dcdm(A8, b8, bad, tol=1e-8)
        assert found.converged
        assert found.fallback_steps == found.iterations
        np.testing.assert_allclose(found.residual_norms[:9], cg(A8, b8, tol=1e-8).residual_norms[:9], rtol=1e-8)


def test_without_fallback_a_bad_direction_ends_the_row_or_is_refused():
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        found = dcdm(A8, b8, lambda r: 0 * r, fallback=False)
    assert (found.converged, found.iterations, found.fallback_steps) == (False, 0, 0)
    with pytest.raises(ValueError, match="direction must return finite numbers"):
        dcdm(A8, b8, lambda r: np.nan * r, fallback=False)


def test_not_converging_is_warned_and_in_the_result():
    with pytest.warns(ConvergenceWarning, match="dcdm did not converge: 3 steps were not enough"):
        found = dcdm(A32, b32, identity, maxiter=3)
    assert (found.converged, found.iterations, len(found.residual_norms)) == (False, 3, 4)
    with pytest.warns(ConvergenceWarning, match="not positive definite"):
        dcdm(-A8, b8, identity)


def test_a_singular_consistent_system():
    T = scipy.sparse.diags_array([-np.ones(15), np.r_[1.0, np.full(14, 2.0), 1.0], -np.ones(15)], offsets=[-1, 0, 1])
    A = scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))
    b = A @ RNG.standard_normal(256)
    found = dcdm(A, b, identity, tol=1e-9)
    assert found.converged
    np.testing.assert_allclose(A @ found.x, b, atol=1e-7)


def test_the_result_is_an_iterative_solve_and_the_residual_is_that_of_x():
    found = dcdm(A32, b32, identity, tol=1e-9)
    assert isinstance(found, IterativeSolve)
    np.testing.assert_allclose(np.linalg.norm(b32 - A32 @ found.x), found.residual_norms[-1], rtol=1e-6)
    zero = dcdm(A8, 0 * b8, identity)
    assert (zero.converged, zero.iterations) == (True, 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"A": A8 + scipy.sparse.csr_array(np.triu(np.ones((64, 64))))}, ValueError, "A must be Hermitian"),
        ({"b": np.ones(63)}, ValueError, r"b must have shape \(64,\) or \(B, 64\)"),
        ({"b": np.ones((64, 3))}, ValueError, r"b must have shape \(64,\) or \(B, 64\)"),
        ({"direction": lambda r: r[:-1]}, ValueError, "direction must return an array of shape"),
        ({"direction": lambda r: r[None]}, ValueError, "direction must return an array of shape"),
        ({"direction": 3}, TypeError, "direction must be callable"),
        ({"direction": torch.from_numpy}, TypeError, "direction must return what it is given"),
        ({"A": A8 * 1j}, TypeError, "A must be real"),
        ({"callback": 3}, TypeError, "callback must be callable"),
        ({"conjugate_to": -1}, ValueError, "conjugate_to must be"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        dcdm(**({"A": A8, "b": b8, "direction": identity} | options))
