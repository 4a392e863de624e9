"""PONITA's separable convolution against one whose kernel sees both orientations of a pair at once."""

import torch

from ritz.graphs import FiberBundleConv, sphere_grid
from ritz.graphs.ponita import all_pairs
from ritz.graphs.position_orientation import KernelBasis, invariants
from ritz.studies import benchmark, compare

GRAPHS, POINTS, ORIENTATIONS, CHANNELS = 8, 20, 16, 64


@benchmark(threads=2)
def separable_against_joint():
    """Forward and backward on clouds of 20 points, all pairs joined, 16 orientations, 64 channels; eight clouds, for the memory of the peer."""
    torch.manual_seed(0)
    pos, grid = torch.randn(GRAPHS * POINTS, 3), sphere_grid(ORIENTATIONS)
    edges = all_pairs(pos, torch.arange(GRAPHS).repeat_interleave(POINTS), None)
    spatial, fiber, _ = invariants(pos, edges, grid)
    x = torch.randn(len(pos), ORIENTATIONS, CHANNELS)
    position_basis, fiber_basis, joint_basis = (KernelBasis(count, 3, CHANNELS, CHANNELS) for count in (2, 1, 3))
    separable, kernel = FiberBundleConv(CHANNELS, CHANNELS).eval(), torch.nn.Linear(CHANNELS, CHANNELS, bias=False)

    def ours():
        separable(x, edges, position_basis(spatial), fiber_basis(fiber)).sum().backward()

    def joint():
        total = torch.zeros_like(x)
        for part in torch.arange(edges.shape[1]).split(128):
            pairs = torch.cat([spatial[part].unsqueeze(2).expand(-1, -1, ORIENTATIONS, -1), fiber.expand(len(part), -1, -1, -1)], dim=-1)
            message = torch.einsum("eabc,ebc->eac", kernel(joint_basis(pairs)), x[edges[0, part]])
            total = total.index_add(0, edges[1, part], message)
        total.sum().backward()

    return compare("8 clouds of 20 points, forward and backward", ours, joint, peer_name="kernel of both orientations", target=10.0)
