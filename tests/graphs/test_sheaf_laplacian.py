"""Sheaf Laplacians equal delta^T delta, have the stated spectrum and symmetries, and their kernels are what the theory says."""

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch
from graphs.invariances import edges_of
from specimens import Specimen

from ritz.graphs import sheaf_energy, sheaf_laplacian
from ritz.graphs.edge_structure import edge_structure
from ritz.graphs.orthogonal_maps import PARAMETRIZATIONS, orthogonal_matrices
from ritz.graphs.sheaf_laplacian import inverse_root

PATH = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])
TURNS = np.stack([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in (0.1, 0.5, 1.0, 2.0)])

SPECIMENS = {
    "sheaf_laplacian": Specimen(
        sheaf_laplacian,
        lambda: {
            "edge_index": PATH.copy(),
            "maps": TURNS.copy(),
            "num_nodes": 3,
            "kind": "orthogonal",
            "normalized": True,
            "augmented": True,
            "edge_weight": np.ones(4),
        },
    ),
    "sheaf_energy": Specimen(
        sheaf_energy,
        lambda: {
            "edge_index": PATH.copy(),
            "maps": np.ones((4, 2)),
            "x": np.ones((3, 2)),
            "kind": "diagonal",
            "normalized": False,
            "augmented": True,
            "edge_weight": np.ones(4),
        },
    ),
}


def random_graph(n=12, probability=0.4, seed=0):
    return edges_of(nx.gnp_random_graph(n, probability, seed=seed)).numpy()


def random_maps(kind, edges, d, rng):
    if kind == "diagonal":
        return rng.standard_normal((edges, d))
    maps = rng.standard_normal((edges, d, d))
    return np.linalg.qr(maps)[0] if kind == "orthogonal" else maps


def full(maps):
    return np.stack([np.diag(row) for row in maps]) if maps.ndim == 2 else maps


def coboundary(edge_index, maps, n, weights=None):
    """delta, dense, from the definition: one block row for each undirected edge."""
    d, place = maps.shape[-1], {tuple(edge): k for k, edge in enumerate(edge_index.T)}
    rows = []
    for (v, u), k in place.items():
        if v < u:
            row = np.zeros((d, n * d))
            scale = 1.0 if weights is None else weights[k]
            row[:, v * d : (v + 1) * d] = scale * full(maps)[k]
            row[:, u * d : (u + 1) * d] = -scale * full(maps)[place[u, v]]
            rows.append(row)
    return np.concatenate(rows)


def symmetric_weights(edge_index, rng):
    table = rng.random((100, 100)) + 0.5
    return (table + table.T)[edge_index[0], edge_index[1]]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["diagonal", "orthogonal", "general"])
def test_equals_the_dense_definition(kind, weighted):
    rng, n, d = np.random.default_rng(0), 12, 3
    edge_index = random_graph(n)
    maps = random_maps(kind, edge_index.shape[1], d, rng)
    weights = symmetric_weights(edge_index, rng) if weighted else None
    delta = coboundary(edge_index, maps, n, weights)
    L = sheaf_laplacian(edge_index, maps, n, kind=kind, normalized=False, edge_weight=weights)
    assert scipy.sparse.issparse(L)
    assert L.blocksize == (d, d)
    np.testing.assert_allclose(L.toarray(), delta.T @ delta, atol=1e-12)
    D = scipy.linalg.block_diag(*[(delta.T @ delta)[i : i + d, i : i + d] for i in range(0, n * d, d)])
    for augmented in (True, False):
        root = np.linalg.inv(scipy.linalg.sqrtm(D + np.eye(n * d) * augmented).real)
        found = sheaf_laplacian(edge_index, maps, n, kind=kind, augmented=augmented, edge_weight=weights)
        np.testing.assert_allclose(found.toarray(), root @ delta.T @ delta @ root, atol=1e-10)
        in_torch = sheaf_laplacian(torch.from_numpy(edge_index), torch.from_numpy(maps), n, kind=kind, augmented=augmented, edge_weight=weights)
        assert in_torch.layout == torch.sparse_coo
        np.testing.assert_allclose(in_torch.to_dense().numpy(), found.toarray(), atol=1e-14)


