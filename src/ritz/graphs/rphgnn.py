"""RpHGNN: a network on tensors that one propagation over a heterogeneous graph has left, trained like any perceptron.

Hu, Hooi and He, "Efficient Heterogeneous Graph Learning via Random Projection", IEEE TKDE 2024, arXiv:2310.14481, section IV.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.nn import functional as F

from ritz.core import choice, flag, integer, progress, real, to_numpy
from ritz.graphs.heterogeneous_propagation import RpHGNNPrecompute
from ritz.graphs.label_groups import propagate_labels


class RpHGNN(nn.Module):
    """Logits (B, classes) from groups (B, H, d): the hops of each group mixed, a perceptron for each group, and one on all of them together.

    Parameters
    ----------
    group_shapes : sequence of (int, int)
        Hops H and length d of each group.
    num_classes : int
        Number of logits.
    hidden : int
        Width of the perceptrons.
    conv_filters : int
        Mixtures of the hops of a group (a convolution over hops as channels, of width 1); a group of one hop gets one.
    group_layers, out_layers : int
        Layers of each group's perceptron, and of the last one.
    merge : {"concat", "mean"}
        How the groups' vectors are brought together.
    input_dropout, dropout : float
        On the groups, and after each layer but the last.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Weights are Xavier-normal, biases zero; activations are PReLU with one slope a layer. Groups of half precision are computed in the weights' dtype.

    Examples
    --------
    >>> RpHGNN([(3, 8), (4, 5)], 2, hidden=16)([torch.ones(6, 3, 8), torch.ones(6, 4, 5)]).shape
    torch.Size([6, 2])
    """

    def __init__(
        self,
        group_shapes: Sequence[tuple[int, int]],
        num_classes: int,
        hidden: int = 512,
        conv_filters: int = 2,
        group_layers: int = 2,
        out_layers: int = 2,
        merge: str = "concat",
        input_dropout: float = 0.5,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.group_shapes = _shapes(group_shapes)
        classes, hidden = integer(num_classes, "num_classes", at_least=1), integer(hidden, "hidden", at_least=1)
        filters = [1 if hops == 1 else integer(conv_filters, "conv_filters", at_least=1) for hops, _ in self.group_shapes]
        depth, last = integer(group_layers, "group_layers", at_least=1), integer(out_layers, "out_layers", at_least=1)
        self.merge = choice(merge, "merge", ["concat", "mean"])
        self.input_dropout = real(input_dropout, "input_dropout", at_least=0, below=1)
        dropout = real(dropout, "dropout", at_least=0, below=1)
        self.mixtures = nn.ModuleList(nn.Linear(hops, count) for (hops, _), count in zip(self.group_shapes, filters))
        self.encoders = nn.ModuleList(
            nn.Sequential(*_layers([count * length, *[hidden] * depth], dropout)) for (_, length), count in zip(self.group_shapes, filters)
        )
        merged = hidden * (len(self.group_shapes) if self.merge == "concat" else 1)
        inner = [merged, *[hidden] * (last - 1)]
        self.classify = nn.Sequential(*_layers(inner, dropout), nn.Linear(inner[-1], classes))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, groups: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the logits (B, classes).

        Raises
        ------
        ValueError
            If the groups do not have the shapes (B, H, d) that the network was made for.
        """
        self._check(groups)
        dtype = self.classify[-1].weight.dtype
        vectors = []
        for group, mixture, encoder in zip(groups, self.mixtures, self.encoders):
            x = F.dropout(group.to(dtype), self.input_dropout, self.training)
            mixed = torch.einsum("fh,bhd->bfd", mixture.weight, x) + mixture.bias[:, None]
            vectors.append(encoder(mixed.flatten(1)))
        return self.classify(torch.cat(vectors, dim=1) if self.merge == "concat" else torch.stack(vectors).mean(0))

    def _check(self, groups: Sequence[torch.Tensor]) -> None:
        shapes = [tuple(group.shape) for group in groups]
        if [shape[1:] for shape in shapes] != self.group_shapes or len({shape[0] for shape in shapes}) != 1:
            expected = ", ".join(f"(B, {hops}, {length})" for hops, length in self.group_shapes)
            raise ValueError(f"groups must have shapes {expected} with one B, got {', '.join(map(str, shapes))}")


