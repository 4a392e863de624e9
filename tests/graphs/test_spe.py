"""SPE is a function of the Laplacian: indifferent to bases and order, stable, and it tells apart what colour refinement confuses."""

import networkx as nx
import numpy as np
import pytest
import torch
from graphs.invariances import bicyclopentyl, decalin, edges_of, random_basis_change, random_order, relabelled, rook, two_triangles
from specimens import Specimen
from torch_geometric.data import Batch, Data

from ritz.graphs import SPE, LaplacianEigenpairs, laplacian
from ritz.graphs import spe as spe_module


def _data(graph: nx.Graph, k: int, dtype=torch.float64) -> Data:
    """Eigenpairs in full precision, padded to k."""
    values, vectors = np.linalg.eigh(laplacian(graph, "sym").toarray())
    d = min(k, len(graph))
    eigval, eigvec = torch.zeros(1, k, dtype=torch.float64), torch.zeros(len(graph), k, dtype=torch.float64)
    eigval[0, :d], eigvec[:, :d] = torch.from_numpy(values[:d]), torch.from_numpy(vectors[:, :d])
    return Data(eigval=eigval.to(dtype), eigvec=eigvec.to(dtype), edge_index=edges_of(graph), num_nodes=len(graph))


def _arguments() -> dict:
    data = _data(nx.path_graph(3), 4, torch.float32)
    return {"eigval": data.eigval, "eigvec": data.eigvec, "edge_index": data.edge_index, "batch": torch.zeros(3, dtype=torch.long)}


SPECIMENS = {
    "SPE": Specimen(
        lambda k, out_channels, **options: SPE(k, out_channels, **options),
        lambda: {
            "k": 4,
            "out_channels": 5,
            "num_filters": 2,
            "filter": "mlp",
            "filter_hidden": 3,
            "filter_layers": 2,
            "rho": "gin",
            "hidden": 6,
            "num_layers": 2,
        },
    ),
    "SPE.forward": Specimen(
        lambda **tensors: SPE(4, 5, hidden=6, num_layers=2).eval()(**tensors),
        _arguments,
        spare=frozenset({"edge_index", "batch", "eigval", "eigvec"}),
    ),
}

VARIANTS = [("mlp", "gin"), ("deepsets", "gin"), ("mlp", "mlp")]


def _model(k: int, filter="mlp", rho="gin", dtype=torch.float64, **options) -> SPE:
    torch.manual_seed(0)
    return SPE(k, 7, num_filters=5, filter=filter, rho=rho, hidden=12, num_layers=3, **options).to(dtype).eval()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("filter", "rho"), VARIANTS)
