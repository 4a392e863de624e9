"""A few batched steps of conjugate gradients against SciPy's in a loop, and a step of DDS against one of DPS with a small U-Net."""

import numpy as np
import scipy.sparse.linalg
import torch

from ritz.core import optional_import
from ritz.diffusion import DataConsistency, ParallelBeam, conjugate_gradient
from ritz.studies import benchmark, compare


@benchmark
def conjugate_gradients():
    """Five steps for 16 images of 64 x 64 pixels in 30 views: at least three times as fast as SciPy, image by image."""
    beams = ParallelBeam(np.linspace(0, np.pi, 30, endpoint=False), 64)
    b = beams.adjoint(beams.forward(torch.rand(16, 1, 64, 64, dtype=torch.float64)))
    matrix = scipy.sparse.csr_array(beams.forward(torch.eye(4096, dtype=torch.float64).reshape(4096, 1, 64, 64)).numpy().T)
    transpose = matrix.T.tocsr()
    normal = scipy.sparse.linalg.LinearOperator((4096, 4096), matvec=lambda x: transpose @ (matrix @ x), dtype=np.float64)
    columns = b.flatten(1).numpy()

    def one_by_one():
        return [scipy.sparse.linalg.cg(normal, column, rtol=1e-10, maxiter=5)[0] for column in columns]

    def batched():
        return conjugate_gradient(lambda x: beams.adjoint(beams.forward(x)), b, torch.zeros_like(b), 5)

    difference = float(np.abs(np.stack(one_by_one()) - batched().flatten(1).numpy()).max())
    return compare(
        "5 CG steps, 16 images, 30 views", batched, one_by_one, peer_name="scipy cg, a loop", target=3.0, extra={"largest difference": difference}
    )


@benchmark
def step_with_a_network():
    """Denoiser and correction of 4 images of 64 x 64 pixels in 30 views, by conjugate gradients and by a gradient through the denoiser."""
    beams = ParallelBeam(np.linspace(0, np.pi, 30, endpoint=False), 64)
    x = torch.randn(4, 1, 64, 64)
    y = beams.forward(torch.rand(4, 1, 64, 64))
    unet = optional_import("diffusers", extra="diffusers").UNet2DModel(
        sample_size=64,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        layers_per_block=1,
    )
    unet.eval().requires_grad_(False)
    correct = DataConsistency(beams, y, (4, 1, 64, 64))

    @torch.no_grad()
    def decomposed():
        return correct(x - unet(x, 10).sample)

    def posterior_sampling():
        start = x.clone().requires_grad_()
        residual = (y - beams.forward(start - unet(start, 10).sample)).norm(dim=1).sum()
        return torch.autograd.grad(residual, start)[0]

    return compare("a step, 4 images of 64 x 64", decomposed, posterior_sampling, peer_name="DPS", target=1.8, extra=_memory(unet, x))


def _memory(unet: torch.nn.Module, x: torch.Tensor) -> dict[str, float]:
    """Megabytes of activations that a gradient keeps."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = unet(x.clone().requires_grad_(), 10).sample
    del output
    return {"MB kept by DPS": sum(kept.values()) / 1e6}
