"""Sequences of systems: the caller's order whatever the order of solving, all kinds of systems, preconditioners, refusals."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from specimens import Specimen

from ritz.core import ConvergenceWarning
from ritz.linalg import SequenceSolve, gcrodr, incomplete_lu, jacobi, similarity_order, solve_sequence

RNG = np.random.default_rng(0)
OPTIONS = {"restart": 12, "recycle": 4}


def family(count: int, m: int = 8, dtype=np.float64):
    """Shifted Laplacians in a random order of shifts, with their right-hand sides."""
    T = scipy.sparse.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    laplacian = scipy.sparse.csr_array(scipy.sparse.kronsum(T, T))
    shifts = np.random.default_rng(1).permutation(np.linspace(0.0, 0.5, count))
    one = scipy.sparse.eye_array(m * m)
    phase = 1j if np.dtype(dtype).kind == "c" else 1
    return [(scipy.sparse.csr_array(laplacian + phase * c * one), np.ones(m * m, dtype=dtype)) for c in shifts], shifts


SPECIMENS = {
    "solve_sequence": Specimen(
        solve_sequence,
        lambda: {
            "systems": family(3)[0],
            "parameters": np.array([0.0, 2.0, 1.0]),
            "order": "greedy",
            "group_size": 2,
            "restart": 6,
            "recycle": 2,
            "tol": 1e-6,
            "reuse_preconditioner": False,
            "progress": False,
        },
        spare=frozenset({"systems"}),
    ),
    "solve_sequence.preconditioned": Specimen(
        solve_sequence,
        lambda: {"systems": family(3)[0], "preconditioner": "jacobi"},
        spare=frozenset({"systems"}),
        accepts={"preconditioner": ("none",)},
    ),
    "SequenceSolve": Specimen(
        SequenceSolve,
        lambda: dict.fromkeys(("solutions", "order", "iterations", "matvecs", "converged", "residual_norms")),
    ),
}


def assert_solves(found: SequenceSolve, systems: list, tol: float = 1e-8) -> None:
    assert found.converged.all()
    for (A, b), x, norms in zip(systems, found.solutions, found.residual_norms):
        dense = A.toarray() if scipy.sparse.issparse(A) else A
        assert np.linalg.norm(b - dense @ x) <= 1.01 * tol * np.linalg.norm(b)
        assert norms[-1] <= tol * np.linalg.norm(b)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("order", ["greedy", "given", "chain", np.arange(9)[::-1]])
def test_solutions_are_in_the_order_of_the_caller(order, dtype):
    systems, shifts = family(9, dtype=dtype)
    found = solve_sequence(systems, parameters=shifts, order=order, group_size=4, **OPTIONS)
    assert found.solutions.shape == (9, 64)
    assert_solves(found, systems)
    expected = {"given": np.arange(9), "chain": similarity_order(shifts), "greedy": similarity_order(shifts, group_size=4)}
    np.testing.assert_array_equal(found.order, expected[order] if isinstance(order, str) else order)


def test_permuting_the_systems_permutes_the_results():
    systems, shifts = family(8)
    order = similarity_order(shifts)
    found = solve_sequence(systems, order=order, **OPTIONS)
    permutation = RNG.permutation(8)
    place = np.argsort(permutation)
    permuted = solve_sequence([systems[i] for i in permutation], order=place[order], **OPTIONS)
    np.testing.assert_array_equal(permuted.solutions, found.solutions[permutation])
    np.testing.assert_array_equal(permuted.iterations, found.iterations[permutation])
    np.testing.assert_array_equal(permuted.matvecs, found.matvecs[permutation])


def test_it_is_gcrodr_with_the_space_handed_on_and_recycling_saves_steps():
    systems, _ = family(5)
    found, space = solve_sequence(systems, order="given", preconditioner="jacobi", **OPTIONS), None
    for i, (A, b) in enumerate(systems):
        alone = gcrodr(A, b, M=jacobi(A), space=space, **OPTIONS)
        space = alone.space
        np.testing.assert_array_equal(found.solutions[i], alone.x)
        np.testing.assert_array_equal(found.residual_norms[i], alone.residual_norms)
    each_alone = solve_sequence(systems, recycle=0, restart=12, progress=False)
    assert found.iterations[1:].mean() < each_alone.iterations[1:].mean()


def test_systems_are_built_lazily_in_the_order_of_solving():
    systems, shifts = family(6)
    asked = []

    def build(i):
        asked.append(i)
        return systems[i]

    found = solve_sequence(build, parameters=shifts, **OPTIONS)
    assert asked == found.order.tolist() == similarity_order(shifts).tolist()
    assert_solves(found, systems)


def test_without_parameters_it_sorts_by_the_entries():
    systems, shifts = family(10)
    found = solve_sequence(iter(systems), **OPTIONS)
    np.testing.assert_array_equal(found.order, similarity_order(shifts))


@pytest.mark.parametrize("preconditioner", [None, "jacobi", "ilu", lambda A: incomplete_lu(A, drop_tolerance=0.1)])
@pytest.mark.parametrize("reuse", [False, True])
def test_preconditioners(preconditioner, reuse):
    systems, shifts = family(4)
    found = solve_sequence(systems, parameters=shifts, preconditioner=preconditioner, reuse_preconditioner=reuse, **OPTIONS)
    assert_solves(found, systems)


def test_a_reused_preconditioner_is_built_once():
    systems, shifts = family(4)
    built = []

    def build(A):
        built.append(A)
        return jacobi(A)

    solve_sequence(systems, parameters=shifts, preconditioner=build, reuse_preconditioner=True, **OPTIONS)
    assert len(built) == 1


def test_operators_dense_arrays_and_tensors():
    systems, shifts = family(4)
    dense = [(A.toarray(), b) for A, b in systems]
    expected = solve_sequence(systems, parameters=shifts, **OPTIONS).solutions
    operators = [(scipy.sparse.linalg.aslinearoperator(A), b) for A, b in systems]
    tensors = [(torch.from_numpy(A), torch.from_numpy(b)) for A, b in dense]
    for others in (dense, operators, tensors):
        found = solve_sequence(others, parameters=shifts, **OPTIONS)
        assert type(found.solutions) is type(others[0][1])
        np.testing.assert_allclose(np.asarray(found.solutions), expected, atol=1e-6)
    np.testing.assert_array_equal(solve_sequence(tensors, **OPTIONS).order, similarity_order(shifts))


def test_another_size_begins_a_new_space_with_a_warning():
    systems = family(2)[0] + family(2, m=6)[0]
    with pytest.warns(UserWarning, match="system 2, 36 unknowns"):
        found = solve_sequence(systems, order="given", **OPTIONS)
    assert isinstance(found.solutions, list)
    assert_solves(found, systems)
    mixed = [family(1, dtype=np.complex128)[0][0], family(1)[0][0]]
    with pytest.warns(UserWarning, match="float64"):
        assert solve_sequence(mixed, order="given", **OPTIONS).converged.all()


def test_a_zero_right_hand_side_costs_nothing_and_keeps_the_space():
    systems, _ = family(3)
    systems[1] = (systems[1][0], np.zeros(64))
    found = solve_sequence(systems, order="given", **OPTIONS)
    assert found.iterations[1] == found.matvecs[1] == 0
    assert not found.solutions[1].any()
    assert found.iterations[2] < found.iterations[0]


def test_failures_are_warned_once():
    systems = [(np.diag([1.0, 0.0]), np.ones(2))] * 3
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = solve_sequence(systems, order="given", restart=2, recycle=1)
    assert not found.converged.any()
    assert [warning.category for warning in caught] == [ConvergenceWarning]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"systems": []}, ValueError, "systems must not be empty"),
        ({"systems": 3}, TypeError, "systems"),
        ({"systems": [np.eye(2)]}, TypeError, "systems must give pairs"),
        ({"systems": [(np.ones((2, 3)), np.ones(2))], "order": "given"}, ValueError, "system 0: A must be square"),
        ({"systems": [(np.full((2, 2), np.nan), np.ones(2))], "order": "given"}, ValueError, "system 0: A must be finite"),
        ({"systems": [(np.eye(2), np.ones((2, 2)))], "order": "given"}, ValueError, "system 0: b"),
        ({"systems": lambda i: None}, ValueError, "parameters must be given"),
        ({"systems": family(2)[0] + family(1, m=3)[0]}, ValueError, "parameters must be given"),
        ({"systems": [(scipy.sparse.linalg.aslinearoperator(np.eye(2)), np.ones(2))]}, ValueError, "parameters must be given"),
        ({"parameters": np.ones(4)}, ValueError, "parameters must have one entry"),
        ({"order": [0, 1]}, ValueError, "order must have one entry"),
        ({"order": [0, 1, 1]}, ValueError, "order"),
        ({"restart": 4, "recycle": 4}, ValueError, "restart"),
        ({"preconditioner": "multigrid"}, ValueError, "preconditioner"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        solve_sequence(**({"systems": family(3)[0]} | options))
