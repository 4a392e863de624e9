"""A diffusion model of the 8 x 8 digits, with and without classes, trained once per machine and shared by the studies that sample from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ritz.diffusion import ClassifierFreeGuidance, EDMDenoiser
from ritz.studies.data.digits import digits
from ritz.studies.run import Run
from ritz.studies.training import fit, minibatches, warmup_cosine

CLASSES = 10
RECIPE = 1  # counts up when the network, its data or its training changes: part of the checkpoint's name


class DigitNetwork(torch.nn.Module):
    """A residual MLP of 64 pixels that is told the noise level and the class, 10 for none."""

    def __init__(self, width: int):
        super().__init__()
        self.into = torch.nn.Linear(64, width)
        self.label = torch.nn.Embedding(CLASSES + 1, width)
        self.level = torch.nn.Sequential(torch.nn.Linear(16, width), torch.nn.SiLU(), torch.nn.Linear(width, width))
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.LayerNorm(width), torch.nn.Linear(width, width), torch.nn.SiLU(), torch.nn.Linear(width, width))
            for _ in range(2)
        )
        self.out = torch.nn.Linear(width, 64)
        self.register_buffer("frequencies", 2.0 ** torch.arange(-1, 7))

    def forward(self, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Map pixels (batch, 64), times (batch,) and classes (batch,) to (batch, 64)."""
        angle = time[:, None] * self.frequencies
        context = self.level(torch.cat([angle.sin(), angle.cos()], dim=1)) + self.label(label)
        hidden = self.into(x)
        for block in self.blocks:
            hidden = hidden + block(hidden + context)
        return self.out(torch.nn.functional.silu(hidden))


@dataclass(frozen=True)
class DigitDiffusion:
    """A trained network, preconditioned for data of deviation `spread`, as the denoisers ``D(x, sigma)`` that samplers take; x is (batch, 64).

    Where no labels are given, sample i of a batch belongs to class i mod 10.
    """

    network: DigitNetwork
    spread: float

    @property
    def unconditional(self) -> EDMDenoiser:
        """The denoiser of digits of any class."""
        return EDMDenoiser(lambda x, time: self.network(x, time, torch.full((len(x),), CLASSES, device=x.device)), self.spread)

    def conditional(self, labels: torch.Tensor | None = None) -> EDMDenoiser:
        """The denoiser of digits of these classes (batch,)."""

        def network(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return self.network(x, time, torch.arange(len(x), device=x.device) % CLASSES if labels is None else labels)

        return EDMDenoiser(network, self.spread)

    def guided(self, scale: float, labels: torch.Tensor | None = None) -> ClassifierFreeGuidance:
        """The denoiser guided towards these classes (batch,) by `scale`."""
        return ClassifierFreeGuidance(self.conditional(labels), self.unconditional, scale)


def digit_pixels(run: Run) -> dict[str, torch.Tensor]:
    """The data of a run's first seed: pixels "train" and "test" (n, 64) in [-1, 1] and classes "train_labels" and "test_labels" (n,)."""
    split = digits(run.seed)
    parts = {"train": 2 * split.x_train - 1, "train_labels": split.y_train, "test": 2 * split.x_test - 1, "test_labels": split.y_test}
    return {name: torch.from_numpy(part).to(run.device) for name, part in parts.items()}


def trained_digit_diffusion(run: Run) -> DigitDiffusion:
    """Return the model of a run's scale and first seed, trained once and cached as safetensors beside the reports."""
    from safetensors.torch import load_file

    width = run.pick(smoke=32, default=128, full=512)
    steps = run.pick(smoke=30, default=2500, full=20000)
    network = DigitNetwork(width)
    name = f"digit-diffusion-{RECIPE}-width{width}-steps{steps}-seed{run.seed}.safetensors"
    network.load_state_dict(load_file(run.cached(name, partial(_train, run, width, steps))))
    return DigitDiffusion(network.to(run.device).eval().requires_grad_(False), float(digit_pixels(run)["train"].std()))


def _train(run: Run, width: int, steps: int, path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(run.seed)
    network = DigitNetwork(width).to(run.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = warmup_cosine(optimizer, steps, steps // 20)
    fit(optimizer, _loss(run, network), run.progress(range(steps), "training the digit model"), scheduler=schedule, clip_norm=1.0)
    save_file(network.state_dict(), path)


def _loss(run: Run, network: DigitNetwork) -> Callable[[int], torch.Tensor]:
    """The denoising loss of a batch; a tenth of the labels is hidden."""
    pixels = digit_pixels(run)
    data, labels = pixels["train"], pixels["train_labels"]
    generator = torch.Generator().manual_seed(run.seed)
    batches = minibatches(len(data), 128, generator)
    spread = float(data.std())

    def loss(_: int) -> torch.Tensor:
        chosen = next(batches)
        hidden = torch.rand(len(chosen), generator=generator) < 0.1
        label = torch.where(hidden.to(run.device), CLASSES, labels[chosen])
        return EDMDenoiser(partial(network, label=label), spread).loss(data[chosen])

    return loss
