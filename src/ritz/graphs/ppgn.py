"""PPGN++: a network of products of matrices over pairs of nodes, with transposes and the identity in every block.

Puny, Lim, Kiani, Maron and Lipman, "Equivariant Polynomials for Graph Neural Networks", ICML 2023, arXiv:2302.11556, section 5; after Maron et al.,
"Provably Powerful Graph Networks", NeurIPS 2019, arXiv:1905.11136.
"""

from __future__ import annotations

import torch
from torch import nn

from ritz.core import choice, integer
from ritz.graphs.pair_tensors import diagonal, mean_diagonal, mean_off_diagonal, pair_mask


class PPGNPlus(nn.Module):
    """Blocks that multiply pair tensors as matrices, channel by channel: ``x <- skip(x, m1([x, x^T]) m2(x))``, with the identity beside x.

    Parameters
    ----------
    in_channels : int
        Channels of the pair tensors that come in: the adjacency, edge features, node features on the diagonal, `PolynomialFeatures`.
    hidden : int
        Channels inside.
    out_channels : int
        Length of the outputs.
    depth : int
        Number of blocks.
    readout : {"graph", "node", "pair"}
        An output for each graph (from the means of the diagonal and of the rest), for each node (from its own pair and the sums of its row and
        column), or for each pair.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range.

    Notes
    -----
    Cost O(n^3 hidden) a block, memory O(n^2 hidden). Products are not scaled by n: the polynomials are those of the paper.

    Examples
    --------
    >>> pairs = torch.ones(2, 5, 5, 1)
    >>> PPGNPlus(1, 8, 3, depth=2)(pairs, torch.ones(2, 5, dtype=torch.bool)).shape
    torch.Size([2, 3])
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, depth: int = 8, readout: str = "graph"):
        super().__init__()
        self.in_channels, hidden = integer(in_channels, "in_channels", at_least=1), integer(hidden, "hidden", at_least=1)
        out_channels, depth = integer(out_channels, "out_channels", at_least=1), integer(depth, "depth", at_least=1)
        self.readout = choice(readout, "readout", ["graph", "node", "pair"])
        self.blocks = nn.ModuleList(PPGNBlock(self.in_channels if i == 0 else hidden, hidden) for i in range(depth))
        width = {"graph": 2, "node": 3, "pair": 1}[self.readout] * hidden
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out_channels))

    def forward(self, pairs: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        """Map pair tensors (B, n, n, in_channels), with the mask (B, n) of the nodes that exist, to outputs.

        Returns
        -------
        Tensor (B, out), (B, n, out) or (B, n, n, out)
            Zero for nodes and pairs that do not exist.

        Raises
        ------
        ValueError
            If shapes disagree.
        """
        if pairs.dim() != 4 or pairs.shape[1] != pairs.shape[2] or pairs.shape[3] != self.in_channels:
            raise ValueError(f"pairs must have shape (graphs, n, n, {self.in_channels}), got {tuple(pairs.shape)}")
        if nodes.shape != pairs.shape[:2] or nodes.dtype != torch.bool:
            raise ValueError(f"nodes must be a mask of shape {tuple(pairs.shape[:2])}, got {nodes.dtype} {tuple(nodes.shape)}")
        mask = pair_mask(nodes).unsqueeze(-1)
        x = pairs * mask
        for block in self.blocks:
            x = block(x, mask)
        if self.readout == "pair":
            return self.head(x) * mask
        if self.readout == "node":
            return self.head(torch.cat([diagonal(x), x.sum(1), x.sum(2)], dim=-1)) * nodes.unsqueeze(-1)
        return self.head(torch.cat([mean_diagonal(x, nodes), mean_off_diagonal(x, nodes)], dim=-1))


class PPGNBlock(nn.Module):
    """One product of matrices; inputs and outputs (B, n, n, C), zero outside the mask (B, n, n, 1)."""

    def __init__(self, in_channels: int, hidden: int):
        super().__init__()
        self.left = _perceptron(2 * (in_channels + 1), hidden)
        self.right = _perceptron(in_channels + 1, hidden)
        self.skip = nn.Linear(in_channels + 1 + hidden, hidden)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Multiply, and pass on beside what came in."""
        n = x.shape[1]
        identity = torch.eye(n, dtype=x.dtype, device=x.device).view(1, n, n, 1).expand(len(x), -1, -1, -1) * mask
        x = torch.cat([x, identity], dim=-1)
        left = self.left(torch.cat([x, x.transpose(1, 2)], dim=-1)) * mask
        right = self.right(x) * mask
        product = (left.permute(0, 3, 1, 2) @ right.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.skip(torch.cat([x, product], dim=-1)) * mask


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs), nn.ReLU())
