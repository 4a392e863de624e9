"""Label groups equal dense algebra, and nobody sees his own label."""

import numpy as np
import pytest
import torch
from graphs.test_heterogeneous_propagation import SHOWN, WRITES, dense_means, homogeneous, toy
from specimens import Specimen

from ritz.graphs import propagate_labels

Y = torch.arange(12) % 3
MASK = torch.arange(12) % 4 < 3

SPECIMENS = {"propagate_labels": Specimen(propagate_labels, lambda: {"data": toy(), "target": "paper", "y": Y.clone(), "train_mask": MASK.clone()})}


def with_citations():
    """The toy graph with a directed relation of papers with papers, loops and all."""
    data = toy()
    data["paper", "cites", "paper"].edge_index = torch.tensor([[0, 1, 2, 2, 3, 5, 6, 7, 8], [1, 1, 0, 3, 3, 6, 5, 8, 8]])
    return data


def test_equal_the_dense_form_without_its_diagonal():
    data, means = toy(), dense_means(toy())
    groups = propagate_labels(data, "paper", Y, MASK)
    x = np.where(MASK[:, None], np.eye(3)[Y], 1 / 3)
    for group, (there, back) in zip(groups, [(("paper", "rev_writes", "author"), WRITES), (SHOWN, ("venue", "rev_shown", "paper"))]):
        M = means[back] @ means[there]
        others = 1 - M.diagonal()
        h = (M - np.diag(M.diagonal())) @ x / np.maximum(others, 1e-8)[:, None]
        h[h.sum(1) < 1e-8] = 1 / 3
        np.testing.assert_allclose(group[:, 0].numpy(), h, atol=1e-6)
    assert len(data.edge_types) == 2  # untouched


def test_no_group_of_a_node_changes_with_its_own_label():
    data = with_citations()
    groups = propagate_labels(data, "paper", Y, MASK)
    assert len(groups) == 6  # papers cite and are cited, one step and two; two steps over authors and venues
    for node in MASK.nonzero().flatten().tolist():
        y = Y.clone()
        y[node] = (y[node] + 1) % 3
        changed = propagate_labels(data, "paper", y, MASK)
        for before, after in zip(groups, changed):
            torch.testing.assert_close(before[node], after[node], atol=1e-6, rtol=0)
    assert any((before != after).any() for before, after in zip(groups, changed))


def test_labels_outside_the_mask_are_not_read():
    spoiled = torch.where(MASK, Y, -7)
    for plain, other in zip(propagate_labels(toy(), "paper", Y, MASK), propagate_labels(toy(), "paper", spoiled, MASK)):
        assert torch.equal(plain, other)


def test_a_symmetric_relation_counts_once_and_rows_are_distributions():
    groups = propagate_labels(homogeneous(), "node", torch.arange(10) % 2, torch.ones(10, dtype=torch.bool))
    assert [tuple(group.shape) for group in groups] == [(10, 1, 2)] * 2
    for group in groups:
        torch.testing.assert_close(group.sum(-1), torch.ones(10, 1))


def test_several_labels_a_node():
    one_hot = torch.nn.functional.one_hot(Y)
    for plain, several in zip(propagate_labels(toy(), "paper", Y, MASK), propagate_labels(toy(), "paper", one_hot, MASK)):
        torch.testing.assert_close(plain, several)


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"target": "field"}, "target must be a node type"),
        ({"y": Y[:5]}, "y must have shape"),
        ({"y": Y - 1}, "y must hold classes from 0"),
        ({"y": Y.float()}, "y must hold integer classes"),
        ({"y": Y[:, None]}, "y must be made of zeros and ones"),
        ({"train_mask": ~torch.ones(12, dtype=torch.bool)}, "train_mask must hold"),
        ({"train_mask": MASK.long()}, "train_mask must be a bool mask"),
    ],
)
def test_bad_labels_are_refused(spoiled, message):
    with pytest.raises((ValueError, TypeError), match=message):
        propagate_labels(**({"data": toy(), "target": "paper", "y": Y, "train_mask": MASK} | spoiled))
