"""Training labels carried two steps over a heterogeneous graph, so that no node sees its own.

Hu, Hooi and He, "Efficient Heterogeneous Graph Learning via Random Projection", IEEE TKDE 2024, arXiv:2310.14481.
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from ritz.core import to_numpy
from ritz.graphs.relation_operators import add_reverses, normalized, relation_matrices, relation_pairs

_LEAST_SHARE = 1e-9  # of a message that must come from others, for what is left after removing the node's own to be more than rounding


def propagate_labels(data, target: str, y, train_mask) -> list[torch.Tensor]:
    """Return what the nodes of a type learn of each other's training labels: tensors (n, 1, classes), further groups for `RpHGNN`.

    There is one for each relation r out of the type, labels gone along r and back, and one for each relation of the type with itself, labels gone
    one step. Nodes without a training label send 1 / classes, and so do nodes that nobody reaches receive. What a node receives from itself is
    removed: h <- (h - diag x) / (1 - diag), diag being its own share of the message.

    Parameters
    ----------
    data : HeteroData
        The graph; relations without a reverse get one here, the data stay as they are.
    target : str
        The node type.
    y : LongTensor (n,), or Tensor (n, classes) of zeros and ones
        Classes from 0, or several labels a node; read where `train_mask` is set.
    train_mask : bool Tensor (n,)
        The nodes whose labels may be seen.

    Raises
    ------
    ValueError, TypeError
        If the type is unknown, or the labels or the mask do not fit it.

    Notes
    -----
    Computed in float64, because 1 - diag may be small; a share below 1e-9 counts as nobody. The published formula adds 1e-8 to 1 - diag instead, and
    leaves in the labels that loops carry in one step; here these are removed too. Cost O(nnz classes).

    Examples
    --------
    >>> from torch_geometric.data import HeteroData
    >>> data = HeteroData({"paper": {"num_nodes": 3}, "author": {"num_nodes": 1}})
    >>> data["author", "writes", "paper"].edge_index = torch.tensor([[0, 0, 0], [0, 1, 2]])
    >>> propagate_labels(data, "paper", torch.tensor([0, 1, 1]), torch.tensor([True, True, False]))[0][:, 0]
    tensor([[0.2500, 0.7500],
            [0.7500, 0.2500],
            [0.5000, 0.5000]])
    """
    if target not in data.node_types:
        raise ValueError(f"target must be a node type of the data, {', '.join(map(repr, data.node_types))}, got {target!r}")
    matrices = relation_matrices(data)
    reverse = add_reverses(copy.copy(data), matrices)
    x = _label_rows(y, train_mask, int(data[target].num_nodes))
    means = {relation: normalized(matrix, "mean") for relation, matrix in matrices.items() if target in (relation[0], relation[2])}
    groups = []
    for pair in relation_pairs(reverse):
        for relation in pair:
            if relation[0] == relation[2] == target:
                one_step = means[relation]
                groups.append(_without_own(one_step @ x, one_step.diagonal(), x))
        for relation in pair:
            if relation[0] == target:
                there, back = means[relation], means[reverse[relation]]
                groups.append(_without_own(back @ (there @ x), back.multiply(there.T).sum(axis=1), x))
    return [torch.from_numpy(group.astype(np.float32))[:, None] for group in groups]


def _label_rows(y, train_mask, count: int) -> np.ndarray:
    """One-hot rows of training labels, uniform rows elsewhere (count, classes)."""
    mask = to_numpy(train_mask, "train_mask")
    if mask.shape != (count,) or mask.dtype != bool:
        raise ValueError(f"train_mask must be a bool mask of shape ({count},), got {mask.dtype} of shape {mask.shape}")
    if not mask.any():
        raise ValueError("train_mask must hold at least one node, got none")
    labels = to_numpy(y, "y")
    if labels.shape[:1] != (count,) or labels.ndim not in (1, 2):
        raise ValueError(f"y must have shape ({count},) or ({count}, classes), got {labels.shape}")
    seen = labels[mask]
    if labels.ndim == 2:
        if labels.shape[1] == 0 or labels.dtype.kind not in "biuf" or not np.isin(seen, (0, 1)).all():
            raise ValueError("y must be made of zeros and ones where train_mask is set")
        rows = np.full(labels.shape, 1 / labels.shape[1])
        rows[mask] = seen
        return rows
    if labels.dtype.kind not in "iu":
        raise TypeError(f"y must hold integer classes, got dtype {labels.dtype}")
    if seen.min() < 0:
        raise ValueError(f"y must hold classes from 0 where train_mask is set, got {seen.min()}")
    classes = int(seen.max()) + 1
    rows = np.full((count, classes), 1 / classes)
    rows[mask] = np.eye(classes)[seen]
    return rows


def _without_own(h: np.ndarray, diagonal: np.ndarray, x: np.ndarray) -> np.ndarray:
    others = 1 - diagonal[:, None]
    rest = np.divide(h - diagonal[:, None] * x, others, out=np.zeros_like(h), where=others > _LEAST_SHARE)
    rest[rest.sum(axis=1) <= 0] = 1 / x.shape[1]
    return rest
