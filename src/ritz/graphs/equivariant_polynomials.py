"""Permutation-equivariant polynomials of a matrix, evaluated by tensor contraction: numbers, vectors and matrices that count maps of small graphs.

Puny, Lim, Kiani, Maron and Lipman, "Equivariant Polynomials for Graph Neural Networks", ICML 2023, arXiv:2302.11556, section 3.

The polynomial of a motif H sums, over all maps h of its nodes to 1..n that send the red ones to given places, the products of X[h(u), h(v)] over its
edges. Nodes that are not red are summed over one by one; a node whose edges lead to m others costs n^(m + 1).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.sparse

from ritz.core import Result, array, is_torch, sparse_matrix
from ritz.graphs.motifs import Motif, check_motif
from ritz.linalg import spgemm

DENSE_FILL = 0.25
MAX_MERGED = 5  # nodes up to which the partitions for injective maps are enumerated


@dataclass(frozen=True)
class ContractionPlan(Result):
    """The order in which the nodes of a motif that are not red are summed over, and the number of neighbors that each has by then.

    Attributes
    ----------
    order : tuple of int
        Nodes, as the motif numbers them.
    widths : tuple of int
        Their neighbors when their turn comes.
    """

    order: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def width(self) -> int:
        """The largest number of neighbors: intermediate tensors have so many axes."""
        return max(self.widths, default=0)

    def flops(self, n: int) -> int:
        """The number of multiply-adds for a matrix of n rows, up to a constant: the sum of n^(neighbors + 1)."""
        return sum(n ** (width + 1) for width in self.widths)


@cache
def contraction_plan(H: Motif) -> ContractionPlan:
    """Return the cheapest order of summation for large n, found by exhaustion over subsets of nodes.

    Examples
    --------
    >>> plan = contraction_plan(Motif([(0, 1), (1, 2), (2, 3), (3, 0)], red=(0, 2)))
    >>> plan.width, plan.flops(10)
    (2, 2000)
    """
    check_motif(H)
    free = frozenset(range(H.num_nodes)) - set(H.red)

    @cache
    def cheapest(left: frozenset) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Widths (sorted, largest first) and order for the nodes that are left."""
        if not left:
            return (), ()
        choices = []
        for node in left:
            widths, order = cheapest(left - {node})
            choices.append((tuple(sorted((_width(H, free - left, node), *widths), reverse=True)), (node, *order)))
        return min(choices)

    order = cheapest(free)[1]
    return ContractionPlan(order, tuple(_width(H, frozenset(order[:i]), node) for i, node in enumerate(order)))


def equivariant_polynomial(X, H: Motif):
    """Evaluate the polynomial of a motif at a matrix.

    Parameters
    ----------
    X : array or tensor (n, n) or (B, n, n), sparse array (n, n), or a sequence of them
        The matrix; a sequence has one for each channel of the motif's edges. Symmetric unless the motif is directed.
    H : Motif
        The motif.

    Returns
    -------
    number, (n,) or (n, n)
        By the number of red nodes, with a batch axis before if X has one; diagonal if both red nodes are the same. Of the kind of X: sparse where X
        is, unless more than a quarter is filled or the two red nodes are in different components.

    Raises
    ------
    ValueError, TypeError
        If X is not square, finite, or symmetric where it has to be, or H has more channels than X.

    Notes
    -----
    For a matrix of zeros and ones and no red node it is the number of homomorphisms of H to the graph. Sparse matrices are multiplied as such where
    no node has more than two neighbors at its turn, and only where a later factor keeps the product.

    Examples
    --------
    >>> A = np.ones((4, 4)) - np.eye(4)
    >>> float(equivariant_polynomial(A, Motif([(0, 1), (1, 2), (2, 0)])))
    24.0
    """
    check_motif(H)
    matrices = _checked(X, H)
    factors = list(_factors(matrices, H))
    if scipy.sparse.issparse(matrices[0]):
        return _contract_sparse(factors, H, matrices[0].shape[0])
    return _output(_contract(factors, contraction_plan(H).order), H, matrices[0])


def injective_polynomial(X, H: Motif):
    """Evaluate the sum over the injective maps of a motif's nodes, which counts its copies: another basis, for motifs of up to five nodes.

    By Moebius inversion over the partitions of the nodes: blocks of size s that become one node count (-1)^(s-1) (s-1)!.

    Parameters
    ----------
    X, H
        As for `equivariant_polynomial`.

    Raises
    ------
    ValueError
        As there, and if H has more than five nodes.

    Examples
    --------
    >>> A = np.ones((4, 4)) - np.eye(4)
    >>> float(injective_polynomial(A, Motif([(0, 1), (1, 2)])))
    24.0
    """
    check_motif(H)
    if H.num_nodes > MAX_MERGED:
        raise ValueError(f"H must have at most {MAX_MERGED} nodes, got {H.num_nodes}")
    total = None
    for blocks in _partitions(list(range(H.num_nodes))):
        weight = math.prod((-1) ** (len(block) - 1) * math.factorial(len(block) - 1) for block in blocks)
        term = weight * equivariant_polynomial(X, H.merged(blocks))
        total = term if total is None else total + term
    return total


