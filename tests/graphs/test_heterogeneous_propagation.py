"""Messages on heterogeneous graphs are those of dense algebra, in order; squashing keeps lengths and, on average, inner products."""

import copy

import numpy as np
import pytest
import torch
from specimens import Specimen
from torch_geometric.data import HeteroData

from ritz.graphs import RpHGNNPrecompute, heterogeneous_propagation, sparse_projection
from ritz.graphs.heterogeneous_propagation import squashed
from ritz.graphs.relation_operators import relation_matrices

WRITES, SHOWN = ("author", "writes", "paper"), ("paper", "shown", "venue")
SIZES = {"author": 9, "paper": 12, "venue": 4}
LENGTHS = {"author": 5, "paper": 6, "venue": 3}


def toy(seed: int = 0) -> HeteroData:
    """Three types, two relations, an edge that stands twice; the last node of each type has no edge."""
    generator = torch.Generator().manual_seed(seed)
    data = HeteroData({kind: {"x": torch.randn(SIZES[kind], LENGTHS[kind], generator=generator)} for kind in SIZES})
    for source, name, destination in (WRITES, SHOWN):
        ends = [torch.randint(SIZES[kind] - 1, (20,), generator=generator) for kind in (source, destination)]
        data[source, name, destination].edge_index = torch.stack(ends)
    return data


def dense_means(data) -> dict:
    """Mean-normalized dense matrices of all relations and their reverses."""
    counts = {relation: matrix.toarray() for relation, matrix in relation_matrices(data).items()}
    counts |= {(d, f"rev_{name}", s): matrix.T for (s, name, d), matrix in counts.items()}
    return {relation: matrix / np.maximum(matrix.sum(1, keepdims=True), 1) for relation, matrix in counts.items()}


def computed(data, target="paper", **options):
    done = RpHGNNPrecompute(target, **({"storage": "float32", "rng": 0} | options))(data)
    return dict(zip(done.rp_keys, done.rp_groups))


def homogeneous(n: int = 10) -> HeteroData:
    A = torch.triu(torch.rand(n, n, generator=torch.Generator().manual_seed(1)) < 0.3, 1)
    data = HeteroData({"node": {"x": torch.randn(n, 4, generator=torch.Generator().manual_seed(2))}})
    data["node", "to", "node"].edge_index = (A | A.T).nonzero().T
    return data


SPECIMENS = {
    "RpHGNNPrecompute": Specimen(
        lambda **options: RpHGNNPrecompute(**options)(toy()),
        lambda: {
            "target": "paper",
            "hops": 2,
            "dim": 4,
            "sparsity": 2.0,
            "norm": "sym",
            "even_odd": "all",
            "include_input": True,
            "squash_self": True,
            "feature_dim_random": 8,
            "target_projection": 3,
            "add_self_group": True,
            "alpha": 0.1,
            "add_reverse": True,
            "storage": "float32",
            "rng": 0,
        },
        spare=frozenset({"add_reverse"}),
        accepts={"dim": ("none",), "target_projection": ("none",), "rng": ("none",)},
    ),
}


def test_without_squashing_one_symmetric_relation_gives_powers_of_its_matrix(monkeypatch):
    monkeypatch.setattr(heterogeneous_propagation, "squashed", lambda messages, *_: messages[-1])
    data = homogeneous()
    groups = computed(data, "node", hops=2)
    relation = ("node", "to", "node")
    A, x = dense_means(data)[relation], data["node"].x.numpy()
    assert list(groups) == [("odd", relation), ("even", relation)]
    for step, (first, second) in {"odd": (1, 3), "even": (2, 4)}.items():
        group = groups[step, relation].numpy()
        np.testing.assert_allclose(group[:, 0], np.linalg.matrix_power(A, first) @ x, atol=1e-5)
        np.testing.assert_allclose(group[:, 1], np.linalg.matrix_power(A, second) @ x, atol=1e-5)


