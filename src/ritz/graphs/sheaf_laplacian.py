"""Sheaf Laplacians: a vector space at every node, a linear map from it into every edge, and how far the ends of edges disagree.

Hansen and Ghrist, "Toward a spectral theory of cellular sheaves", J. Appl. Comput. Topology 3, 2019; normalized as in
Bodnar, Di Giovanni, Chamberlain, Liò and Bronstein, "Neural Sheaf Diffusion: A Topological Perspective on Heterophily and Oversmoothing in GNNs",
NeurIPS 2022, arXiv:2202.04579, sections 2 and 3.

With F_v the map from node v into the edge e = {v, u}, the coboundary is (delta x)_e = F_v x_v - F_u x_u and L = delta^T delta: blocks
L_vv = sum over edges of F_v^T F_v, L_vu = -F_v^T F_u. Its kernel are the signals on whose edges both ends agree.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch

from ritz.core import array, choice, flag, integer, is_torch, to_numpy
from ritz.graphs.edge_structure import EdgeStructure, edge_structure

KINDS = ("general", "orthogonal", "diagonal")


def sheaf_laplacian(
    edge_index, maps, num_nodes: int, *, kind: str = "general", normalized: bool = True, augmented: bool = True, edge_weight=None
) -> scipy.sparse.bsr_array | torch.Tensor:
    """Return the Laplacian (n d, n d) of a sheaf of d-dimensional stalks on an undirected graph.

    Parameters
    ----------
    edge_index : LongTensor or array of int (2, E)
        Both directions of each edge, once, no self-loops.
    maps : array or Tensor (E, d, d), or (E, d) if diagonal
        The map from the stalk of ``edge_index[0, k]`` into that of the edge, for each directed edge k.
    num_nodes : int
        The number n of nodes.
    kind : {"general", "orthogonal", "diagonal"}
        What the maps are: "diagonal" takes their diagonals, "orthogonal" matrices of d >= 2 with F^T F = I.
    normalized : bool
        D^-1/2 L D^-1/2, with D the block diagonal of L, instead of L.
    augmented : bool
        Normalize by D + I, as graph networks add a loop; else by the pseudo-inverse of the root of D.
    edge_weight : array or Tensor (E,), optional
        Scales both maps of an edge; the same in both directions.

    Returns
    -------
    bsr_array, or sparse Tensor for torch maps
        Symmetric and positive semidefinite; normalized, with eigenvalues of at most 2. Torch results can be differentiated.

    Raises
    ------
    ValueError, TypeError
        If edges are not as described, shapes do not fit, maps are not orthogonal though said so, or weights differ between directions.

    Notes
    -----
    Cost O(E d^3), and n symmetric eigenproblems of size d for a normalized general sheaf.

    Examples
    --------
    A connection that turns by half a turn across the only edge: signals of opposite sign are harmonic.

    >>> L = sheaf_laplacian([[0, 1], [1, 0]], [[1.0], [-1.0]], 2, kind="diagonal", normalized=False)
    >>> L.toarray()
    array([[1., 1.],
           [1., 1.]])
    """
    sheaf = _checked_sheaf(edge_index, maps, num_nodes, kind, edge_weight)
    flag(normalized, "normalized")
    flag(augmented, "augmented")
    diagonal, blocks = normalized_blocks(*sheaf, augmented=augmented) if normalized else laplacian_blocks(*sheaf)
    structure = sheaf.structure
    diagonal, blocks = (torch.diag_embed(part) if part.dim() == 2 else part for part in (diagonal, blocks))
    n, d = diagonal.shape[:2]
    indptr, indices, data = _with_diagonal(structure, diagonal, blocks)
    if is_torch(maps):
        return _as_coo(indptr, indices, data)
    return scipy.sparse.bsr_array((data.numpy(), indices.numpy(), indptr.numpy()), shape=(n * d, n * d))


def sheaf_energy(edge_index, maps, x, *, kind: str = "general", normalized: bool = True, augmented: bool = True, edge_weight=None):
    """Return the Dirichlet energy of a signal, x^T L x = sum over edges of |F_v x_v - F_u x_u|^2, edge by edge.

    Parameters
    ----------
    edge_index, maps, kind, normalized, augmented, edge_weight
        As for `sheaf_laplacian`; normalized, x_v is first multiplied by the inverse root of D_v.
    x : array or Tensor (n, d) or (n, d, channels)
        The signal, of the kind of the maps; channels are summed.

    Returns
    -------
    float or Tensor ()

    Examples
    --------
    >>> sheaf_energy([[0, 1], [1, 0]], np.ones((2, 1)), [[3.0], [1.0]], kind="diagonal", normalized=False)
    4.0
    """
    signal = torch.as_tensor(x if is_torch(x) else to_numpy(x, "x"))
    signal = array(signal, "x", ndim=(2, 3))
    sheaf = _checked_sheaf(edge_index, maps, signal.shape[0], kind, edge_weight)
    flag(normalized, "normalized")
    flag(augmented, "augmented")
    if signal.shape[1] != sheaf.maps.shape[-1]:
        raise ValueError(f"x must have as many entries for each node as maps has columns, {sheaf.maps.shape[-1]}, got {signal.shape[1]}")
    signal = signal.to(sheaf.maps.dtype).reshape(*signal.shape[:2], -1)
    if normalized:
        signal = _applied(inverse_root(laplacian_blocks(*sheaf)[0], augmented=augmented), signal)
    disagreement = _applied(sheaf.maps, signal[sheaf.structure.source])
    if sheaf.weights is not None:
        disagreement = sheaf.weights[:, None, None] * disagreement
    energy = (disagreement[sheaf.structure.left] - disagreement[sheaf.structure.right]).square().sum()
    return energy if is_torch(maps) else float(energy)


class Sheaf(NamedTuple):
    """The maps of a sheaf on a graph, (E, d, d) or (E, d) for diagonal ones, and the weights (E,) of its edges, None for ones."""

    structure: EdgeStructure
    maps: torch.Tensor
    weights: torch.Tensor | None
    orthogonal: bool


def laplacian_blocks(
    structure: EdgeStructure, maps: torch.Tensor, weights: torch.Tensor | None, orthogonal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The diagonal blocks of L, (n, d, d), or (n, d) where they are diagonal (of orthogonal maps, too), and the blocks of its sorted edges."""
    squares = None if weights is None else weights.square()
    first, second = maps[structure.left], maps[structure.right]
    if maps.dim() == 2:
        between, within = first * second, maps.square()
    else:
        between = first.transpose(1, 2) @ second
        within = maps.new_ones(len(maps), maps.shape[-1]) if orthogonal else maps.transpose(1, 2) @ maps
    if squares is not None:
        shape = (-1,) + (1,) * (within.dim() - 1)
        within, between = squares.reshape(shape) * within, squares[structure.left].reshape((-1,) + (1,) * (between.dim() - 1)) * between
    diagonal = within.new_zeros(structure.n, *within.shape[1:]).index_add(0, structure.source, within)
    return diagonal, structure.sorted_pairs(-between)


