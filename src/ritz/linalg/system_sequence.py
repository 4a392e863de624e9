"""SKR, sorting Krylov recycling: many related linear systems in an order in which neighbors are alike, each solved with what the last one taught.

Wang, Hao, Wang, Geng, Wang, Li and Wu, "Accelerating Data Generation for Neural Operators via Krylov Subspace Recycling", ICLR 2024,
arXiv:2401.09516: sorting by algorithm 1 (`similarity_order`), solving by algorithm 2 (`gcrodr`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg

from ritz.core import Result, array, choice, flag, integer, namespace, to_csr, to_numpy, warn_not_converged
from ritz.core import progress as with_progress
from ritz.linalg.gcrodr import RecycledSolve, RecycleSpace, fits, sizes, solve_columns
from ritz.linalg.krylov_system import LinearSystem, linear_system
from ritz.linalg.preconditioners import incomplete_lu, jacobi
from ritz.linalg.similarity_order import similarity_order

ORDERS = ("greedy", "given", "chain")
PRECONDITIONERS = {"jacobi": jacobi, "ilu": incomplete_lu}


@dataclass(frozen=True, eq=False, repr=False)
class SequenceSolve(Result):
    """What `solve_sequence` returns; everything but `order` is in the order in which the caller counts the systems.

    Attributes
    ----------
    solutions : array (N, n) or list of arrays
        One array where all systems have one size and kind, else a list.
    order : array (N,) of int
        The systems in the order in which they were solved.
    iterations, matvecs : array (N,) of int
        Steps, and products with A, of each.
    converged : array (N,) of bool
        Whether ``||b - A x|| <= tol ||b||``.
    residual_norms : list of arrays
        The history of each.

    Examples
    --------
    >>> SequenceSolve(np.ones((1, 2)), np.arange(1), np.ones(1, int), np.ones(1, int), np.ones(1, bool), [np.array([1.0, 0.0])])
    SequenceSolve(solutions=float64[1, 2], order=int64[1], iterations=int64[1], matvecs=int64[1], converged=bool[1], residual_norms=[array([1., 0.])])
    """

    solutions: np.ndarray | list
    order: np.ndarray
    iterations: np.ndarray
    matvecs: np.ndarray
    converged: np.ndarray
    residual_norms: list


def solve_sequence(
    systems: Iterable | Callable[[int], tuple],
    *,
    parameters=None,
    order="greedy",
    group_size: int = 1000,
    restart: int = 40,
    recycle: int = 20,
    tol: float = 1e-8,
    preconditioner: str | Callable | None = None,
    reuse_preconditioner: bool = False,
    progress: bool = True,
) -> SequenceSolve:
    """Solve related systems ``A_i x_i = b_i``, alike ones in succession, with `gcrodr` and one recycle space that goes through all.

    Parameters
    ----------
    systems : iterable of (A, b), or callable
        Each A (n, n) a sparse or dense array, LinearOperator or torch tensor, each b (n,). A callable builds system i when its turn comes,
        ``systems(i) -> (A, b)``; `parameters`, or an order given as an array, then says how many there are.
    parameters : array (N, ...), optional
        What defines each system, for sorting: the coefficient field, or the few numbers behind it. By default the entries of A and b, each
        divided by their mean size over the systems; that needs explicit matrices of one sparsity pattern.
    order : {"greedy", "given", "chain"} or array (N,)
        By `similarity_order` in groups of `group_size`; as given; by one chain through all, whatever their number; or a permutation.
    group_size : int
        See `similarity_order`.
    restart, recycle, tol : int, int, float
        See `gcrodr`. With ``recycle=0`` the systems are solved one by one by restarted GMRES.
    preconditioner : {"jacobi", "ilu"}, callable or None
        Of each system's A: `jacobi`, `incomplete_lu`, or ``preconditioner(A)``, which returns a matrix or operator near the inverse.
    reuse_preconditioner : bool
        Whether the preconditioner of the first system solved serves all.
    progress : bool
        Whether to show a bar on a terminal.

    Returns
    -------
    SequenceSolve
        Solutions in the caller's order.

    Raises
    ------
    ValueError, TypeError
        If an argument or a system does not fit; the message names it.

    Warns
    -----
    ConvergenceWarning
        Once, if systems did not converge within 10,000 steps.
    UserWarning
        Where a system's size, kind or dtype does not suit the space and a new one is begun.

    Notes
    -----
    Per system `recycle` more products than a cold `gcrodr`, for fitting the space; `similarity_order` says what sorting costs.
    Sorting pays where the small eigenvectors move with the parameters; where they hardly do, recycling alone brings the gain (section 5 of [1]).

    References
    ----------
    .. [1] Wang et al., ICLR 2024, arXiv:2401.09516.

    Examples
    --------
    >>> A = np.diag(np.r_[1e-3, 2e-3, np.linspace(1, 2, 98)])
    >>> shifts = np.array([0.0, 0.3, 0.1, 0.2])
    >>> found = solve_sequence([(A + 1e-3 * c * np.eye(100), np.ones(100)) for c in shifts], parameters=shifts, restart=10, recycle=2)
    >>> found.order, bool(found.converged.all())
    (array([0, 2, 3, 1]), True)
    """
    restart, recycle = sizes(restart, recycle)
    build, order = _in_order(systems, parameters, order, integer(group_size, "group_size", at_least=1))
    precondition = _preconditioner(preconditioner, flag(reuse_preconditioner, "reuse_preconditioner"))
    results, space = {}, None
    for i in with_progress(order, "solving", total=len(order)) if flag(progress, "progress") else order:
        system = _checked(build, int(i), precondition)
        results[i] = solve_columns(system, _suitable(space, system, restart, int(i)), restart, recycle, tol, 10_000)
        space = results[i].space
    return _collected([results[i] for i in range(len(order))], order)


def _in_order(systems, parameters, order, group_size: int) -> tuple[Callable, np.ndarray]:
    """The function that gives system i, and the order to solve them in."""
    listed = None if callable(systems) else _listed(systems)
    if parameters is not None:
        parameters = array(parameters, "parameters", allow_complex=True)
        if parameters.ndim == 0:
            raise ValueError("parameters must have one entry or more for each system, got a single number")
    if not isinstance(order, str):
        order = _permutation(order)
    counts = {"systems": None if listed is None else len(listed), "parameters": None if parameters is None else len(parameters)}
    counts["order"] = None if isinstance(order, str) else len(order)
    known = {name: count for name, count in counts.items() if count is not None}
    if not known:
        raise ValueError("parameters must be given, or order as an array, where systems is callable: nothing else says how many there are")
    count = next(iter(known.values()))
    for name, other in known.items():
        if other != count:
            raise ValueError(f"{name} must have one entry for each of {count} systems, got {other}")
    build = systems if listed is None else listed.__getitem__
    if not isinstance(order, str):
        return build, order
    if choice(order, "order", ORDERS) == "given":
        return build, np.arange(count)
    if parameters is None:
        parameters = _entries(listed)
    return build, similarity_order(parameters, group_size=group_size if order == "greedy" else count)


def _listed(systems) -> list:
    try:
        listed = list(systems)
    except TypeError as error:
        raise TypeError(f"systems must be an iterable of pairs (A, b) or a callable, got {type(systems).__name__}") from error
    if not listed:
        raise ValueError("systems must not be empty")
    for i, pair in enumerate(listed):
        _pair(pair, i)
    return listed


def _pair(pair, i: int) -> tuple:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"systems must give pairs (A, b), got {type(pair).__name__} for system {i}")
    return tuple(pair)


def _permutation(order) -> np.ndarray:
    order = to_numpy(order, "order")
    if order.ndim != 1 or not np.array_equal(np.sort(order.ravel()), np.arange(order.size)):
        raise ValueError(
            f"order must be {', '.join(map(repr, ORDERS))} or a permutation of 0, ..., N - 1, got shape {order.shape}, dtype {order.dtype}"
        )
    return order.astype(np.int64)


def _entries(systems: list) -> np.ndarray:
    """The entries of each A, and those of each b, over their mean size: what is sorted by if the parameters are not known."""
    if any(isinstance(A, scipy.sparse.linalg.LinearOperator) for A, _ in systems):
        raise ValueError("parameters must be given where a matrix is an operator, whose entries nobody knows")
    matrices = [to_csr(A, f"systems[{i}][0]") for i, (A, _) in enumerate(systems)]
    first = matrices[0]
    for A in matrices:
        if A.shape != first.shape or not (np.array_equal(A.indptr, first.indptr) and np.array_equal(A.indices, first.indices)):
            raise ValueError("parameters must be given where matrices differ in their size or sparsity pattern")
    parts = np.stack([A.data for A in matrices]), np.stack([to_numpy(b, "systems") for _, b in systems])
    return np.hstack([part / (np.linalg.norm(part, axis=1).mean() or 1.0) for part in parts])


def _preconditioner(preconditioner, reuse: bool) -> Callable:
    """The function from A to its preconditioner, with the first one for all of the same size if it is to be reused."""
    if preconditioner is None:
        return lambda A: None
    if not callable(preconditioner):
        preconditioner = PRECONDITIONERS[choice(preconditioner, "preconditioner", PRECONDITIONERS)]
    if not reuse:
        return preconditioner
    built = {}

    def first_built(A):
        if A.shape not in built:
            built[A.shape] = preconditioner(A)
        return built[A.shape]

    return first_built


def _checked(build: Callable, i: int, precondition: Callable) -> LinearSystem:
    A, b = _pair(build(i), i)
    try:
        b = array(b, "b", ndim=1, allow_complex=True)
        return linear_system(A, b, None, precondition(A))
    except (ValueError, TypeError) as error:
        raise type(error)(f"systems: system {i}: {error}") from error


def _suitable(space: RecycleSpace | None, system: LinearSystem, restart: int, i: int) -> RecycleSpace | None:
    """The space, unless system i is of another size or kind."""
    if space is None or fits(space, system):
        return space
    size = system.b.shape[1]
    warnings.warn(f"system {i}, {size} unknowns in {system.b.dtype}, does not suit the recycle space; a new one is begun", stacklevel=3)
    return None


def _collected(results: list[RecycledSolve], order: np.ndarray) -> SequenceSolve:
    converged = np.array([result.converged for result in results])
    if not converged.all():
        reasons = sorted({result.reason for result in results} - {"converged"})
        warn_not_converged(f"solve_sequence did not converge for {int((~converged).sum())} of {len(results)} systems: {', '.join(reasons)}")
    solutions = [result.x for result in results]
    alike = len({(type(x), tuple(x.shape), x.dtype) for x in solutions}) == 1
    return SequenceSolve(
        solutions=namespace(solutions[0]).stack(solutions) if alike else solutions,
        order=order,
        iterations=np.array([result.iterations for result in results]),
        matvecs=np.array([result.matvecs for result in results]),
        converged=converged,
        residual_norms=[result.residual_norms for result in results],
    )