def test_odd_goes_along_a_relation_and_even_there_and_back():
    data = toy()
    x = {kind: data[kind].x.numpy() for kind in SIZES}
    means = dense_means(data)
    back, shown_back = ("paper", "rev_writes", "author"), ("venue", "rev_shown", "paper")
    groups = computed(data, hops=1)
    expected = {
        ("odd", WRITES): means[WRITES] @ x["author"],
        ("even", back): means[WRITES] @ means[back] @ x["paper"],
        ("odd", shown_back): means[shown_back] @ x["venue"],
        ("even", SHOWN): means[shown_back] @ means[SHOWN] @ x["paper"],
    }
    assert list(groups) == list(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(groups[key][:, 0].numpy(), value, atol=1e-5)


@pytest.mark.parametrize("kind", ["odd", "even", "all"])
@pytest.mark.parametrize("squash_self", [False, True])
def test_four_hops_equal_a_plain_dense_form_that_squashes_every_type(monkeypatch, kind, squash_self):
    """Types that no longer reach the target are left out without changing a value."""

    def plain(messages, dim, *_):
        mixtures = (message @ np.cos(np.arange(message.shape[1])[:, None] + np.arange(dim)) for message in messages)
        return sum(h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12) for h in mixtures).astype(np.float32)

    monkeypatch.setattr(heterogeneous_propagation, "squashed", plain)
    data = toy()
    x, means = {name: data[name].x.numpy() for name in SIZES}, dense_means(data)
    reverse = {r: next(o for o in means if {o[1], r[1]} in ({"writes", "rev_writes"}, {"shown", "rev_shown"}) and o != r) for r in means}
    groups = computed(data, hops=4, even_odd=kind, squash_self=squash_self)
    for hop in range(4):
        received = {name: {} for name in SIZES}
        for relation in means:
            odd = means[relation] @ x[relation[0]]
            if kind != "even":
                received[relation[2]]["odd", relation] = odd
            if kind != "odd":
                received[relation[0]]["even", relation] = means[reverse[relation]] @ odd
        assert set(groups) == set(received["paper"])
        for key, message in received["paper"].items():
            np.testing.assert_allclose(groups[key][:, hop].numpy(), message, atol=2e-5)
        x = {name: plain([*received[name].values(), *([x[name]] if squash_self else [])], LENGTHS[name]) for name in SIZES}


def test_the_number_of_groups_is_that_of_relations_in_and_out_at_any_number_of_hops():
    for hops in (1, 2, 5):
        groups = computed(toy(), hops=hops)
        assert len(groups) == 4
        assert all(group.shape[:2] == (12, hops) for group in groups.values())


def test_fewer_hops_are_the_first_of_more_bit_for_bit():
    many = computed(toy(), hops=4)
    for hops in (1, 2, 3):
        few = computed(toy(), hops=hops)
        assert all(torch.equal(few[key], many[key][:, :hops]) for key in few)


def test_projections_keep_inner_products_on_average():
    x, y = np.random.default_rng(0).standard_normal((2, 20))
    y += x
    estimates = [np.dot(*(np.stack([x, y]) @ sparse_projection(20, 128, 3.0, rng=seed).toarray())) / 128 for seed in range(200)]
    assert abs(np.mean(estimates) / np.dot(x, y) - 1) < 0.05


def test_squashing_adds_projected_rows_of_length_one():
    rng = np.random.default_rng(0)
    messages = [rng.standard_normal((2100, length)).astype(np.float32) for length in (7, 4)]
    messages[0][3] = 0
    one = squashed(messages[:1], 16, 3.0, [5])
    lengths = np.linalg.norm(one, axis=1)
    assert lengths[3] == 0
    np.testing.assert_allclose(np.delete(lengths, 3), 1, atol=1e-5)
    projected = [message @ sparse_projection(message.shape[1], 16, 3.0, rng=seed).toarray() for message, seed in zip(messages, (5, 6))]
    expected = sum(h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12) for h in projected)
    np.testing.assert_allclose(squashed(messages, 16, 3.0, [5, 6]), expected, atol=1e-5)


def test_renumbering_the_nodes_renumbers_the_rows():
    data = toy()
    orders = {kind: torch.randperm(SIZES[kind], generator=torch.Generator().manual_seed(3)) for kind in SIZES}
    renumbered = HeteroData({kind: {"x": data[kind].x[orders[kind]]} for kind in SIZES})
    for source, name, destination in (WRITES, SHOWN):
        ends = data[source, name, destination].edge_index
        renumbered[source, name, destination].edge_index = torch.stack(
            [torch.argsort(orders[kind])[end] for kind, end in zip((source, destination), ends)]
        )
    plain, turned = computed(data, hops=3), computed(renumbered, hops=3)
    for key, group in plain.items():
        torch.testing.assert_close(turned[key], group[orders["paper"]], atol=1e-5, rtol=0)


def test_nodes_without_neighbors_get_zeros():
    for group in computed(toy(), hops=3).values():
        assert torch.isfinite(group).all()
        assert not group[-1].any()


