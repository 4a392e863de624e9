"""One layer of neural sheaf diffusion: learn the maps of a sheaf from the features, then take a step of diffusion with its Laplacian.

Bodnar, Di Giovanni, Chamberlain, Liò and Bronstein, "Neural Sheaf Diffusion: A Topological Perspective on Heterophily and Oversmoothing in GNNs",
NeurIPS 2022, arXiv:2202.04579, section 4.

X <- (1 + tanh(epsilon)) X - sigma(Delta (I (x) W1) X W2), with Delta the normalized Laplacian of the sheaf whose maps are
F_v = act(W [x_v | x_u]) for each directed edge (v, u).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import choice, flag, integer, is_torch, real
from ritz.graphs.edge_structure import EdgeStructure, edge_structure
from ritz.graphs.orthogonal_maps import PARAMETRIZATIONS, orthogonal_matrices
from ritz.graphs.sheaf_laplacian import KINDS, normalized_blocks
from ritz.graphs.symmetric_block_product import symmetric_block_product

ACTIVATIONS = {"elu": F.elu, "relu": F.relu, "tanh": torch.tanh, "identity": lambda x: x}


class SheafOperator(NamedTuple):
    """A normalized sheaf Laplacian that is ready to be applied: blocks of the learned stalk dimensions, and numbers for the fixed ones."""

    structure: EdgeStructure
    diagonal: torch.Tensor
    blocks: torch.Tensor
    fixed_diagonal: torch.Tensor
    fixed_blocks: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Delta x for features (n, d + fixed, h)."""
        d = self.diagonal.shape[1]
        diagonal = self.diagonal if self.diagonal.dim() == self.blocks.dim() else torch.diag_embed(self.diagonal)
        learned = symmetric_block_product(self.structure, diagonal, self.blocks, x[:, :d])
        if x.shape[1] == d:
            return learned
        return torch.cat([learned, symmetric_block_product(self.structure, self.fixed_diagonal, self.fixed_blocks, x[:, d:])], dim=1)


