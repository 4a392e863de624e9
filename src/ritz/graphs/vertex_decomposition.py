"""Vertex-centric decomposition: personalized PageRank of a batch of sources from a few steps of their flow and the vectors of where it stands then.

With f_0 = e_u and f_{t+1} = (1 - c) W^T f_t, the vector of u is exactly p_u = c (f_0 + ... + f_{T-1}) + sum_v f_T(v) p_v for every T
(Jeh and Widom 2003). A batch shares one pass over the edges per step: at each vertex it keeps the flow of all its sources side by side, in a
slot that the vertex gets when flow first reaches it. Vertices are visited in ascending order, so that a source's sums, and with them what falls
below the threshold, do not depend on its company.
"""

from __future__ import annotations

import numpy as np
from numba import njit

BATCH = 32  # sources that share a pass over the edges: their flows fill whole cache lines
_SETTLED = 0  # layer of `held` with what has settled; layers 1 and 2 hold the flow that stands and that arrives, in turn


@njit(cache=True, nogil=True)
def decompose(graph, index, sources, restart_prob, iterations, threshold):
    """Return (entries per source, vertices in ascending order, their scores) of the answers for a batch of sources.

    Parameters
    ----------
    graph : (indptr, indices, probabilities)
        W, row-stochastic; an empty row means a jump to any vertex.
    index : (indptr, indices, shares)
        The vectors, exact or estimated, that stand for p_v; the identity lets the flow settle where it stands.
    sources : int (batch,)
    restart_prob, threshold : float
    iterations : int
        The T above. What a step settles or moves, and what the final sum adds, of a source in an amount below the threshold is dropped.
    """
    indptr, indices, probabilities = graph
    n, width = indptr.shape[0] - 1, sources.shape[0]
    slot_of, vertices, held, count = np.full(n, -1, dtype=np.int32), np.empty(0, dtype=indices.dtype), np.zeros((0, 3, width)), 0
    vertices, held = _with_room(vertices, held, width)
    for s in range(width):
        count = _take_slot(sources[s], slot_of, vertices, count)
        held[slot_of[sources[s]], 1, s] = 1.0
    flow, active, escaping = np.empty(width), np.empty(width, dtype=np.int64), np.empty(width)
    standing, arriving = 1, 2
    for _ in range(iterations):
        escaping[:] = 0.0
        for vertex in _ascending(slot_of, vertices[:count]):
            slot = slot_of[vertex]
            for s in range(width):
                settling = restart_prob * held[slot, standing, s]
                held[slot, _SETTLED, s] += settling if settling >= threshold else 0.0
                flow[s] = (1.0 - restart_prob) * held[slot, standing, s]
                held[slot, standing, s] = 0.0
            first, last = indptr[vertex], indptr[vertex + 1]
            if first == last:
                escaping += flow
            vertices, held = _with_room(vertices, held, min(n, count + last - first))
            count = _spread(flow, active, indices[first:last], probabilities[first:last], threshold, slot_of, vertices, held, count, arriving)
        escaping /= n
        if np.any((escaping > 0.0) & (escaping >= threshold)):
            vertices, held = _with_room(vertices, held, n)
            count = _jump(escaping, threshold, slot_of, vertices, held, count, arriving)
        standing, arriving = arriving, standing
    for vertex in _ascending(slot_of, vertices[:count]):
        slot = slot_of[vertex]
        for s in range(width):
            flow[s] = held[slot, standing, s] if held[slot, standing, s] >= threshold else 0.0
        first, last = index[0][vertex], index[0][vertex + 1]
        vertices, held = _with_room(vertices, held, min(n, count + last - first))
        count = _spread(flow, active, index[1][first:last], index[2][first:last], threshold, slot_of, vertices, held, count, _SETTLED)
    return _settled_rows(_ascending(slot_of, vertices[:count]), slot_of, held)


@njit(cache=True, nogil=True)
def _spread(flow, active, targets, shares, threshold, slot_of, vertices, held, count, layer):
    """Add share * flow to a layer of each target, source by source, where it reaches the threshold; return the number of slots then."""
    largest, flowing = 0.0, 0
    for s in range(flow.shape[0]):
        if flow[s] > 0.0:
            active[flowing] = s
            flowing += 1
            largest = max(largest, flow[s])
    if flowing == 0:
        return count
    few = 4 * flowing <= flow.shape[0]
    for e in range(targets.shape[0]):
        share = np.float64(shares[e])
        if largest * share < threshold:
            continue
        slot = slot_of[targets[e]]
        if slot < 0:
            slot = count
            count = _take_slot(targets[e], slot_of, vertices, count)
        if few:
            for k in range(flowing):
                moved = flow[active[k]] * share
                if moved >= threshold:
                    held[slot, layer, active[k]] += moved
        else:
            for s in range(flow.shape[0]):
                moved = flow[s] * share
                held[slot, layer, s] += moved if moved >= threshold else 0.0
    return count


@njit(cache=True, nogil=True)
def _jump(flow, threshold, slot_of, vertices, held, count, layer):
    """Add the flow to a layer of every vertex, source by source, where it reaches the threshold; return the number of slots then."""
    for vertex in range(slot_of.shape[0]):
        count = _take_slot(vertex, slot_of, vertices, count)
        for s in range(flow.shape[0]):
            held[slot_of[vertex], layer, s] += flow[s] if flow[s] >= threshold else 0.0
    return count


@njit(cache=True, nogil=True)
def _take_slot(vertex, slot_of, vertices, count):
    """Give a vertex the next slot, if it has none; return the number of slots then."""
    if slot_of[vertex] >= 0:
        return count
    slot_of[vertex], vertices[count] = count, vertex
    return count + 1


@njit(cache=True, nogil=True)
def _with_room(vertices, held, slots):
    """The tables with room for so many slots: themselves, or twice as large."""
    if slots <= vertices.shape[0]:
        return vertices, held
    capacity = max(slots, 2 * vertices.shape[0])
    more_vertices, more_held = np.empty(capacity, dtype=vertices.dtype), np.zeros((capacity, 3, held.shape[2]))
    more_vertices[: vertices.shape[0]], more_held[: vertices.shape[0]] = vertices, held
    return more_vertices, more_held


@njit(cache=True, nogil=True)
def _ascending(slot_of, vertices):
    """The vertices that have a slot, in ascending order: sorted where they are few, else read off the table of all."""
    if 16 * vertices.shape[0] < slot_of.shape[0]:
        return np.sort(vertices)
    ordered, k = np.empty_like(vertices), 0
    for vertex in range(slot_of.shape[0]):
        if slot_of[vertex] >= 0:
            ordered[k] = vertex
            k += 1
    return ordered


@njit(cache=True, nogil=True)
def _settled_rows(ordered, slot_of, held):
    """What has settled, as the rows of a sparse matrix."""
    width = held.shape[2]
    sizes = np.zeros(width, dtype=np.int64)
    for vertex in ordered:
        for s in range(width):
            sizes[s] += held[slot_of[vertex], _SETTLED, s] > 0.0
    place = np.cumsum(sizes) - sizes
    columns, scores = np.empty(sizes.sum(), dtype=ordered.dtype), np.empty(sizes.sum())
    for vertex in ordered:
        for s in range(width):
            if held[slot_of[vertex], _SETTLED, s] > 0.0:
                columns[place[s]], scores[place[s]] = vertex, held[slot_of[vertex], _SETTLED, s]
                place[s] += 1
    return sizes, columns, scores