@pytest.mark.parametrize("graph", [nx.cycle_graph(12), nx.complete_bipartite_graph(3, 4), rook()], ids=["cycle", "bipartite", "strongly regular"])
def test_the_basis_of_an_eigenspace_does_not_matter(graph, filter, rho, dtype, tolerance):
    data = _data(graph, len(graph))
    turned = random_basis_change(data.eigval[0].numpy(), data.eigvec.numpy(), np.random.default_rng(0))
    assert np.abs(turned - data.eigvec.numpy()).max() > 0.1
    model = _model(len(graph), filter, rho, dtype)
    expected = model(data.eigval.to(dtype), data.eigvec.to(dtype), data.edge_index)
    found = model(data.eigval.to(dtype), torch.from_numpy(turned).to(dtype), data.edge_index)
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("filter", "rho"), VARIANTS)
def test_a_new_order_of_the_nodes_reorders_the_encodings(filter, rho, dtype, tolerance):
    data = _data(nx.karate_club_graph(), 10, dtype)
    order = random_order(34)
    model = _model(10, filter, rho, dtype)
    expected = model(data.eigval, data.eigvec, data.edge_index)[order]
    found = model(data.eigval, data.eigvec[order], relabelled(data.edge_index, order))
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize(("filter", "rho"), VARIANTS)
def test_a_batch_equals_a_loop_and_padding_changes_nothing(filter, rho):
    graphs = [nx.path_graph(2), nx.cycle_graph(9), nx.karate_club_graph()]
    model = _model(12, filter, rho)
    together = model.from_data(Batch.from_data_list([_data(graph, 12) for graph in graphs]))
    alone = torch.cat([model.from_data(_data(graph, 12)) for graph in graphs])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)
    small = [_data(graph, 12) for graph in graphs[:2]]
    wide = _model(22, filter, rho)
    for data in small:
        padded = [torch.nn.functional.pad(entries, (0, 10)) for entries in (data.eigval, data.eigvec)]
        torch.testing.assert_close(wide(*padded, data.edge_index), model.from_data(data), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("filter", ["mlp", "deepsets"])
def test_padding_stays_out_of_the_statistics_of_training(filter):
    data = _data(nx.cycle_graph(9), 9)
    padded = [torch.nn.functional.pad(entries, (0, 10)) for entries in (data.eigval, data.eigvec)]
    torch.testing.assert_close(
        _model(19, filter).train()(*padded, data.edge_index), _model(9, filter).train().from_data(data), rtol=1e-10, atol=1e-10
    )


def test_known_functions_give_known_matrices():
    graph = nx.karate_club_graph()
    data = _data(graph, 34)
    L = torch.from_numpy(laplacian(graph, "sym").toarray())
    for phi, expected in [
        (torch.ones_like, torch.eye(34, dtype=torch.float64)),
        (lambda values: 1 - values, torch.eye(34, dtype=torch.float64) - L),
        (lambda values: torch.exp(-2 * values), torch.linalg.matrix_exp(-2 * L)),
    ]:
        (W,) = SPE(34, 1, num_filters=1, filter=phi).weighted_projections(data.eigval, data.eigvec)
        torch.testing.assert_close(W[:, :, 0], expected, atol=1e-6, rtol=0)


def test_a_smooth_filter_moves_no_more_than_the_laplacian_times_its_lipschitz_constant():
    L = laplacian(nx.cycle_graph(12), "sym").toarray()
    model = SPE(12, 1, num_filters=1, filter=lambda values: torch.tanh(3 * values))

    def projected(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return model.weighted_projections(torch.from_numpy(values)[None], torch.from_numpy(vectors))[0][:, :, 0].numpy()

    rng = np.random.default_rng(0)
    for size in (1e-9, 1e-6, 1e-3, 1e-1):
        E = rng.standard_normal((12, 12))
        E = size * (E + E.T)
        assert np.linalg.norm(projected(L + E) - projected(L)) <= 3 * np.linalg.norm(E) + 1e-13


def test_the_hard_projector_jumps_where_eigenvalues_meet():
    L = laplacian(nx.cycle_graph(12), "sym").toarray()
    rng = np.random.default_rng(1)
    moves = []
    for _ in range(5):
        lowest = []
        for _ in range(2):
            E = rng.standard_normal((12, 12))
            V = np.linalg.eigh(L + 1e-9 * (E + E.T))[1][:, :2]
            lowest.append(V @ V.T)
        moves.append(np.linalg.norm(lowest[1] - lowest[0]))
    assert max(moves) > 0.5


@pytest.mark.parametrize(("first", "second"), [(nx.cycle_graph(6), two_triangles()), (decalin(), bicyclopentyl())])
@pytest.mark.parametrize(("filter", "rho"), VARIANTS)
def test_graphs_that_colour_refinement_confuses_are_told_apart(first, second, filter, rho):
    model = _model(10, filter, rho)
    sums = [model.from_data(_data(graph, 10)).sum(0) for graph in (first, second)]
    assert (sums[0] - sums[1]).norm() > 1e-6 * sums[0].norm()  # against rounding of 1e-14


def test_the_transform_feeds_the_encoding():
    transform = LaplacianEigenpairs(6)
    graphs = [transform(Data(edge_index=edges_of(graph), num_nodes=len(graph))) for graph in (nx.cycle_graph(5), nx.path_graph(9))]
    encodings = _model(6, dtype=torch.float32).from_data(Batch.from_data_list(graphs))
    assert encodings.shape == (14, 7)
    encodings.sum().backward()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: {"eigval": d["eigval"][:, :3]}, "eigval must have shape"),
        (lambda d: {"eigvec": d["eigvec"][:, :3]}, "eigvec must have shape"),
        (lambda d: {"eigval": d["eigval"].repeat(2, 1)}, "eigval must have a row for each graph"),
        (lambda d: {"eigval": d["eigval"].repeat(2, 1), "batch": None}, "batch must say"),
        (lambda d: {"batch": d["batch"][:2]}, "batch must have shape"),
        (lambda d: {"eigval": d["eigval"] * float("nan")}, "eigval must be finite"),
        (lambda d: {"eigvec": d["eigvec"] * float("nan")}, "eigvec must have orthonormal columns"),
        (lambda d: {"eigvec": d["eigvec"] * 1.01}, "eigvec must have orthonormal columns"),
    ],
)
def test_what_are_no_eigenpairs_is_refused(spoil, message):
    arguments = _arguments()
    with pytest.raises(ValueError, match=message):
        SPE(4, 5, hidden=6, num_layers=2)(**(arguments | spoil(arguments)))


def test_too_large_a_batch_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(spe_module, "MEMORY_LIMIT", 1e3)
    with pytest.raises(ValueError, match="GB"):
        SPE(4, 5)(**_arguments())


def test_data_without_eigenpairs_names_the_transform():
    with pytest.raises(ValueError, match="LaplacianEigenpairs"):
        SPE(4, 5).from_data(Data(edge_index=torch.zeros(2, 0, dtype=torch.long), num_nodes=2))
