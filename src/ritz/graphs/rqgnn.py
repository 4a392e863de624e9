"""A graph classifier driven by the Rayleigh quotients of node features, for the few anomalous graphs of a collection.

Dong, Zhang and Wang, "Rayleigh Quotient Graph Neural Networks for Graph-level Anomaly Detection", ICLR 2024, arXiv:2310.02861, section 4.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

from ritz.core import flag, integer, optional_import, progress, real, to_numpy
from ritz.graphs.chebyshev_filters import ChebyshevFilters
from ritz.graphs.focal_loss import class_balanced_focal_loss
from ritz.graphs.rayleigh_quotient import RayleighQuotient, rayleigh_quotient

_data = optional_import("torch_geometric.data", extra="graphs")


class RQGNN(nn.Module):
    """Logits (B, 2) of graphs from Chebyshev filters, pooled by attention that the Rayleigh quotients set, beside the quotients themselves.

    With r the quotients of a graph's features, z_v the filtered features of a node and a = LeakyReLU(W9 LeakyReLU(W8 r)), the graph's vector is the
    sum of <z_v, a> z_v over its nodes; it stands beside LeakyReLU(W6 W5 r), is normalized, and classified.

    Parameters
    ----------
    in_channels : int
        Length F of the node features.
    hidden : int
        Width of the node vectors z and of the quotients' branch.
    width, depth : int
        How many Chebyshev filters side by side, and how many terms each has.
    dropout : float
        Before the last layer.
    batch_norm : bool
        Whether the last layer's input is normalized over the batch.
    normalize_rq : bool
        False leaves the quotients' denominator out, as the published code does; the quotient detects better.
    proj_channels : int, optional
        Width of the filters, by default F: few features make them narrow.
    train_filters : bool
        False keeps the filters as drawn, as the published code does without meaning to.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Cost O(depth |E| F) for the basis, which the filters share, and O(N width depth F^2) for the filters. The published text gives the quotient, its
    code the numerator alone; both are here.

    Examples
    --------
    >>> x, edge_index = torch.eye(3), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> RQGNN(3).eval()(x, edge_index, torch.zeros(3, dtype=torch.long)).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int = 64,
        width: int = 4,
        depth: int = 6,
        dropout: float = 0.4,
        batch_norm: bool = True,
        normalize_rq: bool = True,
        *,
        proj_channels: int | None = None,
        train_filters: bool = True,
    ):
        super().__init__()
        self.in_channels, hidden = integer(in_channels, "in_channels", at_least=1), integer(hidden, "hidden", at_least=1)
        width, depth = integer(width, "width", at_least=1), integer(depth, "depth", at_least=1)
        self.normalize_rq = flag(normalize_rq, "normalize_rq")
        inner = in_channels if proj_channels is None else integer(proj_channels, "proj_channels", at_least=1)
        self.nodes = _leaky(in_channels, inner, inner)
        self.filters = ChebyshevFilters(inner, inner, depth, width).requires_grad_(flag(train_filters, "train_filters"))
        self.filtered = _leaky(width * inner, hidden, hidden)
        self.attention = _leaky(in_channels, hidden, hidden)
        self.quotients = nn.Sequential(nn.Linear(in_channels, hidden), nn.Linear(hidden, hidden), nn.LeakyReLU())
        self.norm = nn.BatchNorm1d(2 * hidden) if flag(batch_norm, "batch_norm") else nn.Identity()
        self.dropout = nn.Dropout(real(dropout, "dropout", at_least=0, below=1))
        self.classify = nn.Linear(2 * hidden, 2)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor, rq: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (B, 2); `rq` (B, F) saves computing the quotients again.

        Raises
        ------
        ValueError
            If x or rq has another number of features.
        """
        if x.dim() != 2 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must have shape (nodes, {self.in_channels}), got {tuple(x.shape)}")
        if rq is None:
            rq = rayleigh_quotient(x, edge_index, batch, normalize=self.normalize_rq)
        if rq.dim() != 2 or rq.shape[1] != self.in_channels:
            raise ValueError(f"rq must have shape (graphs, {self.in_channels}), got {tuple(rq.shape)}")
        z = self.filtered(self.filters(self.nodes(x), edge_index))
        scores = (z * self.attention(rq)[batch]).sum(1, keepdim=True)
        pooled = z.new_zeros(len(rq), z.shape[1]).index_add(0, batch, scores * z)
        return self.classify(self.dropout(self.norm(torch.cat([pooled, self.quotients(rq)], dim=1))))


class RQGNNDetector(BaseEstimator):
    """Find the anomalous graphs of a collection from labels of some: `RQGNN` with class-balanced focal loss, chosen by validation.

    Parameters
    ----------
    hidden, width, depth, dropout, normalize_rq, proj_channels
        As for `RQGNN`.
    beta, gamma : float
        Of `class_balanced_focal_loss`.
    epochs, patience : int
        Training ends after `epochs`, or `patience` epochs in which neither validation score has grown.
    batch_size : int
        Graphs a step.
    learning_rate : float
        Of Adam.
    validation_fraction : float
        The share of the graphs, stratified, on which the state and the threshold are chosen.
    seed : int
        Of the split, the initial weights and the batches.

    Attributes
    ----------
    ranker_, classifier_ : Module
        The states with the best area under the ROC curve and the best macro-F1 on the validation graphs, the latest of equals.
    threshold_ : float
        Above this score of `classifier_` a graph counts as anomalous.

    Examples
    --------
    >>> Data, path = _data.Data, torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> graphs = [Data(x=torch.tensor([[1.0], [1.0 - 2 * (i % 2)], [1.0]]), edge_index=path) for i in range(20)]
    >>> detector = RQGNNDetector(hidden=8, epochs=20, seed=0).fit(graphs, [i % 2 for i in range(20)])
    >>> detector.predict(graphs[:4])
    array([0, 1, 0, 1])
    """

    def __init__(
        self,
        *,
        hidden: int = 64,
        width: int = 4,
        depth: int = 6,
        dropout: float = 0.4,
        normalize_rq: bool = True,
        proj_channels: int | None = None,
        beta: float = 0.999,
        gamma: float = 1.5,
        epochs: int = 100,
        patience: int = 50,
        batch_size: int = 512,
        learning_rate: float = 5e-3,
        validation_fraction: float = 0.2,
        seed: int = 0,
    ):
        self.hidden, self.width, self.depth, self.dropout = hidden, width, depth, dropout
        self.normalize_rq, self.proj_channels = normalize_rq, proj_channels
        self.beta, self.gamma = beta, gamma
        self.epochs, self.patience, self.batch_size, self.learning_rate = epochs, patience, batch_size, learning_rate
        self.validation_fraction, self.seed = validation_fraction, seed

    def fit(self, graphs: Sequence, y) -> RQGNNDetector:
        """Train on graphs (PyG data with features ``x``, or without: their degrees then count) and labels y (B,): 1 anomalous, 0 normal.

        Raises
        ------
        ValueError
            If y is not made of zeros and ones, a class is absent, or the graphs' features differ in length.
        """
        y = _labels(y, len(graphs))
        self.max_degree_ = max(int(_degrees(data).max(initial=0)) for data in graphs)
        self.in_channels_ = None
        prepared = self._prepared(graphs)
        fraction = real(self.validation_fraction, "validation_fraction", above=0, below=1)
        train, validation = train_test_split(np.arange(len(y)), test_size=fraction, stratify=y, random_state=integer(self.seed, "seed", at_least=0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._train(self._network(self.in_channels_), prepared, y, train, validation)
        return self

    def decision_function(self, graphs: Sequence) -> np.ndarray:
        """Return the scores (B,) of `ranker_`: the larger, the more anomalous."""
        self._check_fitted()
        return _scores(self.ranker_, self._prepared(graphs), self.batch_size)

    def predict(self, graphs: Sequence) -> np.ndarray:
        """Return 1 for graphs that `classifier_` takes for anomalous, else 0."""
        self._check_fitted()
        return (_scores(self.classifier_, self._prepared(graphs), self.batch_size) > self.threshold_).astype(np.int64)

    def _network(self, in_channels: int) -> nn.Module:
        """The network that is trained: it maps (x, edge_index, batch, rq) to logits (B, 2)."""
        return RQGNN(in_channels, self.hidden, self.width, self.depth, self.dropout, normalize_rq=self.normalize_rq, proj_channels=self.proj_channels)

    def _train(self, network: nn.Module, graphs: list, y: np.ndarray, train: np.ndarray, validation: np.ndarray) -> None:
        epochs, patience = integer(self.epochs, "epochs", at_least=1), integer(self.patience, "patience", at_least=1)
        size = integer(self.batch_size, "batch_size", at_least=2)
        counts = torch.from_numpy(np.bincount(y[train], minlength=2))
        optimizer = torch.optim.Adam(network.parameters(), lr=real(self.learning_rate, "learning_rate", above=0))
        best_auc = best_f1 = -1.0
        improved = 0
        held = [graphs[i] for i in validation]
        for epoch in progress(range(epochs), "training the detector"):
            network.train()
            for numbers in torch.randperm(len(train)).split(size):
                if len(numbers) > 1:  # batch normalization needs two
                    batch = _data.Batch.from_data_list([graphs[train[i]] for i in numbers])
                    targets = torch.from_numpy(y[train[numbers.numpy()]])
                    loss = class_balanced_focal_loss(_logits(network, batch), targets, counts, self.beta, self.gamma)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
            scores = _scores(network, held, size)
            auc, (f1, threshold) = roc_auc_score(y[validation], scores), best_threshold(scores, y[validation])
            if auc > best_auc or f1 > best_f1:
                improved = epoch
            if auc >= best_auc:  # of equal scores the later state, which has seen more
                best_auc, self.ranker_ = auc, copy.deepcopy(network).eval()
            if f1 >= best_f1:
                best_f1, self.classifier_, self.threshold_ = f1, copy.deepcopy(network).eval(), threshold
            if epoch - improved >= patience:
                break

    def _prepared(self, graphs: Sequence) -> list:
        """The graphs with features, checked, and their quotients."""
        transform = RayleighQuotient(flag(self.normalize_rq, "normalize_rq"))
        return [transform(_data.Data(x=self._features(data), edge_index=data.edge_index)) for data in graphs]

    def _features(self, data) -> torch.Tensor:
        x = getattr(data, "x", None)
        if x is None:
            x = F.one_hot(torch.from_numpy(_degrees(data)).clamp(max=self.max_degree_), self.max_degree_ + 1).float()
        if not torch.isfinite(x).all():
            raise ValueError("graphs must have finite features")
        if self.in_channels_ is None:
            self.in_channels_ = x.shape[1]
        if x.shape[1] != self.in_channels_:
            raise ValueError(f"graphs must have features of one length, {self.in_channels_}, got {x.shape[1]}")
        return x

    def _check_fitted(self) -> None:
        if not hasattr(self, "ranker_"):
            raise NotFittedError("this RQGNNDetector is not fitted yet; call fit first")


def best_threshold(scores: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the best macro-F1 over thresholds halfway between neighboring scores and beyond the ends, and that threshold."""
    levels, place = np.unique(scores, return_inverse=True)
    ones = np.bincount(place, weights=y, minlength=len(levels))
    below = np.concatenate([[0], np.cumsum(ones)])  # anomalies that each threshold misses
    called = np.concatenate([[0], np.cumsum(np.bincount(place))])  # graphs it calls normal
    positive, count = y.sum(), len(y)
    f1_anomalous = 2 * (positive - below) / (positive + count - called)
    f1_normal = 2 * (called - below) / (count - positive + called)
    values = (f1_anomalous + f1_normal) / 2
    thresholds = np.concatenate([[levels[0] - 1], (levels[:-1] + levels[1:]) / 2, [levels[-1] + 1]])
    best = int(np.argmax(values))
    return float(values[best]), float(thresholds[best])