def _width(H: Motif, gone: frozenset, node: int) -> int:
    """How many nodes that are not gone a node reaches directly or through those that are."""
    reached, frontier, border = {node}, [node], set()
    while frontier:
        for other in H.neighbors[frontier.pop()] - reached:
            reached.add(other)
            (frontier.append if other in gone else border.add)(other)
    return len(border)


def _checked(X, H: Motif) -> list:
    """The matrices of the channels, all dense or all CSR."""
    several = isinstance(X, list | tuple) and len(X) > 0 and (hasattr(X[0], "shape") or np.ndim(X[0]) == 2)
    matrices = [_checked_matrix(matrix, H) for matrix in (X if several else [X])]
    if H.num_channels > len(matrices):
        raise ValueError(f"X must have a matrix for each channel of H, {H.num_channels}, got {len(matrices)}")
    if any(matrix.shape != matrices[0].shape or scipy.sparse.issparse(matrix) != scipy.sparse.issparse(matrices[0]) for matrix in matrices):
        raise ValueError("X must have matrices of one kind and shape")
    return matrices


def _checked_matrix(X, H: Motif):
    if scipy.sparse.issparse(X):
        matrix = sparse_matrix(X, "X", square=True)
        difference = 0 if H.directed else abs(matrix - matrix.T).max()
        largest = abs(matrix).max() if matrix.nnz else 0
    else:
        matrix = array(X, "X", ndim=(2, 3))
        if matrix.shape[-1] != matrix.shape[-2]:
            raise ValueError(f"X must be square, got shape {tuple(matrix.shape)}")
        difference = 0 if H.directed else float(abs(matrix - matrix.swapaxes(-1, -2)).max())
        largest = float(abs(matrix).max())
    if difference > 1e-8 * largest:
        raise ValueError("X must be symmetric for a motif that is not directed")
    return matrix


def _factors(matrices: list, H: Motif) -> Iterator[tuple[tuple[int, ...], object]]:
    """What is multiplied, by the nodes of its axes: repeated edges as powers, loops as diagonals."""
    for (u, v, channel), count in Counter(H.edges).items():
        X = matrices[channel]
        if u == v:
            entries = X.diagonal() if scipy.sparse.issparse(X) else X.diagonal(0, -2, -1)
            yield (u,), entries**count
        elif scipy.sparse.issparse(X):
            yield (u, v), X if count == 1 else scipy.sparse.csr_array((X.data**count, X.indices, X.indptr), shape=X.shape)
        else:
            yield (u, v), X**count


def _contract(factors: list, order: Sequence[int]) -> list:
    """Sum over nodes in turn; what is left are factors of red nodes and numbers (no axis)."""
    for node in order:
        touching = _absorbed([factor for factor in factors if node in factor[0]])
        factors = [factor for factor in factors if node not in factor[0]]
        while len(touching) > 2:
            touching.sort(key=lambda factor: len(factor[0]))
            touching = [_product(touching[0], touching[1]), *touching[2:]]
        if len(touching) == 2:
            factors.append(_summed_product(*touching, node))
        elif touching:
            ((nodes, tensor),) = touching
            axis = nodes.index(node) - len(nodes)
            factors.append((nodes[:axis] + nodes[len(nodes) + axis + 1 :], tensor.sum(axis)))
    return factors


def _absorbed(factors: list) -> list:
    """Multiply each factor into one that has all of its axes, where there is one."""
    kept: list = []
    for nodes, tensor in sorted(factors, key=lambda factor: -len(factor[0])):
        for i, (larger, other) in enumerate(kept):
            if set(nodes) <= set(larger):
                kept[i] = larger, other * _aligned(nodes, tensor, larger)
                break
        else:
            kept.append((nodes, tensor))
    return kept


def _aligned(nodes: tuple, tensor, onto: tuple):
    """The tensor with the axes of other nodes, of length 1 where it has none; batch axes stay in front."""
    batch = tensor.ndim - len(nodes)
    present = [node for node in onto if node in nodes]
    tensor = _permuted(tensor, [*range(batch), *(batch + nodes.index(node) for node in present)])
    lengths = iter(tensor.shape[batch:])
    return tensor.reshape([*tensor.shape[:batch], *(next(lengths) if node in nodes else 1 for node in onto)])


def _permuted(tensor, axes: list[int]):
    return tensor.permute(axes) if is_torch(tensor) else tensor.transpose(axes)


def _product(first: tuple, second: tuple) -> tuple:
    nodes = tuple(dict.fromkeys([*first[0], *second[0]]))
    return nodes, _aligned(*first, nodes) * _aligned(*second, nodes)


def _summed_product(first: tuple, second: tuple, node: int) -> tuple:
    """Multiply two factors and sum over a node: a matrix product, batched over the axes that both have and keep."""
    shared = [other for other in first[0] if other in second[0] and other != node]
    left = [other for other in first[0] if other not in second[0]]
    right = [other for other in second[0] if other not in first[0]]
    F, G = _aligned(*first, (*shared, *left, node)), _aligned(*second, (*shared, node, *right))
    batch = F.ndim - len(first[0])
    front = [*F.shape[: batch + len(shared)]]
    n = F.shape[-1]
    product = F.reshape([*front, -1, n]) @ G.reshape([*front, n, -1])
    return (*shared, *left, *right), product.reshape([*front, *[n] * (len(left) + len(right))])


