"""One-time propagation on heterogeneous graphs: messages of every relation are collected hop by hop, and squashed by random projection between hops.

Hu, Hooi and He, "Efficient Heterogeneous Graph Learning via Random Projection", IEEE TKDE 2024, arXiv:2310.14481, sections IV and V.

An iteration sends the features of each type along each relation r (odd message) and back again (even message), so it covers two steps. What the
target type receives is stored, one tensor for each message. Then every type's features become the sum of its messages, each multiplied by a fresh
sparse random matrix and its rows brought to length 1: their number and length do not grow, where metapaths grow exponentially with the hops.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numba import njit

from ritz.core import array, choice, flag, integer, optional_import, random_generator, real, spawn_seeds, to_numpy
from ritz.graphs.relation_operators import RelationKey, add_reverses, node_count, normalized, relation_matrices, relation_pairs, reverses
from ritz.graphs.sparse_products import SparseRows, multiply_rows, sparse_projection

_transforms = optional_import("torch_geometric.transforms", extra="graphs")

MessageKey = tuple[str, RelationKey]  # "odd" or "even", and the relation
_BLOCK = 1024  # rows projected at a time, so that they are still in the cache when they are normalized
_STORED = {"float16": torch.float16, "float32": torch.float32}


class RpHGNNPrecompute(_transforms.BaseTransform):
    """Store in ``data.rp_groups`` what the nodes of one type receive from around them: a list of tensors (n_target, hops, d), one for each message.

    ``data.rp_keys`` names them: ("odd", r) came along the relation r into the target type, ("even", r) went along r out of it and back. There are
    as many as relations into the type and out of it, whatever the number of hops.

    Parameters
    ----------
    target : str
        The node type to be classified.
    hops : int
        Iterations, two steps each.
    dim : int, optional
        Project the features of all types to this length first; None keeps their lengths.
    sparsity : float
        The s of the projections, whose entries are +-sqrt(s) with probability 1/(2s) each and else 0.
    norm : {"mean", "sym"}
        How adjacency matrices are normalized: D_dst^-1 A or D_dst^-1/2 A D_src^-1/2. Edge weights do not count; an edge that stands twice does.
    even_odd : {"all", "odd", "even"}
        Which messages are collected and squashed. One kind alone reaches as far with "odd" and twice the hops.
    include_input : bool
        Put the target's features before the hops of each even group: (n_target, hops + 1, d).
    squash_self : bool
        Let a type's own features count as one of its messages in the squashing.
    feature_dim_random : int
        Length of the random features of types that have none (no ``x``), normal with variance 1 / length.
    target_projection : int, optional
        Project the target's features to this length first, rows brought to length 1.
    add_self_group : bool
        Append a group (n_target, 1, d) of the target's features as they came, under the key ("self", (target, "self", target)).
    alpha : float in [0, 1]
        The share of the first features that is mixed into the new ones after each squashing.
    add_reverse : bool
        Add a relation "rev_r" to each relation r without a reverse; False refuses such data. Reverses are told by their edges, not by their names.
    storage : {"float16", "float32"}
        Of the groups. Values that half precision cannot hold are clipped, with a warning.
    rng : Generator, int or None
        Source of randomness; an integer gives the same groups at every call.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Cost O(hops (sum_r nnz_r d + sum_t messages_t n_t d^2)) on the CPU, where the groups stay. Types that cannot reach the target in the hops that
    are left are not squashed; this changes no value. Published settings use two steps an iteration, and so does this.

    Examples
    --------
    >>> from torch_geometric.data import HeteroData
    >>> data = HeteroData({"paper": {"x": torch.eye(3)}, "author": {"num_nodes": 2}})
    >>> data["author", "writes", "paper"].edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
    >>> done = RpHGNNPrecompute("paper", hops=2, rng=0)(data)
    >>> done.rp_keys
    [('odd', ('author', 'writes', 'paper')), ('even', ('paper', 'rev_writes', 'author'))]
    >>> [tuple(group.shape) for group in done.rp_groups]
    [(3, 2, 128), (3, 2, 3)]
    """

    def __init__(
        self,
        target: str,
        hops: int = 3,
        dim: int | None = None,
        *,
        sparsity: float = 3.0,
        norm: str = "mean",
        even_odd: str = "all",
        include_input: bool = False,
        squash_self: bool = False,
        feature_dim_random: int = 128,
        target_projection: int | None = None,
        add_self_group: bool = False,
        alpha: float = 0.0,
        add_reverse: bool = True,
        storage: str = "float16",
        rng=None,
    ):
        if not isinstance(target, str):
            raise TypeError(f"target must be the name of a node type, got {type(target).__name__}")
        self.target = target
        self.hops = integer(hops, "hops", at_least=1)
        self.dim = None if dim is None else integer(dim, "dim", at_least=1)
        self.sparsity = real(sparsity, "sparsity", at_least=1)
        self.norm = choice(norm, "norm", ["mean", "sym"])
        self.even_odd = choice(even_odd, "even_odd", ["all", "odd", "even"])
        self.include_input = flag(include_input, "include_input")
        self.squash_self = flag(squash_self, "squash_self")
        self.feature_dim_random = integer(feature_dim_random, "feature_dim_random", at_least=1)
        self.target_projection = None if target_projection is None else integer(target_projection, "target_projection", at_least=1)
        self.add_self_group = flag(add_self_group, "add_self_group")
        self.alpha = real(alpha, "alpha", at_least=0, at_most=1)
        self.add_reverse = flag(add_reverse, "add_reverse")
        self.storage = choice(storage, "storage", list(_STORED))
        random_generator(rng)
        self.rng = rng

    def forward(self, data):
        """Add the groups, their keys and missing reverse relations to ``HeteroData``.

        Raises
        ------
        ValueError
            If the target type is unknown or has no relation, a type has no node, features are not finite, or a reverse is missing and not to
            be added.
        """
        matrices, reverse = self._relations(data)
        operators = {relation: _rows(normalized(matrix, self.norm)) for relation, matrix in matrices.items()}
        rng = random_generator(self.rng)
        raw = {kind: self._features(data, kind, rng) for kind in data.node_types}
        features = first = self._projected(raw, rng)
        messages = {kind: self._message_keys(kind, reverse) for kind in data.node_types}
        needed = self._needed(messages)
        collected: dict[MessageKey, list[np.ndarray]] = {key: [] for key in messages[self.target]}
        for kinds in needed:
            seeds = {kind: spawn_seeds(rng, len(keys) + self.squash_self) for kind, keys in messages.items()}
            received = _receive(features, {kind: messages[kind] for kind in kinds | {self.target}}, operators, reverse)
            for key, message in received[self.target].items():
                collected[key].append(message)
            features = {kind: self._next(kind, received[kind], features[kind], first[kind], seeds[kind]) for kind in sorted(kinds)}
        data.rp_keys, data.rp_groups = self._groups(collected, first[self.target], raw[self.target])
        return data

    def _relations(self, data):
        if self.target not in data.node_types:
            raise ValueError(f"target must be a node type of the data, {', '.join(map(repr, data.node_types))}, got {self.target!r}")
        matrices = relation_matrices(data)
        reverse = add_reverses(data, matrices) if self.add_reverse else reverses(matrices)
        lonely = [relation for relation in matrices if relation not in reverse]
        if lonely:
            raise ValueError(f"data must have the reverse of each relation unless add_reverse is set, got none of {lonely[0]}")
        if not any(self.target in (source, destination) for source, _, destination in matrices):
            raise ValueError(f"data must have a relation of the target type, got none of {self.target!r}")
        return matrices, reverse

    def _features(self, data, kind: str, rng: np.random.Generator) -> np.ndarray:
        count = node_count(data, kind)
        if "x" not in data[kind]:
            return rng.standard_normal((count, self.feature_dim_random), dtype=np.float32) / np.float32(math.sqrt(self.feature_dim_random))
        x = to_numpy(array(data[kind].x, f"data['{kind}'].x", shape=(count, None)))
        return np.ascontiguousarray(x, dtype=np.float32)

    def _projected(self, raw: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The features that are sent first: as they came, or projected where that was asked for."""
        lengths = {kind: self.target_projection if kind == self.target and self.target_projection is not None else self.dim for kind in raw}
        seeds = spawn_seeds(rng, len(raw))
        return {
            kind: x if lengths[kind] is None else squashed([x], lengths[kind], self.sparsity, [seed]) for (kind, x), seed in zip(raw.items(), seeds)
        }

    def _message_keys(self, kind: str, reverse: Mapping[RelationKey, RelationKey]) -> list[MessageKey]:
        """The messages that a type receives, those of a relation and its reverse together, odd before even."""
        keys = []
        for pair in relation_pairs(reverse):
            keys += [("odd", relation) for relation in pair if relation[2] == kind and self.even_odd != "even"]
            keys += [("even", relation) for relation in pair if relation[0] == kind and self.even_odd != "odd"]
        return keys

    def _needed(self, messages: Mapping[str, list[MessageKey]]) -> list[set[str]]:
        """For each iteration the types whose new features a later one sends to the target."""
        needed: list[set[str]] = [set()]
        while len(needed) < self.hops:
            kinds = needed[0] | {self.target}
            sources = {relation[0] for kind in kinds for _, relation in messages[kind]}  # an even message comes from the type itself
            needed.insert(0, sources | (needed[0] if self.squash_self else set()))
        return needed

    def _next(self, kind: str, received: Mapping[MessageKey, np.ndarray], x: np.ndarray, first: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        parts = [*received.values(), *([x] if self.squash_self else [])]
        new = squashed(parts, first.shape[1], self.sparsity, seeds) if parts else np.zeros_like(first)
        return new if self.alpha == 0 else np.float32(1 - self.alpha) * new + np.float32(self.alpha) * first

    def _groups(self, collected: Mapping[MessageKey, list[np.ndarray]], first: np.ndarray, raw: np.ndarray):
        keys, groups = list(collected), []
        for (kind, _), hops in collected.items():
            groups.append(self._stored([first, *hops] if self.include_input and kind == "even" else hops))
        if self.add_self_group:
            keys.append(("self", (self.target, "self", self.target)))
            groups.append(self._stored([raw]))
        return keys, groups

    def _stored(self, hops: Sequence[np.ndarray]) -> torch.Tensor:
        dtype = _STORED[self.storage]
        limit = torch.finfo(dtype).max
        group = torch.empty(len(hops[0]), len(hops), hops[0].shape[1], dtype=dtype)
        for position, hop in enumerate(hops):
            values = torch.from_numpy(hop)
            if values.abs().max() > limit:
                warnings.warn(
                    f"values beyond {limit:g} do not fit into {self.storage} and are clipped; store float32 or scale the features", stacklevel=4
                )
                values = values.clamp(-limit, limit)
            group[:, position] = values
        return group


def squashed(messages: Sequence[np.ndarray], dim: int, sparsity: float, seeds: Sequence[int]) -> np.ndarray:
    """Return the sum (n, dim) of messages (n, d), each times a sparse random matrix of its own and its rows then brought to length 1 (zeros stay)."""
    total = np.zeros((len(messages[0]), dim), dtype=np.float32)
    work = np.empty((min(_BLOCK, len(total)), dim), dtype=np.float32)
    for message, seed in zip(messages, seeds):
        R = sparse_projection(message.shape[1], dim, sparsity, rng=seed).toarray()
        for start in range(0, len(total), _BLOCK):
            block = message[start : start + _BLOCK]
            _add_unit_rows(np.matmul(block, R, out=work[: len(block)]), total[start : start + _BLOCK])
    return total


def _receive(features, wanted: Mapping[str, list[MessageKey]], operators: Mapping[RelationKey, SparseRows], reverse):
    """The messages each type wants; an odd message that goes back as an even one is formed once."""
    sent: dict[RelationKey, np.ndarray] = {}

    def along(relation: RelationKey) -> np.ndarray:
        if relation not in sent:
            sent[relation] = _times(operators[relation], features[relation[0]])
        return sent[relation]

    return {
        kind: {(step, r): along(r) if step == "odd" else _times(operators[reverse[r]], along(r)) for step, r in keys} for kind, keys in wanted.items()
    }


def _rows(matrix) -> SparseRows:
    return SparseRows(matrix.indptr, matrix.indices, matrix.data.astype(np.float32))


def _times(operator: SparseRows, x: np.ndarray) -> np.ndarray:
    count = len(operator.indptr) - 1
    product = np.empty((count, x.shape[1]), dtype=np.float32)
    multiply_rows(*operator, x, np.arange(count), product)
    return product


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _add_unit_rows(rows, total):
    """Add each row, divided by its length, to the same row of `total`; serial, since waking threads costs more than a block that is in the cache."""
    for i in range(rows.shape[0]):
        row, own = rows[i], total[i]
        square = np.float32(0.0)
        for j in range(row.shape[0]):
            square += row[j] * row[j]
        if square > 0:
            scale = np.float32(1.0) / np.sqrt(square)
            for j in range(row.shape[0]):
                own[j] += scale * row[j]
