"""RADD: a transformer for masked diffusion that is not told the time.

Ou, Nie, Xue, Zhu, Sun, Li, Li, "Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data", ICLR 2025,
arXiv:2406.03736, section 3.1. The concrete score of absorbing diffusion is a known function of the time times the law of the clean token given the
visible ones,

    p_t(x with token i := v) / p_t(x) = p_0(x_i = v | visible tokens) / (exp(total_noise(t)) - 1)       for a masked position i,

and that law does not depend on the time. So the network needs none: it sees tokens, and answers with logits.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from ritz.core import integer, real
from ritz.diffusion.masked import check_tokens


class RADD(torch.nn.Module):
    """Bidirectional transformer from tokens, some of them masked, to logits of the clean tokens at all positions.

    Layer normalization before attention and before the MLP (tanh GELU, four times as wide), rotary positions, a final normalization and a linear
    layer that starts at zero. (The released code starts the biases of its normalizations at one; here they start at zero.)

    Parameters
    ----------
    vocab_size : int
        Number V of real tokens; the mask token is V, `mask_id`, and is never predicted.
    hidden_size, blocks, heads : int
        Width, depth, and attention heads; hidden_size / heads must be even.
    dropout : float
        On both residual branches, while training.
    max_length : int
        Longest sequence.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on tokens outside [0, V] or longer than max_length.

    Examples
    --------
    >>> model = RADD(5, hidden_size=16, blocks=1, heads=2, max_length=8)
    >>> model(torch.full((2, 8), model.mask_id)).shape
    torch.Size([2, 8, 5])
    """

    def __init__(self, vocab_size: int, hidden_size: int = 768, blocks: int = 12, heads: int = 12, dropout: float = 0.02, max_length: int = 1024):
        super().__init__()
        self.vocab_size = integer(vocab_size, "vocab_size", at_least=1)
        integer(hidden_size, "hidden_size", at_least=2)
        if hidden_size % (2 * integer(heads, "heads", at_least=1)):
            raise ValueError(f"hidden_size must be an even multiple of heads, {heads}, got {hidden_size}")
        real(dropout, "dropout", at_least=0, below=1)
        self.max_length = integer(max_length, "max_length", at_least=1)
        self.embedding = torch.nn.Embedding(vocab_size + 1, hidden_size)
        torch.nn.init.normal_(self.embedding.weight, std=hidden_size**-0.5)
        self.blocks = torch.nn.ModuleList(Block(hidden_size, heads, dropout) for _ in range(integer(blocks, "blocks", at_least=1)))
        self.normalization = torch.nn.LayerNorm(hidden_size)
        self.head = torch.nn.Linear(hidden_size, vocab_size)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        angles = rotary_angles(max_length, hidden_size // heads)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    @property
    def mask_id(self) -> int:
        """The mask token."""
        return self.vocab_size

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (batch, length) to logits (batch, length, V)."""
        tokens = check_tokens(tokens, "tokens", width=self.vocab_size + 1)
        if tokens.shape[1] > self.max_length:
            raise ValueError(f"tokens must be sequences of length {self.max_length} at most, got {tokens.shape[1]}")
        return self.head(self.normalization(self.hidden(self.embedding(tokens))))

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        """Map embedded tokens (batch, length, hidden_size) through all blocks."""
        rotation = self.cosine[: x.shape[1]], self.sine[: x.shape[1]]
        for block in self.blocks:
            x = block(x, rotation)
        return x


class Block(torch.nn.Module):
    """``x + attention(norm(x))``, then ``x + MLP(norm(x))``."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, torch.nn.Dropout(dropout)
        self.before_attention, self.before_mlp = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.query_key_value = torch.nn.Linear(width, 3 * width, bias=False)
        self.out = torch.nn.Linear(width, width, bias=False)
        self.mlp = torch.nn.Sequential(torch.nn.Linear(width, 4 * width), torch.nn.GELU(approximate="tanh"), torch.nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x = x + self.dropout(self.out(self._attended(self.before_attention(x), rotation)))
        return x + self.dropout(self.mlp(self.before_mlp(x)))

    def _attended(self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        q, k, v = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(rotated(q, *rotation), rotated(k, *rotation), v)
        return mixed.transpose(1, 2).flatten(2)


def rotary_angles(length: int, width: int) -> torch.Tensor:
    """Angles (length, width / 2) of rotary positions: position times 10000^(-2 j / width)."""
    return torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)


def rotated(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Turn the two halves of the last dimension of x (.., length, width) against each other."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
