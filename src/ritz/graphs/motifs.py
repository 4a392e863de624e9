"""Small graphs with red nodes: the labels of the equivariant polynomials of a graph, and which of them a graph network can compute.

Puny, Lim, Kiani, Maron and Lipman, "Equivariant Polynomials for Graph Neural Networks", ICML 2023, arXiv:2302.11556, sections 3 and 4.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import cache, cached_property

from ritz.core import choice, flag, integer

MAX_NODES = 7  # beyond which a motif has to be asked for expressly


class Motif:
    """A small multigraph with 0, 1 or 2 ordered red nodes, in canonical form: motifs that differ by a renaming are equal, and hash alike.

    Parameters
    ----------
    edges : sequence of (u, v) or (u, v, channel)
        Pairs of node names; repeated pairs and loops are welcome. The channel (0 if missing) tells which of several matrices an edge stands for.
    red : sequence of at most two node names
        The nodes that are not summed over: none for a number, one for a vector, two for a matrix; twice the same for a diagonal matrix. A red node
        may have no edge.
    directed : bool
        True tells (u, v) from (v, u); needed for matrices that are not symmetric.
    allow_large : bool
        Permit more than seven nodes.

    Attributes
    ----------
    edges : tuple of (int, int, int)
        Sorted; nodes are 0 to num_nodes - 1, red ones first.
    red : tuple of int
        The red nodes.

    Raises
    ------
    ValueError
        If there are more than two red nodes, more than seven nodes, or no node at all.

    Examples
    --------
    >>> Motif("ab bc ca".split()) == Motif([(1, 2), (3, 2), (1, 3)])
    True
    """

    def __init__(self, edges: Iterable[Sequence[Hashable]], red: Sequence[Hashable] = (), *, directed: bool = False, allow_large: bool = False):
        self.directed = flag(directed, "directed")
        flag(allow_large, "allow_large")
        edges = [_edge(edge) for edge in edges]
        red = tuple(red)
        if len(red) > 2:
            raise ValueError(f"red must name at most two nodes, got {len(red)}")
        names = list(dict.fromkeys([*red, *(end for u, v, _ in edges for end in (u, v))]))
        if not names:
            raise ValueError("edges must not be empty where there is no red node")
        if len(names) > MAX_NODES and not allow_large:
            raise ValueError(f"edges: a motif of {len(names)} nodes costs much to contract; pass allow_large=True for more than {MAX_NODES}")
        number = {name: i for i, name in enumerate(names)}
        numbered = tuple((number[u], number[v], channel) for u, v, channel in edges)
        self.num_nodes = len(names)
        self.edges, self.red = _canonical(len(names), numbered, tuple(number[name] for name in red), self.directed)

    @property
    def degree(self) -> int:
        """The number of edges, which is the degree of the polynomial."""
        return len(self.edges)

    @property
    def num_channels(self) -> int:
        """How many matrices its edges speak of."""
        return 1 + max((channel for _, _, channel in self.edges), default=0)

    @cached_property
    def neighbors(self) -> tuple[frozenset[int], ...]:
        """The distinct other nodes that each node is joined with."""
        joined = [set() for _ in range(self.num_nodes)]
        for u, v, _ in self.edges:
            if u != v:
                joined[u].add(v)
                joined[v].add(u)
        return tuple(map(frozenset, joined))

    @property
    def is_simple(self) -> bool:
        """True without loops and repeated edges."""
        return all(u != v for u, v, _ in self.edges) and len({frozenset(edge[:2]) for edge in self.edges}) == len(self.edges)

    @property
    def is_connected(self) -> bool:
        """True if it is one component."""
        reached, frontier = {0}, [0]
        while frontier:
            new = self.neighbors[frontier.pop()] - reached
            reached |= new
            frontier += new
        return len(reached) == self.num_nodes

    def merged(self, blocks: Sequence[Sequence[int]]) -> Motif:
        """The motif in which each block of nodes has become one; edges inside a block become loops."""
        block_of = {node: i for i, block in enumerate(blocks) for node in block}
        edges = [(block_of[u], block_of[v], channel) for u, v, channel in self.edges]
        return Motif(edges, [block_of[node] for node in self.red], directed=self.directed, allow_large=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Motif) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        edges = ", ".join(f"({u}, {v}, {channel})" if self.num_channels > 1 else f"({u}, {v})" for u, v, channel in self.edges)
        return f"Motif([{edges}], red={self.red}{', directed=True' if self.directed else ''})"

    @property
    def _key(self) -> tuple:
        return self.num_nodes, self.edges, self.red, self.directed


def polynomial_basis(degree: int, output: str = "graph", connected: bool = True, simple: bool = True, *, max_nodes: int | None = None) -> list[Motif]:
    """Return the motifs of 1 to `degree` edges, one of each kind: a basis of the equivariant polynomials of a symmetric matrix.

    Parameters
    ----------
    degree : int
        The largest number of edges.
    output : {"graph", "node", "pair"}
        No red node, one, or an ordered pair of distinct ones. Diagonal matrices are the "node" motifs.
    connected : bool
        False adds motifs of several components, products of connected ones, red nodes without edges among them. (Products belong to the basis of all
        polynomials; as features they say nothing new.)
    simple : bool
        False adds repeated edges and loops, which a matrix of zeros and ones with an empty diagonal does not need.
    max_nodes : int, optional
        The largest number of nodes; none by default.

    Notes
    -----
    Cost grows steeply: up to six simple edges take about a second, seven several.

    Examples
    --------
    >>> [len(polynomial_basis(3, output)) for output in ("graph", "node", "pair")]
    [5, 8, 14]
    """
    degree = integer(degree, "degree", at_least=1)
    choice(output, "output", ["graph", "node", "pair"])
    flag(connected, "connected")
    flag(simple, "simple")
    limit = degree * 2 + 2 if max_nodes is None else integer(max_nodes, "max_nodes", at_least=2)
    reds = {"graph": 0, "node": 1, "pair": 2}[output]
    found: dict[Motif, None] = {}
    for edges, nodes in _graphs(degree, connected, simple, limit):
        free = nodes if connected else min(limit, nodes + reds)  # red nodes without edges come after the others
        for red in itertools.permutations(range(free), reds):
            found[Motif(edges, red, allow_large=True)] = None
    return sorted(found, key=lambda motif: (motif.degree, motif.num_nodes))


def is_computable(H: Motif, bank: str = "mpnn") -> bool:
    """Whether a graph network can compute a motif's polynomial: whether its nodes can be removed one by one until only red ones are left.

    Parameters
    ----------
    H : Motif
        The motif.
    bank : {"mpnn", "ppgn"}
        Message passing removes leaves (nodes with at most one neighbor) and has no pair output; products of matrices remove nodes with at most two,
        which are then joined.

    Raises
    ------
    ValueError
        If a pair output is asked of message passing.

    Examples
    --------
    >>> triangle = Motif([(0, 1), (1, 2), (2, 0)])
    >>> is_computable(triangle, "mpnn"), is_computable(triangle, "ppgn")
    (False, True)
    """
    choice(bank, "bank", ["mpnn", "ppgn"])
    check_motif(H)
    if bank == "mpnn" and len(set(H.red)) == 2:
        raise ValueError("H must have at most one red node for the bank 'mpnn', whose outputs are numbers and vectors")
    allowed = 1 if bank == "mpnn" else 2
    neighbors = [set(joined) for joined in H.neighbors]
    left = set(range(H.num_nodes)) - set(H.red)
    while removable := [node for node in left if len(neighbors[node]) <= allowed]:
        node = removable[0]
        left.remove(node)
        for other in neighbors[node]:
            neighbors[other] |= neighbors[node]
            neighbors[other] -= {node, other}
    return not left


def check_motif(H: object) -> None:
    """Refuse what is no motif."""
    if not isinstance(H, Motif):
        raise TypeError(f"H must be a Motif, got {type(H).__name__}")


def _edge(edge: Sequence[Hashable]) -> tuple[Hashable, Hashable, int]:
    edge = tuple(edge)
    if len(edge) not in (2, 3):
        raise ValueError(f"edges must be pairs (u, v) or triples (u, v, channel), got {edge}")
    return edge[0], edge[1], integer(edge[2], "edges: a channel", at_least=0) if len(edge) == 3 else 0


def _graphs(degree: int, connected: bool, simple: bool, limit: int) -> Iterable[tuple[tuple, int]]:
    """Yield the edges and the number of nodes of each graph without red nodes, grown edge by edge: a last edge can always be taken away."""
    level = {Motif([(0, 1)])} | (set() if simple else {Motif([(0, 0)])})
    for size in range(1, degree + 1):
        yield from ((motif.edges, motif.num_nodes) for motif in level)
        if size < degree:
            level = {Motif(edges, allow_large=True) for motif in level for edges in _grown(motif, connected, simple, limit)}


def _grown(motif: Motif, connected: bool, simple: bool, limit: int) -> Iterable[list]:
    n = motif.num_nodes
    pairs = itertools.combinations(range(n), 2) if simple else itertools.combinations_with_replacement(range(n), 2)
    new = [(u, v) for u, v in pairs if not (simple and v in motif.neighbors[u])]
    if n + 1 <= limit:
        new += [(u, n) for u in range(n)]
        if not connected and not simple:
            new.append((n, n))
    if n + 2 <= limit and not connected:
        new.append((n, n + 1))
    return ([*motif.edges, pair] for pair in new)


@cache
def _canonical(n: int, edges: tuple, red: tuple[int, ...], directed: bool) -> tuple[tuple, tuple[int, ...]]:
    """The least edge list over the numberings that colour refinement, with one node of a tied class singled out after the other, leaves."""
    between: dict[tuple[int, int], list] = {}
    for u, v, channel in edges:
        between.setdefault((u, v), []).append((0, channel))
        between.setdefault((v, u), []).append((int(directed), channel))
    labels = {pair: tuple(sorted(marks)) for pair, marks in between.items()}
    around = [sorted((v, label) for (u, v), label in labels.items() if u == node) for node in range(n)]
    roles = [tuple(red.index(node) if i == red.index(node) else i for i, r in enumerate(red) if r == node) for node in range(n)]
    ranks = {role: i for i, role in enumerate(sorted(set(roles), key=lambda role: (not role, role)))}
    leaves = (_numbered(order, edges, directed) for order in _discrete([ranks[role] for role in roles], around))
    best, order = min(leaves, key=lambda leaf: leaf[0])
    return best, tuple(order[node] for node in red)


def _numbered(order: list[int], edges: tuple, directed: bool) -> tuple[tuple, list[int]]:
    renamed = ((order[u], order[v], channel) for u, v, channel in edges)
    return tuple(sorted(edge if directed or edge[0] <= edge[1] else (edge[1], edge[0], edge[2]) for edge in renamed)), order


def _discrete(colors: list[int], around: list[list]) -> Iterable[list[int]]:
    """Yield the numberings of the nodes that refinement and singling out lead to; of nodes that can be swapped only the first is singled out."""
    colors = _refined(colors, around)
    tied = [color for color, count in sorted(Counter(colors).items()) if count > 1]
    if not tied:
        yield colors
        return
    tried: list[int] = []
    for node in (node for node, color in enumerate(colors) if color == tied[0]):
        if any(_are_twins(node, other, around) for other in tried):
            continue
        tried.append(node)
        yield from _discrete([2 * color + (color == tied[0] and other != node) for other, color in enumerate(colors)], around)


def _refined(colors: list[int], around: list[list]) -> list[int]:
    """Colour refinement: nodes keep one colour as long as they see the same colours; colours end as 0, 1, ... in an order of their own."""
    while True:
        seen = [(color, tuple(sorted((label, colors[other]) for other, label in joined))) for color, joined in zip(colors, around)]
        ranks = {view: i for i, view in enumerate(sorted(set(seen)))}
        refined = [ranks[view] for view in seen]
        if len(ranks) == len(set(colors)):
            return refined
        colors = refined


def _are_twins(u: int, v: int, around: list[list]) -> bool:
    """Whether swapping two nodes changes nothing."""
    swap = {u: v, v: u}
    return sorted((swap.get(other, other), label) for other, label in around[u]) == around[v]
