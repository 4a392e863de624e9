"""A small language model of the bytes of Python's standard library, trained once per machine and shared by the studies that compress it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ritz.studies.data.text import held_out_split, standard_library_text, windows
from ritz.studies.run import Run
from ritz.studies.training import fit

VOCABULARY = 128
RECIPE = 1  # counts up when the model, its data or its training changes: part of the checkpoint's name


@dataclass(frozen=True)
class Shape:
    """Sizes of a byte language model."""

    blocks: int = 3
    width: int = 128
    heads: int = 4
    hidden: int = 384
    context: int = 96


class Block(nn.Module):
    """Pre-norm transformer block with separate query, key and value layers."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.heads = shape.heads
        self.attention_norm = nn.LayerNorm(shape.width)
        self.query, self.key, self.value, self.output = (nn.Linear(shape.width, shape.width) for _ in range(4))
        self.feed_forward_norm = nn.LayerNorm(shape.width)
        self.up, self.down = nn.Linear(shape.width, shape.hidden), nn.Linear(shape.hidden, shape.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, length, width) to the same."""
        x = x + self._attention(self.attention_norm(x))
        return x + self.down(F.gelu(self.up(self.feed_forward_norm(x))))

    def _attention(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))


class ByteLanguageModel(nn.Module):
    """Predicts the next byte: (batch, length) of bytes below 128 to logits (batch, length, 128)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.bytes = nn.Embedding(VOCABULARY, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, VOCABULARY, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of the byte that follows each position."""
        hidden = self.bytes(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden))


def next_byte_loss(model: nn.Module, text: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood in nats per byte of windows (count, length + 1)."""
    logits = model(text[:, :-1])
    return F.cross_entropy(logits.reshape(-1, VOCABULARY), text[:, 1:].reshape(-1))


@torch.no_grad()
def evaluate(model: nn.Module, text: torch.Tensor, batch: int = 64) -> float:
    """The loss of a model in nats per byte on windows (count, length + 1), without gradients."""
    losses = [next_byte_loss(model, part) * len(part) for part in text.split(batch)]
    return float(sum(losses) / len(text))


def training_text() -> np.ndarray:
    """The first nine tenths of the standard library's text."""
    return held_out_split(standard_library_text())[0]


def held_out_text() -> np.ndarray:
    """The last tenth."""
    return held_out_split(standard_library_text())[1]


def sample(text: np.ndarray, count: int, length: int, seed: int, device: str = "cpu") -> torch.Tensor:
    """Draw windows (count, length) of a text as a tensor of bytes."""
    return torch.from_numpy(windows(text, count, length, np.random.default_rng(seed))).to(device)


def trained_byte_language_model(run: Run) -> ByteLanguageModel:
    """Return the model of a run's scale and first seed, trained once and cached as safetensors beside the reports."""
    from safetensors.torch import load_file

    shape = run.pick(smoke=Shape(blocks=2, width=32, heads=2, hidden=96, context=32), default=Shape())
    steps = run.pick(smoke=20, default=700)
    model = ByteLanguageModel(shape)
    name = f"byte-language-model-{RECIPE}-{'-'.join(map(str, asdict(shape).values()))}-steps{steps}-seed{run.seed}.safetensors"
    model.load_state_dict(load_file(run.cached(name, _trainer(run, shape, steps))))
    return model.to(run.device).eval().requires_grad_(False)


def _trainer(run: Run, shape: Shape, steps: int) -> Callable[[Path], None]:
    def train(path: Path) -> None:
        from safetensors.torch import save_file

        torch.manual_seed(run.seed)
        model = ByteLanguageModel(shape).to(run.device)
        rng, text = np.random.default_rng(run.seed), training_text()
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, cycle_momentum=False)

        def loss(step: int) -> torch.Tensor:
            return next_byte_loss(model, torch.from_numpy(windows(text, 10, shape.context + 1, rng)).to(run.device))

        fit(optimizer, loss, run.progress(range(steps), "training the byte language model"), scheduler=scheduler, clip_norm=1.0)
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)

    return train