class SheafConv(nn.Module):
    """One step of sheaf diffusion on features of shape (n, stalk * hidden_channels), stalk = d + low_pass + high_pass.

    Parameters
    ----------
    hidden_channels : int
        Channels h of each stalk dimension.
    d : int
        Learned stalk dimensions; 2 or more if orthogonal.
    kind : {"diagonal", "orthogonal", "general"}
        What the maps are. Orthogonal maps have the degree times I as diagonal block.
    act : {"elu", "relu", "tanh", "identity"}
        The nonlinearity sigma.
    dropout : float in [0, 1)
        Of the features before the weights.
    map_dropout : float in [0, 1)
        Of the features from which the maps are learned.
    left, right : bool
        Whether there are weights W1 (stalk, stalk), at first the identity, and W2 (h, h), at first orthogonal.
    low_pass, high_pass : bool
        Append a stalk dimension on which the scalar signless Laplacian (degree, +1 per edge) or Laplacian (degree, -1) acts.
    edge_weights : bool
        Learn a weight sigmoid(w [x_v | x_u]) sigmoid(w [x_u | x_v]) of each edge; orthogonal maps only, the others can scale themselves.
    orth : {"cayley", "householder", "matrix_exp", "euler"}
        How d (d - 1) / 2 numbers make an orthogonal matrix; "euler" needs d of 2 or 3. (The published code gives "cayley" and "matrix_exp" the
        diagonal as well, which cancels.)
    learned_sheaf : bool
        False makes a layer without maps of its own, which is given those of another.

    Notes
    -----
    Delta is (D + I)^-1/2 L (D + I)^-1/2. It is applied in one pass over the edges, in d x d blocks and compiled on the CPU; nothing of size
    n d x n d is formed. Its blocks have norms of at most 1 as they are, so they are not clamped; and the gradient of (D + I)^-1/2 is computed by
    divided differences, finite at repeated eigenvalues, instead of perturbing D in training. Cost O(E (d^2 h + d^3) + n d h (d + h)).
    ``edge_index`` is checked and prepared once, and again only if it is another tensor or was written to. There are no second derivatives.

    Examples
    --------
    >>> edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> layer = SheafConv(4, d=2, kind="orthogonal")
    >>> layer(torch.randn(3, 8), edge_index).shape
    torch.Size([3, 8])
    >>> layer.restriction_maps(torch.randn(3, 8), edge_index).shape
    torch.Size([4, 2, 2])
    """

    def __init__(
        self,
        hidden_channels: int,
        *,
        d: int = 3,
        kind: str = "diagonal",
        act: str = "elu",
        dropout: float = 0.0,
        map_dropout: float = 0.0,
        left: bool = True,
        right: bool = True,
        low_pass: bool = False,
        high_pass: bool = False,
        edge_weights: bool = True,
        orth: str = "cayley",
        learned_sheaf: bool = True,
    ):
        super().__init__()
        self.kind, self.orth = choice(kind, "kind", KINDS), choice(orth, "orth", PARAMETRIZATIONS)
        self.hidden_channels = integer(hidden_channels, "hidden_channels", at_least=1)
        self.d = integer(d, "d", at_least=1)
        if kind == "orthogonal" and d == 1:
            raise ValueError("d must be at least 2 for kind 'orthogonal', got 1: nothing is left to learn")
        if kind == "orthogonal" and orth == "euler" and d > 3:
            raise ValueError(f"d must be 2 or 3 for orth 'euler', got {d}")
        self.act = choice(act, "act", ACTIVATIONS)
        self.dropout = real(dropout, "dropout", at_least=0, below=1)
        self.map_dropout = real(map_dropout, "map_dropout", at_least=0, below=1)
        self.low_pass, self.high_pass = flag(low_pass, "low_pass"), flag(high_pass, "high_pass")
        self.stalk = d + self.low_pass + self.high_pass
        width = self.stalk * hidden_channels
        self.left = nn.Linear(self.stalk, self.stalk, bias=False) if flag(left, "left") else None
        self.right = nn.Linear(hidden_channels, hidden_channels, bias=False) if flag(right, "right") else None
        weighted = flag(edge_weights, "edge_weights") and kind == "orthogonal"
        learned = flag(learned_sheaf, "learned_sheaf")
        self.map_learner = nn.Linear(2 * width, self._map_parameters(), bias=False) if learned else None
        self.weight_learner = nn.Linear(2 * width, 1, bias=False) if learned and weighted else None
        self.epsilon = nn.Parameter(torch.zeros(self.stalk, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start anew: W1 the identity, W2 orthogonal, epsilon zero, the learners as linear layers do."""
        if self.left is not None:
            nn.init.eye_(self.left.weight)
        if self.right is not None:
            nn.init.orthogonal_(self.right.weight)
        nn.init.zeros_(self.epsilon)
        for learner in (self.map_learner, self.weight_learner):
            if learner is not None:
                learner.reset_parameters()

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor, laplacian: SheafOperator | None = None) -> torch.Tensor:
        """Return the features after the step, (n, stalk * hidden_channels).

        Parameters
        ----------
        x : Tensor (n, stalk * hidden_channels)
            Features, the channels of each stalk dimension together.
        edge_index : LongTensor (2, E)
            Both directions of each edge, no self-loops.
        laplacian : SheafOperator, optional
            That of another layer, from its `laplacian`, instead of one with maps of its own.
        """
        self._check_features(x)
        laplacian = self.laplacian(x, edge_index) if laplacian is None else laplacian
        chain = x.reshape(len(x), self.stalk, self.hidden_channels)
        return ((1 + torch.tanh(self.epsilon)) * chain - self.diffusion(chain, laplacian)).reshape(len(x), -1)

    def diffusion(self, x: torch.Tensor, laplacian: SheafOperator) -> torch.Tensor:
        """sigma(Delta (I (x) W1) X W2) for features (n, stalk, hidden_channels)."""
        x = F.dropout(x, self.dropout, self.training)
        if self.left is not None:
            x = self.left.weight @ x
        if self.right is not None:
            x = self.right(x)
        return ACTIVATIONS[self.act](laplacian(x))

    def laplacian(self, x: torch.Tensor, edge_index: torch.Tensor) -> SheafOperator:
        """Return the normalized Laplacian of the sheaf that is learned from features (n, stalk * hidden_channels)."""
        self._check_features(x)
        structure = edge_structure(edge_index, len(x))
        maps, weights = self._learned_sheaf(F.dropout(x, self.map_dropout, self.training), structure)
        diagonal, blocks = normalized_blocks(structure, maps, weights, self.kind == "orthogonal", augmented=True)
        return SheafOperator(structure, diagonal, blocks, *self._fixed(structure, x))

    def restriction_maps(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Return the maps of all directed edges, (E, d) if diagonal and (E, d, d) otherwise, times the edges' weights where these are learned.

        `sheaf_laplacian` takes them, with ``kind="general"`` where they are weighted.
        """
        self._check_features(x)
        maps, weights = self._learned_sheaf(x, edge_structure(edge_index, len(x)))
        return maps if weights is None else weights[:, None, None] * maps

    def _learned_sheaf(self, x: torch.Tensor, structure: EdgeStructure) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.map_learner is None:
            raise ValueError("laplacian must be given to a layer with learned_sheaf=False")
        parameters = torch.tanh(_of_both_ends(self.map_learner, x, structure))
        weights = None
        if self.weight_learner is not None:
            gate = torch.sigmoid(_of_both_ends(self.weight_learner, x, structure)).squeeze(-1)
            both = gate[structure.left] * gate[structure.right]
            weights = torch.empty_like(gate).index_copy(0, structure.left, both).index_copy(0, structure.right, both)
        if self.kind == "orthogonal":
            return orthogonal_matrices(parameters, self.d, self.orth), weights
        return parameters if self.kind == "diagonal" else parameters.reshape(-1, self.d, self.d), weights

    def _fixed(self, structure: EdgeStructure, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The diagonal (n, fixed) and the sorted edges (E, fixed) of the scalar Laplacians, normalized by degree + 1; low pass first."""
        signs = x.new_tensor([1.0] * self.low_pass + [-1.0] * self.high_pass)
        degrees = structure.degrees.to(x.dtype)
        root = (degrees + 1).rsqrt()
        edges = root[structure.rows] * root[structure.columns]
        return (degrees * root.square())[:, None].expand(-1, len(signs)), edges[:, None] * signs

    def _map_parameters(self) -> int:
        return {"diagonal": self.d, "general": self.d**2, "orthogonal": self.d * (self.d - 1) // 2}[self.kind]

    def _check_features(self, x: torch.Tensor) -> None:
        width = self.stalk * self.hidden_channels
        if not is_torch(x) or not x.is_floating_point():
            raise TypeError(f"x must be a floating tensor, got {getattr(x, 'dtype', type(x).__name__)}")
        if x.dim() != 2 or x.shape[1] != width:
            raise ValueError(f"x must have shape (nodes, {width}), got {tuple(x.shape)}")


def _of_both_ends(learner: nn.Linear, x: torch.Tensor, structure: EdgeStructure) -> torch.Tensor:
    """W [x_v | x_u] for all directed edges (v, u), multiplied node by node: cheaper than edge by edge."""
    own, other = learner.weight.chunk(2, dim=1)
    return F.linear(x, own)[structure.source] + F.linear(x, other)[structure.target]