class RpHGNNClassifier(BaseEstimator):
    """Classify the nodes of one type of a heterogeneous graph: propagate once, then train `RpHGNN` on batches of rows, without sampling neighbors.

    Parameters
    ----------
    transform : RpHGNNPrecompute
        Names the target type and propagates; data that hold ``rp_groups`` already are taken as they are.
    label_groups : bool
        Add the groups of `propagate_labels`.
    hidden, conv_filters, group_layers, out_layers, merge, input_dropout, dropout
        As for `RpHGNN`.
    epochs, patience : int
        Training ends after `epochs`, or `patience` epochs without a better validation loss; the state with the least is kept.
    batch_size : int
        Nodes a step.
    learning_rate : float
        Of Adam.
    seed : int
        Of the initial weights, the dropout and the batches.

    Attributes
    ----------
    network_ : RpHGNN
        The state with the least validation loss.
    validation_losses_ : ndarray (epochs,)
        One for each epoch trained.

    Examples
    --------
    >>> from torch_geometric.data import HeteroData
    >>> y = torch.arange(40) % 2
    >>> data = HeteroData({"paper": {"x": torch.eye(2)[y] + 0.1, "y": y}, "author": {"num_nodes": 20}})
    >>> data["author", "writes", "paper"].edge_index = torch.stack([torch.arange(40) // 4 * 2 + y, torch.arange(40)])
    >>> data["paper"].train_mask, data["paper"].val_mask = torch.arange(40) < 20, torch.arange(40) >= 30
    >>> classifier = RpHGNNClassifier(RpHGNNPrecompute("paper", hops=1, rng=0), hidden=16, epochs=30, seed=0).fit(data)
    >>> bool((classifier.predict() == y.numpy()).all())
    True
    """

    def __init__(
        self,
        transform: RpHGNNPrecompute,
        *,
        label_groups: bool = False,
        hidden: int = 512,
        conv_filters: int = 2,
        group_layers: int = 2,
        out_layers: int = 2,
        merge: str = "concat",
        input_dropout: float = 0.5,
        dropout: float = 0.5,
        epochs: int = 200,
        patience: int = 30,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        seed: int = 0,
    ):
        self.transform, self.label_groups = transform, label_groups
        self.hidden, self.conv_filters, self.group_layers, self.out_layers = hidden, conv_filters, group_layers, out_layers
        self.merge, self.input_dropout, self.dropout = merge, input_dropout, dropout
        self.epochs, self.patience, self.batch_size, self.learning_rate, self.seed = epochs, patience, batch_size, learning_rate, seed

    def fit(self, data) -> RpHGNNClassifier:
        """Train on ``HeteroData`` whose target type has labels ``y``, ``train_mask`` and ``val_mask``.

        Labels are classes (n,) from 0, or zeros and ones (n, classes), where a node may have several. They are read on the two masks only.

        Raises
        ------
        ValueError, TypeError
            If labels or masks are missing or do not fit, an option is out of range, or the transform refuses the data.
        """
        if not isinstance(self.transform, RpHGNNPrecompute):
            raise TypeError(f"transform must be an RpHGNNPrecompute, got {type(self.transform).__name__}")
        target = self.transform.target
        if target not in data.node_types:
            raise ValueError(f"transform must have a target that is a node type of the data, {', '.join(map(repr, data.node_types))}, got {target!r}")
        y, train, validation = _supervision(data[target], target)
        groups = data.rp_groups if "rp_groups" in data else self.transform(data).rp_groups
        labels = propagate_labels(data, target, data[target].y, train) if flag(self.label_groups, "label_groups") else []
        self.groups_ = [*groups, *labels]
        self.multilabel_ = y.dim() == 2
        classes = y.shape[1] if self.multilabel_ else int(y[train].max()) + 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer(self.seed, "seed", at_least=0))
            self._train(self._network(classes), y, train.nonzero().flatten(), validation.nonzero().flatten())
        return self

    def decision_function(self, nodes=None) -> np.ndarray:
        """Return the logits (nodes, classes) of all target nodes of the graph that was fitted, or of those numbered."""
        if not hasattr(self, "network_"):
            raise NotFittedError("this RpHGNNClassifier is not fitted yet; call fit first")
        count = len(self.groups_[0])
        chosen = np.arange(count) if nodes is None else to_numpy(nodes, "nodes")
        if chosen.ndim != 1 or (chosen.size and (chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= count)):
            raise ValueError(f"nodes must be numbers of target nodes below {count}, got {chosen.dtype} of shape {chosen.shape}")
        return self._logits(self.network_, torch.from_numpy(chosen.astype(np.int64))).numpy()

    def predict(self, nodes=None) -> np.ndarray:
        """Return the classes (nodes,), or the zeros and ones (nodes, classes) of several labels, of all target nodes or of those numbered."""
        logits = self.decision_function(nodes)
        return (logits > 0).astype(np.int64) if self.multilabel_ else logits.argmax(axis=1)

    def _network(self, classes: int) -> RpHGNN:
        shapes = [tuple(group.shape[1:]) for group in self.groups_]
        layers = (self.hidden, self.conv_filters, self.group_layers, self.out_layers)
        return RpHGNN(shapes, classes, *layers, self.merge, self.input_dropout, self.dropout)

    def _train(self, network: RpHGNN, y: torch.Tensor, train: torch.Tensor, validation: torch.Tensor) -> None:
        epochs, patience = integer(self.epochs, "epochs", at_least=1), integer(self.patience, "patience", at_least=1)
        size = integer(self.batch_size, "batch_size", at_least=1)
        optimizer = torch.optim.Adam(network.parameters(), lr=real(self.learning_rate, "learning_rate", above=0))
        loss = F.binary_cross_entropy_with_logits if self.multilabel_ else F.cross_entropy
        least, best, losses = np.inf, 0, []
        for epoch in progress(range(epochs), "training RpHGNN"):
            network.train()
            for nodes in train[torch.randperm(len(train))].split(size):
                optimizer.zero_grad(set_to_none=True)
                loss(network(self._rows(nodes)), y[nodes]).backward()
                optimizer.step()
            losses.append(loss(self._logits(network, validation), y[validation]).item())
            if losses[-1] < least:
                least, best, self.network_ = losses[-1], epoch, copy.deepcopy(network).eval()
            if epoch - best >= patience:
                break
        self.validation_losses_ = np.array(losses)

    def _rows(self, nodes: torch.Tensor) -> list[torch.Tensor]:
        return [group.index_select(0, nodes) for group in self.groups_]

    def _logits(self, network: RpHGNN, nodes: torch.Tensor) -> torch.Tensor:
        network.eval()
        with torch.no_grad():
            return torch.cat([network(self._rows(part)) for part in nodes.split(self.batch_size)])


