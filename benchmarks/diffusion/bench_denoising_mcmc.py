"""What Langevin-Gibbs chains add to the denoiser's calls: the noise classifier and the keeping of books."""

import torch

from ritz.core import optional_import
from ritz.diffusion import ChainState, DenoisingLangevinGibbs, NoiseClassifier
from ritz.studies import benchmark, compare


@benchmark
def overhead():
    """A move of 200 chains of 3 x 32 x 32 numbers without the denoiser: at most a tenth of a call of a U-Net, here one far smaller than is usual."""
    chains = DenoisingLangevinGibbs(lambda x, sigma: x, NoiseClassifier((3, 32, 32)), steps_between=1)
    state = ChainState(torch.randn(200, 3, 32, 32), torch.full((200,), 0.5))
    unet = optional_import("diffusers", extra="diffusers").UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 64, 64, 64),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=32,
    )

    @torch.no_grad()
    def call():
        return unet(state.x, 10).sample

    return compare(
        "a move of 200 chains, 3 x 32 x 32, all but the denoiser",
        lambda: chains.sample(200, lambda denoiser, x, sigma, generator: x, state, 0),
        call,
        peer_name="a call of a U-Net",
        target=10.0,
        pairs=3,
        shortest=0.0,
        extra={"millions of weights": sum(p.numel() for p in unet.parameters()) / 1e6},
    )
