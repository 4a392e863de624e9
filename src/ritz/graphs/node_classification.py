"""Node classification by one-vs-rest logistic regression: how the field scores node embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

from ritz.core import Result, array, integer, positive, random_generator, real, to_numpy


@dataclass(frozen=True, eq=False, repr=False)
class NodeClassificationScore(Result):
    """F1 scores of the nodes that were not trained on, averaged over labelled pairs (micro) and over labels (macro)."""

    micro_f1: float
    macro_f1: float


def node_classification_score(
    embedding, y, *, train_fraction: float = 0.1, inverse_regularization: float = 0.1, repeats: int = 1, rng=None
) -> NodeClassificationScore:
    """Score an embedding by how well a linear classifier on it predicts the labels of the other nodes.

    One logistic regression per label on standardized columns. A test node with k labels is given its k best-scored labels,
    the protocol of the multi-label benchmarks (k is known); with one class per node it is given the best.

    Parameters
    ----------
    embedding : array (n, dim)
        One row per node.
    y : array (n,) of classes, or (n, labels) of zeros and ones
        The labels; in the second form nodes without a label are left out.
    train_fraction : float in (0, 1)
        The share of nodes to train on.
    inverse_regularization : float
        The C of the logistic regressions.
    repeats : int
        Scores are averaged over this many random splits.
    rng : Generator, int or None
        Source of the splits.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a split leaves no node to train or test on.

    Examples
    --------
    >>> x = np.concatenate([np.zeros(20), np.ones(20)])[:, None]
    >>> node_classification_score(x, np.repeat([0, 1], 20), train_fraction=0.5, rng=0)
    NodeClassificationScore(micro_f1=1.0, macro_f1=1.0)
    """
    embedding = to_numpy(array(embedding, "embedding", ndim=2))
    indicator = _indicator(to_numpy(y, "y"), len(embedding))
    real(train_fraction, "train_fraction", above=0, below=1)
    positive(inverse_regularization, "inverse_regularization")
    integer(repeats, "repeats", at_least=1)
    rng = random_generator(rng)
    labelled = np.flatnonzero(indicator.any(axis=1))
    features, indicator = StandardScaler().fit_transform(embedding)[labelled], indicator[labelled]
    train_size = math.floor(train_fraction * len(labelled))
    if not 1 <= train_size < len(labelled):
        raise ValueError(f"train_fraction {train_fraction} of {len(labelled)} labelled nodes leaves none to train or to test on")
    scores = [_split_score(features, indicator, rng.permutation(len(labelled)), train_size, inverse_regularization) for _ in range(repeats)]
    micro, macro = np.mean(scores, axis=0)
    return NodeClassificationScore(float(micro), float(macro))


def _indicator(y: np.ndarray, n: int) -> np.ndarray:
    if y.ndim not in (1, 2) or len(y) != n:
        raise ValueError(f"y must have shape ({n},) or ({n}, labels), as embedding has {n} row(s), got {y.shape}")
    if y.ndim == 1:
        return y[:, None] == np.unique(y)
    if not np.isin(y, (0, 1)).all():
        raise ValueError("y with two dimensions must hold zeros and ones only")
    return y.astype(bool)


def _split_score(features, indicator, order, train_size: int, inverse_regularization: float) -> tuple[float, float]:
    train, test = order[:train_size], order[train_size:]
    scores = np.stack([_label_scores(features, label, train, test, inverse_regularization) for label in indicator.T], axis=1)
    predicted = _best(scores, indicator[test].sum(axis=1))
    return tuple(f1_score(indicator[test], predicted, average=average, zero_division=0) for average in ("micro", "macro"))


def _label_scores(features, label, train, test, inverse_regularization: float) -> np.ndarray:
    """Log-odds of one label; a label that all or no training nodes have is scored by that alone."""
    if label[train].all() or not label[train].any():
        return np.full(len(test), np.inf if label[train].all() else -np.inf)
    model = LogisticRegression(C=inverse_regularization, solver="liblinear", random_state=0).fit(features[train], label[train])
    return model.decision_function(features[test])


def _best(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mark the `counts[i]` largest scores of each row i."""
    ranks = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
    return ranks < counts[:, None]
