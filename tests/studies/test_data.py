"""Embedded data, generators, and the training loop."""

import numpy as np
import pytest
import torch

from ritz.studies.data import MissingData
from ritz.studies.data.digits import digits
from ritz.studies.data.graphs import blog_catalog, cora, digits_graph, rmat
from ritz.studies.data.text import held_out_split, standard_library_text, windows
from ritz.studies.training import fit, minibatches, warmup_cosine


def test_digits_are_split_by_seed_and_stratified():
    first, again, other = digits(0), digits(0), digits(1)
    assert np.array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.x_test, other.x_test)
    assert len(first.x_train) + len(first.x_test) == 1797
    assert np.bincount(first.y_test).min() >= 43


def test_the_standard_library_is_text():
    text = standard_library_text(100_000)
    assert text.dtype == np.uint8
    assert len(text) == 100_000
    assert text.max() < 128
    _, test = held_out_split(text)
    assert len(test) == 10_000
    batch = windows(test, 4, 32, np.random.default_rng(0))
    assert batch.shape == (4, 32)
    assert bytes(batch[0].astype(np.uint8)) in bytes(test)


def test_graphs_are_symmetric_and_labelled():
    graph = digits_graph()
    assert graph.adjacency.shape == (1797, 1797)
    assert abs(graph.adjacency - graph.adjacency.T).nnz == 0
    drawn = rmat(10, 5000, rng=0)
    assert abs(drawn - drawn.T).nnz == 0
    assert not drawn.diagonal().any()
    degrees = drawn.sum(axis=1)
    assert degrees.max() > 10 * degrees.mean()
    assert np.array_equal(drawn.indices, rmat(10, 5000, rng=0).indices)


@pytest.mark.parametrize(("load", "n", "edges"), [(blog_catalog, 10312, 333983), (cora, 2708, 5278)])
def test_real_graphs_have_the_stated_size(load, n, edges):
    try:
        graph = load()
    except MissingData as missing:
        pytest.skip(str(missing))
    assert graph.adjacency.shape == (n, n)
    assert graph.adjacency.nnz == 2 * edges
    assert len(graph.labels) == n


def test_fit_minimizes_and_reports_every_loss():
    x = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = torch.optim.SGD([x], lr=0.2)
    seen = []
    losses = fit(optimizer, lambda step: (x**2).sum(), range(50), scheduler=warmup_cosine(optimizer, 50, 5), clip_norm=10.0, after_step=seen.append)
    assert losses.shape == (50,)
    assert losses[-1] < 1e-3 * losses[0]
    assert seen == list(range(50))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-3)


def test_minibatches_pass_over_all_examples():
    batches = minibatches(10, 3, torch.Generator().manual_seed(0))
    first_pass = torch.cat([next(batches) for _ in range(3)])
    assert len(set(first_pass.tolist())) == 9
