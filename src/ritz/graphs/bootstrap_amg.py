"""Bootstrap algebraic multigrid: a solver that finds out by itself what it does not damp, and whose findings approximate the low eigenspace.

D'Ambra and Vassilevski, "Adaptive AMG with coarsening based on compatible weighted matching", Comput. Visual. Sci. 16, 2013;
D'Ambra, Cutillo and Vassilevski, "Bootstrap AMG for spectral clustering", Comput. Math. Methods 1(2), 2019; as used in
D'Ambra, Vassilevski and Cutillo, "Extending bootstrap AMG for clustering of attributed graphs", Applied Mathematics and Computation 447, 2023,
arXiv:2109.10610, section 3.

From a smooth vector w_0 comes a hierarchy B_1. Iterating on A x = 0 from a random x, what is left after some steps is what the solver damps worst:
the next smooth vector w_1, from which comes B_2, which joins the solver; and so on until the solver converges as fast as wanted.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ritz.core import array, choice, integer, like, progress, random_generator, real, sparse_matrix, to_numpy, warn_not_converged
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.laplacian import laplacian
from ritz.graphs.matching_hierarchy import MatchingHierarchy, build_hierarchy, v_cycle
from ritz.linalg import IterativeSolve

COMPOSITIONS = ("multiplicative", "symmetric", "additive")


class BootstrapAMG(BaseEstimator):
    """A composite multigrid solver for a symmetric positive definite matrix, and smooth vectors, which span most of its low eigenspace.

    Parameters
    ----------
    tol : float in (0, 1)
        Hierarchies are added until one composite iteration reduces the A-norm of the slowest component to this fraction.
    max_components : int
        At most so many hierarchies.
    test_iterations : int
        Composite iterations from a random vector with which each solver is tested.
    composition : {"multiplicative", "symmetric", "additive"}
        The hierarchies' V-cycles one after the other; the same and then back, which is a symmetric preconditioner; or their average.
    aggregation_sweeps : int
        Rounds of pairwise matching per level: s rounds make aggregates of up to 2^s rows.
    max_coarse : int
        Coarsening ends at so few rows, or where a level of up to 500 would shrink by less than 10 %, and the system is solved directly there.
        A larger level that does not shrink goes into one row.
    max_levels : int
        At most so many levels.
    rng : Generator, int or None
        Source of the random test vectors.

    Attributes
    ----------
    smooth_vectors_ : ndarray (n, r + 1)
        w_0, all ones, and the worst damped vector after each of the r tests, of A-norm 1.
    hierarchies_ : list of MatchingHierarchy
        The r hierarchies; `sizes`, `matrix(level)` and `prolongator(level)` show their levels.
    convergence_factors_ : ndarray (r,)
        The A-norm after over before the last test iteration, with 1, 2, ..., r hierarchies.
    convergence_factor_ : float
        The last of these.
    converged_ : bool
        Whether that is at most `tol`.
    n_features_in_ : int
        The number n of rows.

    Notes
    -----
    A hierarchy and a V-cycle cost O(entries of all its levels): `operator_complexity` times those of A, about 2 on grids, more on graphs whose
    edges do not merge in pairs. Testing r hierarchies one after the other takes test_iterations * r (r + 1) / 2 V-cycles.
    Edges are matched greedily by decreasing |1 - 2 w_i w_j a_ij / (a_ii w_i^2 + a_jj w_j^2)|, which is what a half-approximate maximum-product
    matching does (the published code's Preis and Suitor options give it, its runs with two sweeps per level). The matrix is coarsened at least
    once whatever `max_coarse`, since an exact solve would leave no smooth vector to learn from.

    References
    ----------
    .. [1] D'Ambra, Vassilevski and Cutillo, Applied Mathematics and Computation 447, 2023, arXiv:2109.10610.

    Examples
    --------
    >>> import networkx as nx
    >>> A = definite_laplacian(nx.grid_2d_graph(16, 16))
    >>> solver = BootstrapAMG(tol=0.1, rng=0).fit(A)
    >>> solver.solve(np.ones(256)).converged
    True
    """

    def __init__(
        self,
        tol: float = 1e-6,
        *,
        max_components: int = 40,
        test_iterations: int = 15,
        composition: str = "multiplicative",
        aggregation_sweeps: int = 1,
        max_coarse: int = 10,
        max_levels: int = 39,
        rng: np.random.Generator | int | None = None,
    ):
        self.tol = tol
        self.max_components = max_components
        self.test_iterations = test_iterations
        self.composition = composition
        self.aggregation_sweeps = aggregation_sweeps
        self.max_coarse = max_coarse
        self.max_levels = max_levels
        self.rng = rng

    def fit(self, A, y=None) -> BootstrapAMG:
        """Build hierarchies until the composite solver is fast enough.

        Parameters
        ----------
        A : sparse or dense matrix (n, n)
            Symmetric positive definite; `definite_laplacian` makes one of a connected graph.
        y : ignored

        Raises
        ------
        ValueError, TypeError
            If A is not symmetric or is found not to be positive definite, or an option is out of range.

        Warns
        -----
        ConvergenceWarning
            If `max_components` hierarchies do not reach `tol`.
        """
        self._check_options()
        A, rng = _symmetric(A), random_generator(self.rng)
        self.n_features_in_ = A.shape[0]
        self._matrix, self.hierarchies_ = A, []
        smooth, factors = [np.ones(A.shape[0])], []
        for _ in progress(range(self.max_components), "bootstrap multigrid"):
            options = {"aggregation_sweeps": self.aggregation_sweeps, "max_coarse": self.max_coarse, "max_levels": self.max_levels}
            self.hierarchies_.append(build_hierarchy(A, smooth[-1], **options))
            factor, slowest = self._test(rng.random(A.shape[0]))
            factors.append(factor)
            smooth.append(slowest)
            if factor <= self.tol:
                break
        self.smooth_vectors_ = np.stack(smooth, axis=1)
        self.convergence_factors_, self.convergence_factor_ = np.array(factors), factors[-1]
        self.converged_ = bool(factors[-1] <= self.tol)
        if not self.converged_:
            warn_not_converged(f"BootstrapAMG: the factor is {factors[-1]:.2g} with {len(factors)} hierarchies, above tol = {self.tol:g}")
        return self

    def solve(self, b, *, tol: float = 1e-8, max_iterations: int = 200) -> IterativeSolve:
        """Solve ``A x = b`` by composite iterations from zero; with `aspreconditioner`, a Krylov solver does the same in fewer.

        Parameters
        ----------
        b : array (n,)
            Right-hand side.
        tol : float
            Stop at ``||b - A x|| <= tol ||b||``.
        max_iterations : int
            At most so many.

        Returns
        -------
        IterativeSolve
            With x of the kind of b.

        Warns
        -----
        ConvergenceWarning
            If the tolerance was not reached.
        """
        check_is_fitted(self)
        right = to_numpy(array(b, "b", shape=(self.n_features_in_,))).astype(np.float64)
        tol, max_iterations = real(tol, "tol", above=0), integer(max_iterations, "max_iterations", at_least=1)
        x, norms = np.zeros_like(right), [float(np.linalg.norm(right))]
        while norms[-1] > tol * norms[0] and len(norms) <= max_iterations:
            x = self._improved(x, right, self._order())
            norms.append(float(np.linalg.norm(right - self._matrix @ x)))
        converged = norms[-1] <= tol * norms[0]
        if not converged:
            warn_not_converged(f"BootstrapAMG.solve: the residual is {norms[-1] / norms[0]:.2g} of ||b|| after {max_iterations} iterations")
        return IterativeSolve(like(x, b), converged, len(norms) - 1, np.array(norms))

    def aspreconditioner(self) -> scipy.sparse.linalg.LinearOperator:
        """Return one composite iteration from zero as an operator near the inverse of A; symmetric unless the composition is multiplicative."""
        check_is_fitted(self)
        zero, order = np.zeros(self.n_features_in_), self._order()
        return scipy.sparse.linalg.LinearOperator(
            self._matrix.shape,
            matvec=lambda b: self._improved(zero, np.asarray(b, dtype=np.float64).ravel(), order),
            rmatvec=lambda b: self._improved(zero, np.asarray(b, dtype=np.float64).ravel(), order[::-1]),
            dtype=np.float64,
        )

    def _test(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Iterate on A x = 0: the last convergence factor, and what is left, of A-norm 1."""
        zero, factor = np.zeros_like(x), 0.0
        x = x / self._norm(x)
        for _ in range(self.test_iterations):
            damped = self._improved(x, zero, self._order())
            factor = self._norm(damped)
            if factor == 0.0:
                break
            x = damped / factor
        return factor, x

    def _norm(self, x: np.ndarray) -> float:
        square = float(x @ (self._matrix @ x))
        if square < -1e-10 * np.abs(self._matrix.data).max() * float(x @ x):
            raise ValueError(f"A must be positive definite: x^T A x = {square:g} was met")
        return max(square, 0.0) ** 0.5

    def _order(self) -> list[MatchingHierarchy]:
        return self.hierarchies_ + self.hierarchies_[::-1] if self.composition == "symmetric" else self.hierarchies_

    def _improved(self, x: np.ndarray, b: np.ndarray, order: list[MatchingHierarchy]) -> np.ndarray:
        """x after one composite iteration for A x = b."""
        if self.composition == "additive":
            return np.mean([_cycled(hierarchy, x, b) for hierarchy in order], axis=0)
        for hierarchy in order:
            x = _cycled(hierarchy, x, b)
        return x

    def _check_options(self) -> None:
        real(self.tol, "tol", above=0, below=1)
        choice(self.composition, "composition", COMPOSITIONS)
        for name in ("max_components", "test_iterations", "aggregation_sweeps", "max_coarse", "max_levels"):
            integer(getattr(self, name), name, at_least=1)


def definite_laplacian(adjacency) -> scipy.sparse.csr_array:
    """Return the combinatorial Laplacian of a connected graph, made positive definite by a matrix of rank one: D - A + a_0j e e^T.

    e is 1 at node 0 and at its first neighbor j, so no entry is added to the pattern. The paper adds e e^T; the edge's weight a_0j before it is 1 for
    graphs without weights, and lets the scale of weights not matter.

    Parameters
    ----------
    adjacency : graph with n nodes
        Undirected, connected, with at least one edge; loops are ignored.

    Raises
    ------
    ValueError
        If the graph is directed, not connected or has no edge.

    Examples
    --------
    >>> definite_laplacian([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).toarray()
    array([[ 2.,  0.,  0.],
           [ 0.,  3., -1.],
           [ 0., -1.,  1.]])
    """
    matrix = as_adjacency(adjacency, directed=False, connected=True).matrix
    neighbors = matrix.indices[matrix.indptr[0] : matrix.indptr[1]]
    if not np.any(neighbors > 0):
        raise ValueError("adjacency must have an edge between two nodes, got one node without neighbors")
    j = int(neighbors[neighbors > 0][0])
    ends = [0, j]
    update = scipy.sparse.csr_array((np.full(4, matrix[0, j]), (np.repeat(ends, 2), np.tile(ends, 2))), shape=matrix.shape)
    definite = scipy.sparse.csr_array(laplacian(matrix, "comb") + update)
    definite.eliminate_zeros()
    return definite


def _symmetric(A) -> scipy.sparse.csr_array:
    A = scipy.sparse.csr_array(sparse_matrix(A, "A", square=True).astype(np.float64))
    if A.shape[0] == 0:
        raise ValueError("A must have at least one row, got an empty matrix")
    A.sort_indices()
    if A.nnz and abs(A - A.T).max() > 1e-10 * abs(A).max():
        raise ValueError("A must be symmetric")
    if A.diagonal().min() <= 0:
        raise ValueError(f"A must be positive definite, got {A.diagonal().min():g} on its diagonal")
    return scipy.sparse.csr_array((A + A.T) / 2)


def _cycled(hierarchy: MatchingHierarchy, x: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x after one V-cycle for A x = b."""
    n, rows = len(x), hierarchy.starts[-1]
    on_all_levels, right = np.empty(rows), np.empty(rows)
    on_all_levels[:n], right[:n] = x, b
    v_cycle(hierarchy, on_all_levels, right)
    return on_all_levels[:n]