@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize("kind", ["diagonal", "orthogonal", "general"])
def test_symmetric_with_eigenvalues_between_zero_and_two(kind, augmented):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        edge_index = random_graph(15, 0.2, seed)
        maps = random_maps(kind, edge_index.shape[1], 3, rng)
        L = sheaf_laplacian(edge_index, maps, 15, kind=kind, augmented=augmented).toarray()
        np.testing.assert_allclose(L, L.T, atol=1e-12)
        values = np.linalg.eigvalsh(L)
        assert values[0] > -1e-6
        assert values[-1] < 2 + 1e-6
        assert np.abs(L).max() <= 1 + 1e-12


@pytest.mark.parametrize("kind", ["diagonal", "orthogonal", "general"])
def test_energy_is_the_quadratic_form(kind):
    rng, n = np.random.default_rng(1), 12
    edge_index = random_graph(n)
    maps, weights = random_maps(kind, edge_index.shape[1], 2, rng), symmetric_weights(edge_index, rng)
    x = rng.standard_normal((n, 2, 4))
    for normalized in (False, True):
        options = {"kind": kind, "normalized": normalized, "edge_weight": weights}
        L = sheaf_laplacian(edge_index, maps, n, **options)
        columns = x.reshape(2 * n, 4)
        assert sheaf_energy(edge_index, maps, x, **options) == pytest.approx(np.sum(columns * (L @ columns)), rel=1e-10)
    assert isinstance(sheaf_energy(torch.from_numpy(edge_index), torch.from_numpy(maps), x, kind=kind), torch.Tensor)