def _output(factors: list, H: Motif, X):
    """The product of what is left, with an axis for each red node; a pair that coincides makes a diagonal matrix."""
    red = tuple(dict.fromkeys(H.red))
    n = X.shape[-1]
    shape = [*X.shape[:-2], *[n] * len(red)]
    total = X.new_ones(shape) if is_torch(X) else np.ones(shape, dtype=X.dtype)
    for nodes, tensor in factors:
        total = total * _aligned(nodes, tensor, red)
    if len(H.red) > len(red):
        eye = X.new_ones(n).diag() if is_torch(X) else np.eye(n, dtype=X.dtype)
        return total[..., None] * eye
    return total


def _contract_sparse(factors: list, H: Motif, n: int):
    """As `_contract` for CSR matrices and vectors, as long as nothing fills up."""
    plan = contraction_plan(H)
    for i, node in enumerate(plan.order):
        if plan.widths[i] > 2 or any(scipy.sparse.issparse(tensor) and tensor.nnz > DENSE_FILL * n * n for _, tensor in factors):
            return _contract_densely(factors, plan.order[i:], H, n)
        factors = _without(node, _merged_sparse(factors))
    factors = _merged_sparse(factors)
    return _sparse_output(factors, H, n)


def _contract_densely(factors: list, order: Sequence[int], H: Motif, n: int):
    dense = [(nodes, tensor.toarray() if scipy.sparse.issparse(tensor) else tensor) for nodes, tensor in factors]
    return _output(_contract(dense, order), H, np.zeros((n, n)))


def _merged_sparse(factors: list) -> list:
    """One factor for each set of nodes; matrices have their axes in the order of the numbers."""
    merged: dict[tuple, object] = {}
    for nodes, tensor in factors:
        if len(nodes) == 2 and nodes[0] > nodes[1]:
            nodes, tensor = (nodes[1], nodes[0]), scipy.sparse.csr_array(tensor.T)
        if nodes not in merged:
            merged[nodes] = tensor
        else:
            merged[nodes] = scipy.sparse.csr_array(merged[nodes].multiply(tensor)) if len(nodes) == 2 else merged[nodes] * tensor
    return list(merged.items())


def _without(node: int, factors: list) -> list:
    """Sum over a node with at most two neighbors."""
    matrices = [(nodes, matrix) for nodes, matrix in factors if node in nodes and len(nodes) == 2]
    vectors = [vector for nodes, vector in factors if nodes == (node,)]
    rest = [factor for factor in factors if node not in factor[0]]
    oriented = [
        (nodes[0] if nodes[1] == node else nodes[1], matrix if nodes[1] == node else scipy.sparse.csr_array(matrix.T)) for nodes, matrix in matrices
    ]
    if not oriented:
        return [*rest, ((), vectors[0].sum())] if vectors else rest
    weights = vectors[0] if vectors else None
    first, A = oriented[0]
    if len(oriented) == 1:
        return [*rest, ((first,), A @ (np.ones(A.shape[1]) if weights is None else weights))]
    second, B = oriented[1]
    if weights is not None:
        A = scipy.sparse.csr_array(A * weights[None, :])
    pair = (first, second) if first < second else (second, first)
    kept = next((matrix for nodes, matrix in rest if nodes == pair), None)
    product = spgemm(A, scipy.sparse.csr_array(B.T), mask=None if kept is None else kept if first < second else scipy.sparse.csr_array(kept.T))
    return [*rest, ((first, second), product)]


def _sparse_output(factors: list, H: Motif, n: int):
    red = tuple(dict.fromkeys(H.red))
    number = math.prod(float(tensor) for nodes, tensor in factors if nodes == ())
    if not red:
        return number
    vectors = {node: np.ones(n) for node in red} | {nodes[0]: vector for nodes, vector in factors if len(nodes) == 1}
    if len(red) == 1:
        vector = number * vectors[red[0]]
        return vector if len(H.red) == 1 else scipy.sparse.diags_array(vector, format="csr")
    matrix = next((tensor if nodes == red else tensor.T for nodes, tensor in factors if len(nodes) == 2), None)
    left, right = number * vectors[red[0]], vectors[red[1]]
    if matrix is None:
        return np.outer(left, right)
    scaled = scipy.sparse.diags_array(left) @ matrix @ scipy.sparse.diags_array(right)
    return scaled.toarray() if scaled.nnz > DENSE_FILL * n * n else scipy.sparse.csr_array(scaled)


def _partitions(nodes: list[int]) -> Iterator[list[list[int]]]:
    if not nodes:
        yield []
        return
    first, rest = nodes[0], nodes[1:]
    for size in range(len(rest) + 1):
        for others in itertools.combinations(rest, size):
            for tail in _partitions([node for node in rest if node not in others]):
                yield [[first, *others], *tail]
