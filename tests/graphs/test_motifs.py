"""Motifs are equal if a renaming makes them so; their numbers, and which of them networks can compute, are known."""

import itertools
from collections import Counter

import numpy as np
import pytest
from specimens import Specimen

from ritz.graphs import Motif, is_computable, polynomial_basis

TRIANGLE = [(0, 1), (1, 2), (2, 0)]
K4 = list(itertools.combinations(range(4), 2))

SPECIMENS = {
    "Motif": Specimen(Motif, lambda: {"edges": TRIANGLE, "red": (0,), "directed": False, "allow_large": False}, spare=frozenset({"edges", "red"})),
    "polynomial_basis": Specimen(
        lambda **options: polynomial_basis(**options),
        lambda: {"degree": 2, "output": "pair", "connected": True, "simple": True, "max_nodes": 4},
        accepts={"max_nodes": ("none",)},
    ),
    "is_computable": Specimen(is_computable, lambda: {"H": Motif(TRIANGLE), "bank": "ppgn"}, spare=frozenset({"H"})),
}

# by number of edges, from 1: simple connected motifs with no red node, one, and an ordered pair; and those that products of matrices cannot compute
NUMBERS = {"graph": [1, 1, 3, 5, 12, 30], "node": [1, 2, 5, 13, 37, 114], "pair": [1, 3, 10, 35, 125, 460]}
BEYOND_PPGN = {"graph": [0, 0, 0, 0, 0, 1], "node": [0, 0, 0, 0, 0, 1], "pair": [0, 0, 0, 0, 1, 9]}
SEVEN = {"graph": (56, 2), "node": (252, 6), "pair": (1135, 69)}  # of at most seven nodes


@pytest.mark.parametrize("output", NUMBERS)
def test_numbers_of_motifs_and_of_those_beyond_matrix_products(output):
    motifs = polynomial_basis(7, output, max_nodes=7)
    counts = Counter(motif.degree for motif in motifs)
    beyond = Counter(motif.degree for motif in motifs if not is_computable(motif, "ppgn"))
    assert [counts[k] for k in range(1, 7)] == NUMBERS[output]
    assert [beyond[k] for k in range(1, 7)] == BEYOND_PPGN[output]
    assert (counts[7], beyond[7]) == SEVEN[output]


def test_the_one_pair_motif_of_degree_five_is_k4_without_the_red_edge():
    beyond = [motif for motif in polynomial_basis(5, "pair") if not is_computable(motif, "ppgn")]
    assert beyond == [Motif([edge for edge in K4 if edge != (0, 1)], red=(0, 1))]


@pytest.mark.parametrize("directed", [False, True])
def test_a_renaming_changes_nothing_and_other_changes_do(directed):
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(2, 7))
        edges = [tuple(map(int, edge)) for edge in rng.integers(n, size=(int(rng.integers(1, 9)), 2))]
        red = tuple(map(int, rng.integers(n, size=2)))
        order = rng.permutation(n).tolist()
        renamed = [(order[u], order[v]) if directed or rng.random() < 0.5 else (order[v], order[u]) for u, v in rng.permutation(edges).tolist()]
        motif = Motif(edges, red, directed=directed)
        same = Motif(renamed, [order[node] for node in red], directed=directed)
        assert motif == same
        assert hash(motif) == hash(same)
        assert motif != Motif([*edges, edges[0]], red, directed=directed)


def test_red_nodes_directions_and_channels_tell_motifs_apart():
    path = [(0, 1), (1, 2)]
    assert Motif(path, red=(0,)) != Motif(path, red=(1,))
    assert Motif(path, red=(0, 2)) == Motif(path, red=(2, 0))
    assert Motif(path, red=(0, 1)) != Motif(path, red=(1, 0))
    assert Motif(path, red=(1, 1)) != Motif(path, red=(1,))
    assert Motif([(0, 1)], red=(0, 1), directed=True) != Motif([(1, 0)], red=(0, 1), directed=True)
    assert Motif([(0, 1, 0), (1, 2, 1)], red=(0,)) != Motif([(0, 1, 1), (1, 2, 0)], red=(0,))


def test_what_message_passing_and_matrix_products_can_compute():
    for size in (3, 4, 5, 6):
        cycle = [(i, (i + 1) % size) for i in range(size)]
        assert not is_computable(Motif(cycle), "mpnn")
        assert is_computable(Motif(cycle), "ppgn")
    for red in ((), (0,), (0, 1)):
        assert not is_computable(Motif(K4, red), "ppgn")
    tree = [(0, 1), (1, 2), (1, 3), (3, 4)]
    assert all(is_computable(Motif(tree, red), "mpnn") for red in ((), (0,), (1,)))
    wheel_without_a_spoke = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 0), (4, 1)]  # of treewidth 2
    assert is_computable(Motif(wheel_without_a_spoke), "ppgn")
    assert is_computable(Motif([(0, 1), (0, 1)]), "mpnn")  # two edges between the same nodes are one neighbor


def test_the_basis_with_everything_has_products_loops_and_repeats():
    everything = polynomial_basis(2, "graph", connected=False, simple=False)
    expected = {
        Motif([(0, 0)]),
        Motif([(0, 1)]),
        Motif([(0, 0), (0, 0)]),
        Motif([(0, 0), (1, 1)]),
        Motif([(0, 0), (0, 1)]),
        Motif([(0, 0), (1, 2)]),
        Motif([(0, 1), (0, 1)]),
        Motif([(0, 1), (1, 2)]),
        Motif([(0, 1), (2, 3)]),
    }
    assert set(everything) == expected
    assert Motif([("c", "d")], red=("a", "b")) in polynomial_basis(1, "pair", connected=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "must not be empty"),
        (([(0, 1)], (0, 1, 1)), "at most two nodes"),
        (([(i, i + 1) for i in range(7)],), "allow_large=True"),
        (([(0,)],), "pairs"),
        (([(0, 1, -1)],), "channel"),
    ],
)
def test_what_is_no_motif_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Motif(*arguments)


def test_large_motifs_have_to_be_asked_for_and_message_passing_has_no_pairs():
    assert Motif([(i, i + 1) for i in range(8)], allow_large=True).num_nodes == 9
    with pytest.raises(ValueError, match="H must have at most one red node"):
        is_computable(Motif(TRIANGLE, red=(0, 1)), "mpnn")