def test_the_trivial_sheaf_is_the_graph_laplacian():
    graph = nx.karate_club_graph()
    edge_index, A = edges_of(graph).numpy(), nx.to_numpy_array(graph, weight=None)
    degrees = A.sum(1)
    for kind, ones in (("diagonal", np.ones((edge_index.shape[1], 1))), ("general", np.ones((edge_index.shape[1], 1, 1)))):
        np.testing.assert_allclose(sheaf_laplacian(edge_index, ones, 34, kind=kind, normalized=False).toarray(), np.diag(degrees) - A, atol=1e-14)
        root = np.diag((degrees + 1) ** -0.5)
        np.testing.assert_allclose(sheaf_laplacian(edge_index, ones, 34, kind=kind).toarray(), root @ (np.diag(degrees) - A) @ root, atol=1e-14)


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("d", [2, 3, 4, 6])
def test_parametrizations_are_orthogonal(parametrization, d):
    if parametrization == "euler" and d > 3:
        return
    parameters = torch.from_numpy(np.random.default_rng(d).uniform(-1, 1, (50, d * (d - 1) // 2))).requires_grad_()
    Q = orthogonal_matrices(parameters, d, parametrization)
    torch.testing.assert_close(Q.transpose(1, 2) @ Q, torch.eye(d, dtype=Q.dtype).expand_as(Q), rtol=0, atol=1e-12)
    sign = (-1) ** d if parametrization == "householder" else 1
    torch.testing.assert_close(torch.linalg.det(Q), torch.full((50,), float(sign), dtype=Q.dtype))
    assert torch.autograd.gradcheck(lambda p: orthogonal_matrices(p, d, parametrization), parameters[:2].detach().requires_grad_())
    in_float = orthogonal_matrices(parameters.float(), d, parametrization)
    torch.testing.assert_close(in_float.transpose(1, 2) @ in_float, torch.eye(d).expand_as(in_float), rtol=0, atol=1e-5)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_cayley_by_its_definition(d):
    parameters = torch.from_numpy(np.random.default_rng(d).standard_normal((7, d * (d - 1) // 2)))
    lower = torch.zeros(7, d, d, dtype=torch.float64)
    lower[:, *np.tril_indices(d, -1)] = parameters
    S, eye = lower - lower.transpose(1, 2), torch.eye(d, dtype=torch.float64)
    torch.testing.assert_close(orthogonal_matrices(parameters, d), torch.linalg.inv(eye - S / 2) @ (eye + S / 2))


def test_euler_angles_are_turns_about_z_y_and_x():
    a, b, c = 0.1, 0.2, -0.3
    from scipy.spatial.transform import Rotation

    expected = Rotation.from_euler("ZYX", 2 * np.pi * np.array([a, b, c])).as_matrix()
    np.testing.assert_allclose(orthogonal_matrices(torch.tensor([[a, b, c]], dtype=torch.float64), 3, "euler")[0].numpy(), expected, atol=1e-12)


def test_a_change_of_gauge_keeps_energy_and_spectrum():
    rng, n, d = np.random.default_rng(2), 12, 3
    edge_index = random_graph(n)
    maps, x = random_maps("orthogonal", edge_index.shape[1], d, rng), rng.standard_normal((n, d))
    Q = np.linalg.qr(rng.standard_normal((n, d, d)))[0]
    turned = maps @ Q[edge_index[0]].transpose(0, 2, 1)
    turned_x = np.einsum("nij,nj->ni", Q, x)
    for normalized in (False, True):
        options = {"kind": "orthogonal", "normalized": normalized}
        assert sheaf_energy(edge_index, turned, turned_x, **options) == pytest.approx(sheaf_energy(edge_index, maps, x, **options), rel=1e-10)
        spectra = [np.linalg.eigvalsh(sheaf_laplacian(edge_index, F, n, **options).toarray()) for F in (maps, turned)]
        np.testing.assert_allclose(*spectra, atol=1e-10)


def test_gradients_are_finite_where_blocks_are_multiples_of_the_identity():
    M = 2 * torch.eye(3, dtype=torch.float64).expand(4, 3, 3).clone()
    for augmented in (True, False):
        leaf = M.clone().requires_grad_()
        inverse_root(leaf, augmented=augmented).square().sum().backward()
        assert torch.isfinite(leaf.grad).all()
    generic = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 3, 3)))
    assert torch.autograd.gradcheck(lambda X: inverse_root(X @ X.transpose(1, 2) + M, augmented=True), generic.requires_grad_())
    edge_index = torch.from_numpy(random_graph())
    maps = torch.eye(3).expand(edge_index.shape[1], 3, 3).clone().requires_grad_()
    sheaf_laplacian(edge_index, maps, 12).to_dense().square().sum().backward()
    assert torch.isfinite(maps.grad).all()


def projected(L, x):
    """Where diffusion ends: the projection of x on the kernel of L."""
    values, vectors = np.linalg.eigh(L.toarray())
    kernel = vectors[:, values < 1e-9]
    return kernel @ (kernel.T @ x)


def two_classes(rng, n=60):
    """A connected heterophilic graph: edges within classes with probability 0.05, between them 0.3."""
    labels = np.arange(n) % 2
    probability = np.where(labels[:, None] == labels, 0.05, 0.3)
    upper = np.triu(rng.random((n, n)) < probability, 1)
    return np.stack(np.nonzero(upper | upper.T)), labels


def opposite(edge_index, labels):
    """Maps of one dimension, 1 and -1 at the ends of edges between classes and 1 elsewhere."""
    between = labels[edge_index[0]] != labels[edge_index[1]]
    return np.where(between & (edge_index[0] > edge_index[1]), -1.0, 1.0)[:, None]


def test_diffusion_on_the_oracle_sheaf_separates_heterophilic_classes_and_on_the_trivial_one_does_not():
    rng = np.random.default_rng(0)
    edge_index, labels = two_classes(rng)
    x = rng.standard_normal((60, 3))
    oracle = projected(sheaf_laplacian(edge_index, opposite(edge_index, labels), 60, kind="diagonal", normalized=False), x)
    assert len(np.unique(np.sign(oracle[labels == 0, 0]))) == 1
    assert np.all(np.sign(oracle[:, 0]) == np.sign(oracle[0, 0]) * np.where(labels == labels[0], 1, -1))
    trivial = projected(sheaf_laplacian(edge_index, np.ones((edge_index.shape[1], 1)), 60, kind="diagonal", normalized=False), x)
    np.testing.assert_allclose(trivial, np.broadcast_to(x.mean(0), (60, 3)), atol=1e-10)


def test_maps_of_equal_sign_cannot_separate_a_bipartite_graph_and_opposite_ones_can():
    graph = nx.complete_bipartite_graph(5, 7)
    edge_index, labels, rng = edges_of(graph).numpy(), np.repeat([0, 1], [5, 7]), np.random.default_rng(3)
    equal = symmetric_weights(edge_index, rng)[:, None] * np.sign(symmetric_weights(edge_index, rng) - 1.2)[:, None]
    x = rng.standard_normal((12, 1))
    np.testing.assert_allclose(projected(sheaf_laplacian(edge_index, equal, 12, kind="diagonal", normalized=False), x), x.mean(), atol=1e-10)
    limit = projected(sheaf_laplacian(edge_index, opposite(edge_index, labels), 12, kind="diagonal", normalized=False), x)[:, 0]
    assert np.all(np.sign(limit) == np.sign(limit[0]) * np.where(labels == 0, 1, -1))


def test_diagonal_maps_of_as_many_dimensions_separate_many_classes():
    rng, classes, n = np.random.default_rng(4), 4, 40
    edge_index, labels = random_graph(n, 0.3, 5), np.arange(n) % classes
    scale = 1 + np.eye(classes)  # harmonic signals of dimension c are twice as large on class c
    maps = 1 / scale[labels[edge_index[0]]]
    L = sheaf_laplacian(edge_index, maps, n, kind="diagonal", normalized=False)
    limit = projected(L, rng.standard_normal((n * classes, 1))).reshape(n, classes)
    relative = limit / limit.mean(0)
    np.testing.assert_array_equal(relative.argmax(1), labels)


def test_kernels_count_components_and_paths():
    rng, d = np.random.default_rng(5), 3
    graph = nx.disjoint_union(nx.cycle_graph(6), nx.complete_graph(4))
    edge_index = edges_of(graph).numpy()
    gauge = np.linalg.qr(rng.standard_normal((10, d, d)))[0]
    consistent, random = gauge[edge_index[0]], random_maps("orthogonal", edge_index.shape[1], d, rng)
    kernels = [
        int(np.sum(np.linalg.eigvalsh(sheaf_laplacian(edge_index, maps, 10, kind="orthogonal").toarray()) < 1e-9)) for maps in (consistent, random)
    ]
    assert kernels[0] == 2 * d
    assert kernels[1] < 2 * d


def test_isolated_nodes_and_graphs_without_edges():
    for kind, shape in (("diagonal", (2, 2)), ("general", (2, 2, 2)), ("orthogonal", (2, 2, 2))):
        maps = np.ones(shape) if kind != "orthogonal" else np.stack([np.eye(2)] * 2)
        for augmented in (True, False):
            L = sheaf_laplacian([[0, 2], [2, 0]], maps, 4, kind=kind, augmented=augmented).toarray()
            assert np.isfinite(L).all()
            assert not L[2:4].any()
        assert sheaf_laplacian(np.zeros((2, 0), dtype=int), maps[:0], 3, kind=kind).toarray().shape == (6, 6)


def test_order_of_edges_does_not_matter_and_structures_are_remembered():
    rng = np.random.default_rng(6)
    edge_index = random_graph()
    maps, order = random_maps("general", edge_index.shape[1], 2, rng), rng.permutation(edge_index.shape[1])
    first, second = sheaf_laplacian(edge_index, maps, 12), sheaf_laplacian(edge_index[:, order], maps[order], 12)
    np.testing.assert_allclose(first.toarray(), second.toarray(), atol=1e-14)
    tensor = torch.from_numpy(edge_index)
    known = edge_structure(tensor, 12)
    assert edge_structure(tensor, 12) is known
    assert edge_structure(tensor, 13) is not known
    tensor[:, [0, 1]] = tensor[:, [1, 0]]
    assert edge_structure(tensor, 12) is not known


@pytest.mark.parametrize(
    ("edge_index", "maps", "options", "message"),
    [
        ([[0, 1, 1], [1, 0, 1]], np.ones((3, 1)), {"kind": "diagonal"}, "edge_index must have no self-loops, got 1"),
        ([[0, 1, 1], [1, 0, 2]], np.ones((3, 1)), {"kind": "diagonal"}, "edge_index must hold both directions"),
        ([[0, 1, 0, 1], [1, 0, 1, 0]], np.ones((4, 1)), {"kind": "diagonal"}, "edge_index must hold each edge once"),
        ([[0, 3], [3, 0]], np.ones((2, 1)), {"kind": "diagonal"}, "edge_index must hold node numbers from 0 to 2"),
        (PATH, np.ones((4, 0)), {"kind": "diagonal"}, "maps must have shape"),
        (PATH, np.ones((4, 2, 3)), {}, "maps must have shape"),
        (PATH, np.ones((4, 1, 1)), {"kind": "orthogonal"}, "d of at least 2"),
        (PATH, np.ones((4, 2, 2)), {"kind": "orthogonal"}, "maps must be orthogonal"),
        (PATH, np.ones((4, 2, 2)), {"kind": "unitary"}, "kind"),
        (PATH, np.ones((4, 2, 2)), {"edge_weight": np.arange(4.0)}, "edge_weight must be the same"),
    ],
)
def test_bad_input_is_refused(edge_index, maps, options, message):
    with pytest.raises(ValueError, match=message):
        sheaf_laplacian(np.asarray(edge_index), maps, 3, **options)