def _layers(widths: Sequence[int], dropout: float) -> list[nn.Module]:
    return [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.PReLU(), nn.Dropout(dropout))]


def _shapes(group_shapes) -> list[tuple[int, int]]:
    shapes = [tuple(shape) for shape in group_shapes]
    if not shapes or any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"group_shapes must be pairs (hops, length), at least one, got {shapes}")
    return [tuple(integer(size, "group_shapes", at_least=1) for size in shape) for shape in shapes]


def _supervision(store, target: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The labels and the masks of the target type, checked."""
    missing = [name for name in ("y", "train_mask", "val_mask") if name not in store]
    if missing:
        raise ValueError(f"data must have '{missing[0]}' of the target type '{target}', got none")
    count = store.num_nodes
    for name in ("train_mask", "val_mask"):
        if store[name].dtype != torch.bool or store[name].shape != (count,) or not store[name].any():
            raise ValueError(f"data['{target}'].{name} must be a bool mask of shape ({count},) with a node, got {tuple(store[name].shape)}")
    y, seen = store.y, store.y[store.train_mask | store.val_mask]
    if y.dim() == 2 and len(y) == count:
        if not torch.isin(seen, torch.tensor([0, 1], dtype=y.dtype)).all():
            raise ValueError(f"data['{target}'].y must be made of zeros and ones")
        return y.float(), store.train_mask, store.val_mask
    if y.shape != (count,) or y.dtype != torch.long:
        raise ValueError(f"data['{target}'].y must be integers (int64) of shape ({count},) or zeros and ones (n, classes), got {tuple(y.shape)}")
    if seen.min() < 0 or store.y[store.val_mask].max() > store.y[store.train_mask].max():
        raise ValueError(f"data['{target}'].y must number classes from 0, all of them among the training nodes")
    return y, store.train_mask, store.val_mask