def _scores(network: nn.Module, graphs: list, size: int) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        batches = (_data.Batch.from_data_list(graphs[start : start + size]) for start in range(0, len(graphs), size))
        return torch.cat([logits[:, 1] - logits[:, 0] for logits in (_logits(network, batch) for batch in batches)]).numpy().astype(np.float64)


def _logits(network: nn.Module, batch) -> torch.Tensor:
    return network(batch.x, batch.edge_index, batch.batch, batch.rq)


def _degrees(data) -> np.ndarray:
    return np.bincount(to_numpy(data.edge_index)[0], minlength=data.num_nodes)


def _labels(y, count: int) -> np.ndarray:
    y = to_numpy(y, "y")
    if y.shape != (count,):
        raise ValueError(f"y must have shape ({count},), one label a graph, got {y.shape}")
    if y.dtype.kind not in "biuf" or not np.isin(y, (0, 1)).all():
        raise ValueError("y must be made of zeros and ones")
    if len(np.unique(y)) < 2:
        raise ValueError(f"y must hold both classes, got {int(y[0])} alone")
    return y.astype(np.int64)


def _leaky(*widths: int) -> nn.Sequential:
    """Linear layers with a leaky ReLU after each."""
    return nn.Sequential(*(layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.LeakyReLU())))