def test_self_groups_inputs_and_lengths():
    data = toy()
    groups = computed(data, hops=2, include_input=True, add_self_group=True)
    self_key = ("self", ("paper", "self", "paper"))
    assert [groups[key].shape[1] for key in groups] == [2, 3, 2, 3, 1]
    torch.testing.assert_close(groups["even", SHOWN][:, 0], data["paper"].x)
    torch.testing.assert_close(groups[self_key][:, 0], data["paper"].x)
    short = computed(toy(), hops=2, dim=7, target_projection=2, include_input=True)
    assert [tuple(group.shape[1:]) for group in short.values()] == [(2, 7), (3, 2), (2, 7), (3, 2)]
    lengths = short["even", SHOWN][:, 0].norm(dim=1)
    torch.testing.assert_close(lengths[lengths > 0], torch.ones(int((lengths > 0).sum())))


def test_alpha_one_sends_the_first_features_again_and_again():
    group = computed(toy(), hops=3, alpha=1.0)["odd", WRITES]
    torch.testing.assert_close(group[:, 2], group[:, 0])


def test_types_without_features_get_normal_ones():
    data = HeteroData({"a": {"num_nodes": 400}, "b": {"num_nodes": 400}})
    data["a", "is", "b"].edge_index = torch.arange(400).repeat(2, 1)
    x = computed(data, "b", hops=1, feature_dim_random=64)["odd", ("a", "is", "b")][:, 0]
    assert x.shape == (400, 64)
    assert abs(float(x.var()) * 64 - 1) < 0.05


def test_reverses_are_told_by_their_edges_and_added_where_missing():
    data = toy()
    data["paper", "by", "author"].edge_index = data[WRITES].edge_index.flip(0)[:, torch.randperm(20)]
    done = RpHGNNPrecompute("author", hops=1, rng=0)(data)
    assert done.rp_keys == [("odd", ("paper", "by", "author")), ("even", WRITES)]
    assert ("venue", "rev_shown", "paper") in done.edge_types
    assert ("venue", "rev_shown", "paper") not in data.edge_types
    one_way = homogeneous()
    one_way["node", "to", "node"].edge_index = torch.tensor([[0, 1], [1, 2]])
    keys = RpHGNNPrecompute("node", hops=1)(one_way).rp_keys
    assert keys == [(step, ("node", name, "node")) for step in ("odd", "even") for name in ("to", "rev_to")]


def test_symmetric_normalization():
    data = homogeneous()
    A = relation_matrices(data)["node", "to", "node"].toarray()
    half = np.where(A.sum(1) > 0, A.sum(1), np.inf) ** -0.5
    group = computed(data, "node", hops=1, norm="sym")["odd", ("node", "to", "node")]
    np.testing.assert_allclose(group[:, 0].numpy(), half[:, None] * A * half @ data["node"].x.numpy(), atol=1e-5)


def test_half_precision_is_clipped_with_a_warning():
    data = toy()
    data["author"].x = data["author"].x * 1e6
    with pytest.warns(UserWarning, match="clipped"):
        group = RpHGNNPrecompute("paper", hops=1, rng=0)(data).rp_groups[0]
    assert group.dtype == torch.float16
    assert torch.isfinite(group).all()
    exact = computed(data, hops=1)["odd", WRITES]
    torch.testing.assert_close(group.float(), exact.clamp(-65504, 65504), rtol=1e-3, atol=1e-3)


def test_bad_data_are_refused():
    transform = RpHGNNPrecompute("paper", hops=1)
    with pytest.raises(ValueError, match="target must be a node type"):
        RpHGNNPrecompute("field")(toy())
    with pytest.raises(ValueError, match="reverse of each relation"):
        RpHGNNPrecompute("paper", add_reverse=False)(toy())
    with pytest.raises(TypeError, match="add_reverse"):
        RpHGNNPrecompute("paper", add_reverse="no")
    alone = toy()
    alone["field"].x = torch.ones(2, 2)
    with pytest.raises(ValueError, match="relation of the target type"):
        RpHGNNPrecompute("field")(alone)
    for spoil, message in (
        (lambda data: setattr(data["venue"], "x", torch.ones(0, 3)), "none of type 'venue'"),
        (lambda data: setattr(data["venue"], "x", data["venue"].x * float("nan")), "venue.*finite"),
        (lambda data: setattr(data[SHOWN], "edge_index", data[SHOWN].edge_index + 3), "edge_index must number"),
        (lambda data: setattr(data[SHOWN], "edge_index", data[SHOWN].edge_index[0]), "edge_index must have shape"),
        (lambda data: setattr(data["venue", "rev_shown", "paper"], "edge_index", torch.tensor([[0], [0]])), "another relation of that name"),
    ):
        data = copy.copy(toy())
        spoil(data)
        with pytest.raises(ValueError, match=message):
            transform(data)