def normalized_blocks(
    structure: EdgeStructure, maps: torch.Tensor, weights: torch.Tensor | None, orthogonal: bool, *, augmented: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of the normalized Laplacian."""
    diagonal, blocks = laplacian_blocks(structure, maps, weights, orthogonal)
    root = inverse_root(diagonal, augmented=augmented)
    left, right = root[structure.rows], root[structure.columns]
    if diagonal.dim() == 3:
        return root @ diagonal @ root, left @ blocks @ right
    if blocks.dim() == 3:  # orthogonal: one number for each node
        left, right = left[:, :1, None], right[:, :1, None]
    return root * diagonal * root, left * blocks * right


def inverse_root(diagonal: torch.Tensor, *, augmented: bool) -> torch.Tensor:
    """(D + I)^-1/2, or the pseudo-inverse of D^1/2, of blocks (n, d, d) or diagonals (n, d)."""
    if diagonal.dim() == 3:
        return _InverseRoot.apply(diagonal, augmented)
    if augmented:
        return (diagonal + 1).rsqrt()
    reached = diagonal > 0
    return torch.where(reached, torch.where(reached, diagonal, 1).rsqrt(), 0)


class _InverseRoot(torch.autograd.Function):
    """f(M) = V f(lambda) V^T with the derivative of Daleckii and Krein: divided differences of f, which for equal eigenvalues are f'.

    So the gradient is finite for multiples of the identity, where that of eigenvectors is not. The published code perturbs M at random instead.
    """

    @staticmethod
    def forward(ctx, M, augmented):
        values, vectors = torch.linalg.eigh(M)
        if augmented:
            values = values.clamp(min=0) + 1
        kept = values > values[:, -1:] * M.shape[-1] * torch.finfo(M.dtype).eps
        roots = torch.where(kept, torch.where(kept, values, 1).sqrt(), torch.inf)
        ctx.save_for_backward(vectors, roots)
        return (vectors / roots[:, None, :]) @ vectors.transpose(1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        vectors, roots = ctx.saved_tensors
        first, second = roots[:, :, None], roots[:, None, :]
        differences = -1 / (first * second * (first + second))
        inner = vectors.transpose(1, 2) @ gradient @ vectors
        inner = differences * (inner + inner.transpose(1, 2)) / 2
        return vectors @ inner @ vectors.transpose(1, 2), None


def _applied(maps: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return maps[:, :, None] * x if maps.dim() == 2 else maps @ x


def _checked_sheaf(edge_index, maps, num_nodes, kind: str, edge_weight) -> Sheaf:
    choice(kind, "kind", KINDS)
    n = integer(num_nodes, "num_nodes", at_least=1)
    dimensions = 2 if kind == "diagonal" else 3
    held = array(maps, "maps", ndim=dimensions, allow_empty=True)
    held = held if is_torch(held) else torch.from_numpy(np.ascontiguousarray(held))
    edges = edge_index if is_torch(edge_index) else torch.as_tensor(_integers(edge_index), device=held.device)
    structure = edge_structure(edges, n)
    if held.shape[0] != len(structure.source) or held.shape[1] < 1 or held.shape[-1] != held.shape[1]:
        expected = f"({len(structure.source)}, d{', d' if dimensions == 3 else ''})"
        raise ValueError(f"maps must have shape {expected}, one for each column of edge_index and d of at least 1, got {tuple(held.shape)}")
    if kind == "orthogonal":
        _check_orthogonal(held)
    return Sheaf(structure, held, _checked_weights(edge_weight, structure, held), kind == "orthogonal")


def _integers(edge_index) -> np.ndarray:
    numbers = to_numpy(edge_index, "edge_index")
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"edge_index must be integers, got dtype {numbers.dtype}")
    return numbers.astype(np.int64)


def _check_orthogonal(maps: torch.Tensor) -> None:
    if maps.shape[1] < 2:
        raise ValueError(f"maps must have d of at least 2 for kind 'orthogonal', got d = {maps.shape[1]}: use kind 'diagonal' for signs")
    error = (maps.transpose(1, 2) @ maps - torch.eye(maps.shape[1], dtype=maps.dtype, device=maps.device)).abs()
    if error.numel() and error.max() > 1e-4:
        raise ValueError(f"maps must be orthogonal for kind 'orthogonal', got an entry of F^T F off by {float(error.max()):.2g}")


def _checked_weights(edge_weight, structure: EdgeStructure, maps: torch.Tensor) -> torch.Tensor | None:
    if edge_weight is None:
        return None
    weights = array(edge_weight, "edge_weight", shape=(len(structure.source),), allow_empty=True)
    weights = (weights if is_torch(weights) else torch.from_numpy(np.ascontiguousarray(weights))).to(maps)
    if not torch.allclose(weights[structure.left], weights[structure.right]):
        raise ValueError("edge_weight must be the same in both directions of an edge")
    return weights


def _with_diagonal(structure: EdgeStructure, diagonal: torch.Tensor, blocks: torch.Tensor):
    """The sorted edges and the diagonal as block CSR."""
    n = structure.n
    nodes = torch.arange(n, device=diagonal.device)
    rows, columns = torch.cat([structure.rows, nodes]), torch.cat([structure.columns, nodes])
    order = torch.argsort(rows * n + columns)
    return structure.indptr + torch.arange(n + 1, device=diagonal.device), columns[order], torch.cat([blocks, diagonal])[order]


def _as_coo(indptr: torch.Tensor, indices: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    n, d = len(indptr) - 1, data.shape[-1]
    rows = torch.repeat_interleave(torch.arange(n, device=data.device), indptr.diff())
    within = torch.arange(d, device=data.device)
    row = (d * rows[:, None, None] + within[:, None]).expand_as(data)
    column = (d * indices[:, None, None] + within).expand_as(data)
    places = torch.stack([row.reshape(-1), column.reshape(-1)])
    return torch.sparse_coo_tensor(places, data.reshape(-1), size=(n * d, n * d), check_invariants=False).coalesce()
