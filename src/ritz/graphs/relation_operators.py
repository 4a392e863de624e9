"""The relations of a heterogeneous graph as matrices, each with its reverse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import scipy.sparse

from ritz.core import to_numpy

RelationKey = tuple[str, str, str]  # (source type, relation, destination type)


def node_count(data, kind: str) -> int:
    """Return the number of nodes of a type.

    Raises
    ------
    ValueError
        If it is not known, or zero.
    """
    count = data[kind].num_nodes
    if not count:
        raise ValueError(f"data must have nodes of every type, got {'no number of nodes' if count is None else 'none'} of type '{kind}'")
    return int(count)


def relation_matrices(data) -> dict[RelationKey, scipy.sparse.csr_array]:
    """Return for each relation the numbers of edges (destinations, sources), float64: an edge that stands twice counts twice.

    Raises
    ------
    ValueError
        If an edge names a node that is not there, or a type has no node.
    """
    counts = {kind: node_count(data, kind) for kind in data.node_types}
    return {relation: _edge_counts(data[relation].edge_index, relation, counts[relation[0]], counts[relation[2]]) for relation in data.edge_types}


def reverses(matrices: Mapping[RelationKey, scipy.sparse.csr_array]) -> dict[RelationKey, RelationKey]:
    """Pair relations whose matrices are each other's transposes, in the order given, both ways; a symmetric relation is its own reverse.

    Of several candidates the one that is called "rev_" and the relation's name comes first. Relations without a reverse are left out.
    """
    found: dict[RelationKey, RelationKey] = {}
    for relation, matrix in matrices.items():
        if relation not in found:
            match = next((other for other in _candidates(relation, matrices, found) if _equal(matrices[other], matrix.T)), None)
            if match is not None:
                found |= {relation: match, match: relation}
    return found


def add_reverses(data, matrices: dict[RelationKey, scipy.sparse.csr_array]) -> dict[RelationKey, RelationKey]:
    """Add the relation "rev_r" to the data and its matrix, for each relation r without a reverse; return the reverse of each relation.

    Raises
    ------
    ValueError
        If a relation of that name is there already and is not the reverse.
    """
    found = reverses(matrices)
    for relation in [relation for relation in matrices if relation not in found]:
        source, name, destination = relation
        added = (destination, f"rev_{name}", source)
        if added in matrices:
            raise ValueError(f"data must have the reverse of {relation} under the name {added}, got another relation of that name")
        data[added].edge_index = data[relation].edge_index.flip(0)
        matrices[added] = scipy.sparse.csr_array(matrices[relation].T)
        found |= {relation: added, added: relation}
    return found


def relation_pairs(reverse: Mapping[RelationKey, RelationKey]) -> Iterator[tuple[RelationKey, ...]]:
    """Yield each relation with its reverse once: one key where they are the same."""
    seen = set()
    for relation, other in reverse.items():
        if relation not in seen:
            seen |= {relation, other}
            yield (relation,) if relation == other else (relation, other)


def normalized(matrix: scipy.sparse.csr_array, norm: str) -> scipy.sparse.csr_array:
    """Return D_dst^-1 A ("mean") or D_dst^-1/2 A D_src^-1/2 ("sym"); rows of nodes without neighbors stay zero."""
    rows, columns = (_inverse(matrix.sum(axis=axis)) for axis in (1, 0))
    if norm == "mean":
        return scipy.sparse.csr_array(matrix * rows[:, None])
    return scipy.sparse.csr_array(matrix * np.sqrt(rows)[:, None] * np.sqrt(columns)[None, :])


def _edge_counts(edge_index, relation: RelationKey, sources: int, destinations: int) -> scipy.sparse.csr_array:
    edges = to_numpy(edge_index, f"data[{relation}].edge_index")
    if edges.ndim != 2 or edges.shape[0] != 2:
        raise ValueError(f"data[{relation}].edge_index must have shape (2, edges), got {edges.shape}")
    if edges.size and (edges.min() < 0 or edges[0].max() >= sources or edges[1].max() >= destinations):
        raise ValueError(f"data[{relation}].edge_index must number the {sources} sources and {destinations} destinations from 0")
    return scipy.sparse.csr_array((np.ones(edges.shape[1]), (edges[1], edges[0])), shape=(destinations, sources))


def _candidates(relation: RelationKey, matrices, taken) -> list[RelationKey]:
    source, name, destination = relation
    opposite = [other for other in matrices if other not in taken and (other[2], other[0]) == (source, destination)]
    return sorted(opposite, key=lambda other: (other != relation, other[1] != f"rev_{name}" and name != f"rev_{other[1]}"))


def _equal(first, second) -> bool:
    return first.nnz == second.nnz and abs(first - second).max() == 0 if first.nnz else second.nnz == 0


def _inverse(values: np.ndarray) -> np.ndarray:
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)
