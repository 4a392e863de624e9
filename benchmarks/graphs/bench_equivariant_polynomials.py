"""Contractions against NumPy's einsum on dense matrices, and against SciPy and networkx on a sparse graph."""

import networkx
import numpy as np
import scipy.sparse

from ritz.graphs import Motif, equivariant_polynomial, polynomial_basis
from ritz.studies import benchmark, compare
from ritz.studies.data.graphs import rmat

TRIANGLE = [(0, 1), (1, 2), (2, 0)]


def _einsum(motif: Motif):
    """The same sum as one call of einsum, its path chosen beforehand."""
    letters = "abcdefgh"
    terms = ",".join(letters[u] + letters[v] for u, v, _ in motif.edges)
    subscripts = f"{terms}->{''.join(letters[node] for node in motif.red)}"
    operands = [np.ones((100, 100))] * motif.degree
    path = np.einsum_path(subscripts, *operands, optimize="optimal")[0]
    return lambda A: np.einsum(subscripts, *[A] * motif.degree, optimize=path)


@benchmark
def all_motifs_of_degree_six():
    """Every simple connected motif of six edges without a red node, and with one, on a dense symmetric matrix of 100 rows; plans are cached."""
    A = np.random.default_rng(0).random((100, 100))
    A = (A + A.T) / 2
    for output in ("graph", "node"):
        motifs = [motif for motif in polynomial_basis(6, output) if motif.degree == 6]
        peers = [_einsum(motif) for motif in motifs]
        for motif in motifs:
            equivariant_polynomial(A, motif)
        yield compare(
            f"{len(motifs)} motifs of degree 6, {output}",
            lambda motifs=motifs: [equivariant_polynomial(A, motif) for motif in motifs],
            lambda peers=peers: [peer(A) for peer in peers],
            peer_name="numpy.einsum, optimal path",
            target=1.0,
        )


@benchmark
def triangles_of_a_sparse_graph():
    """Triangles on each edge, and through each node, of an R-MAT graph of 10^5 edges."""
    A = scipy.sparse.csr_array(rmat(14, 110_000, rng=0)).astype(np.float64)
    pair, node = Motif(TRIANGLE, red=(0, 1)), Motif(TRIANGLE, red=(0,))
    graph = networkx.from_scipy_sparse_array(A)
    yield compare(
        f"triangles on {A.nnz // 2} edges", lambda: equivariant_polynomial(A, pair), lambda: (A @ A).multiply(A), peer_name="SciPy", target=1 / 1.2
    )
    yield compare(
        "triangles through nodes", lambda: equivariant_polynomial(A, node), lambda: networkx.triangles(graph), peer_name="networkx", target=20.0
    )
