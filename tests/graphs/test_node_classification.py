"""The score against cases with a known answer."""

import numpy as np
import pytest
from specimens import Specimen

from ritz.graphs import NodeClassificationScore, node_classification_score

X = np.random.default_rng(0).standard_normal((40, 3))
Y = (X[:, 0] > 0).astype(int)

SPECIMENS = {
    "NodeClassificationScore": Specimen(
        NodeClassificationScore, lambda: {"micro_f1": 1.0, "macro_f1": 1.0}, spare=frozenset({"micro_f1", "macro_f1"})
    ),
    "node_classification_score": Specimen(
        node_classification_score,
        lambda: {"embedding": X.copy(), "y": Y.copy(), "train_fraction": 0.5, "inverse_regularization": 1.0, "repeats": 1},
        spare=frozenset({"y"}),
    ),
}


def test_a_separable_embedding_scores_one_and_noise_scores_chance():
    indicator = np.eye(2)[Y]
    assert node_classification_score(10 * indicator, Y, train_fraction=0.5, rng=0).micro_f1 == 1
    noise = np.random.default_rng(1).standard_normal((4000, 3))
    labels = np.random.default_rng(2).integers(0, 4, 4000)
    assert abs(node_classification_score(noise, labels, train_fraction=0.5, rng=0).micro_f1 - 0.25) < 0.05


def test_classes_and_their_indicator_score_the_same():
    by_class = node_classification_score(X, Y, train_fraction=0.5, rng=3)
    by_indicator = node_classification_score(X, np.eye(2)[Y], train_fraction=0.5, rng=3)
    assert by_class.as_dict() == by_indicator.as_dict()


def test_a_node_with_two_labels_is_given_two():
    y = np.zeros((40, 3), dtype=int)
    y[:20, [0, 1]] = 1
    y[20:, 2] = 1
    embedding = np.repeat([[0.0], [5.0]], 20, axis=0)
    assert node_classification_score(embedding, y, train_fraction=0.5, rng=0).micro_f1 == 1


def test_unlabelled_nodes_are_left_out_and_rare_labels_do_not_break():
    y = np.zeros((40, 2), dtype=int)
    y[:30, 0] = 1
    y[0, 1] = 1
    assert 0.9 < node_classification_score(X, y, train_fraction=0.5, rng=0).micro_f1 <= 1


@pytest.mark.parametrize("y", [np.zeros(39), np.zeros((40, 2, 1)), np.full((40, 2), 0.5)])
def test_labels_that_do_not_fit_are_refused(y):
    with pytest.raises(ValueError, match="y "):
        node_classification_score(X, y)


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="train_fraction"):
        node_classification_score(X, Y, train_fraction=0.01)
