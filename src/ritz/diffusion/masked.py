"""Absorbing (masked) discrete diffusion: masking schedules, models of the clean tokens given the visible ones, and exact models of small tables.

A token is replaced by a mask token with probability ``m(t) = 1 - exp(-total_noise(t))``, once for all. A *masked model* of this room is a callable
``model(tokens) -> logits``: tokens (batch, length) int64 with `model.mask_id` where a token is hidden; logits (batch, length, width) of the clean
token at every position, -inf for the mask token if the width includes it. It has no time input, and needs none: the law of the clean tokens given
the visible ones does not depend on when the others were hidden.

Sources: Austin et al., D3PM, NeurIPS 2021, arXiv:2107.03006 (absorbing diffusion); Lou et al., SEDD, ICML 2024, arXiv:2310.16834 (schedules).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ritz.core import array, integer, positive, real
from ritz.diffusion.denoisers import check_callable

Time = float | torch.Tensor
LARGEST_TABLE = 2**27


class MaskingSchedule(ABC):
    """How much is masked at time t in [0, 1]; every method takes a float or a tensor and returns the same kind."""

    @abstractmethod
    def total_noise(self, t: Time) -> Time:
        """Integral of the masking rate from 0 to t; a token is still visible with probability exp(-total_noise)."""

    @abstractmethod
    def noise_rate(self, t: Time) -> Time:
        """Time derivative of `total_noise`."""

    def masking_probability(self, t: Time) -> Time:
        """Probability that a token is masked at time t."""
        total = self.total_noise(t)
        return -torch.expm1(-total) if isinstance(total, torch.Tensor) else -math.expm1(-total)


@dataclass(frozen=True)
class LogLinear(MaskingSchedule):
    """Masking probability proportional to time, ``m(t) = (1 - eps) t``.

    Parameters
    ----------
    eps : float
        What stays visible at t = 1, on average.

    Raises
    ------
    TypeError, ValueError
        Unless 0 <= eps < 1.

    Examples
    --------
    >>> LogLinear(eps=0.0).masking_probability(0.25)
    0.25
    """

    eps: float = 1e-3

    def __post_init__(self):
        real(self.eps, "eps", at_least=0, below=1)

    def total_noise(self, t: Time) -> Time:
        return -torch.log1p(-(1 - self.eps) * t) if isinstance(t, torch.Tensor) else -math.log1p(-(1 - self.eps) * t)

    def noise_rate(self, t: Time) -> Time:
        return (1 - self.eps) / (1 - (1 - self.eps) * t)

    def masking_probability(self, t: Time) -> Time:
        return (1 - self.eps) * t


@dataclass(frozen=True)
class Geometric(MaskingSchedule):
    """Total noise that grows geometrically from `noise_min` at t = 0 to `noise_max` at t = 1.

    Raises
    ------
    TypeError, ValueError
        Unless 0 < noise_min < noise_max.

    Examples
    --------
    >>> round(Geometric().total_noise(1.0), 9)
    20.0
    """

    noise_min: float = 1e-4
    noise_max: float = 20.0

    def __post_init__(self):
        real(self.noise_max, "noise_max", above=positive(self.noise_min, "noise_min"))

    def total_noise(self, t: Time) -> Time:
        return self.noise_min * (self.noise_max / self.noise_min) ** t

    def noise_rate(self, t: Time) -> Time:
        return math.log(self.noise_max / self.noise_min) * self.total_noise(t)


class TabularMaskedModel:
    """The exact masked model of a joint distribution given as a table: what a perfectly trained network would answer.

    Parameters
    ----------
    joint : array (V, V, .., V)
        Probability of each sequence, one axis per position; divided by its sum.

    Raises
    ------
    TypeError, ValueError
        If the table is not finite, has a negative entry, no positive one, or axes of different lengths, or if (V + 1)^length exceeds 2^27.

    Notes
    -----
    Memory (V + 1)^length numbers: the probabilities of all partly hidden sequences. A call is a look-up of length * V numbers per sequence. Where the
    visible tokens have probability zero there is no conditional law; the answer is uniform there.

    Examples
    --------
    >>> equal_bits = TabularMaskedModel([[0.5, 0.0], [0.0, 0.5]])
    >>> equal_bits(torch.tensor([[1, equal_bits.mask_id]])).softmax(-1)[0, 1]
    tensor([0., 1.], dtype=torch.float64)
    """

    def __init__(self, joint):
        table = torch.as_tensor(array(joint, "joint")).double()
        if table.ndim == 0 or len(set(table.shape)) != 1:
            raise ValueError(f"joint must have one axis of the same length per position, got shape {tuple(table.shape)}")
        if (table.shape[0] + 1) ** table.ndim > LARGEST_TABLE:
            raise ValueError(f"joint must have (V + 1)^length of at most 2^27, got V = {table.shape[0]} and length {table.ndim}")
        if bool((table < 0).any()) or not bool((table > 0).any()):
            raise ValueError("joint must be non-negative, with a positive entry")
        self.vocab_size, self.length = table.shape[0], table.ndim
        self.joint = table / table.sum()
        partly = self.joint
        for axis in range(self.length):
            partly = torch.cat([partly, partly.sum(axis, keepdim=True)], dim=axis)
        self._log_probability = partly.reshape(-1).log()
        self._strides = (self.vocab_size + 1) ** torch.arange(self.length - 1, -1, -1)

    @property
    def mask_id(self) -> int:
        """The mask token: the number of real tokens."""
        return self.vocab_size

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logarithms of the conditional probabilities (batch, length, V); a visible token has probability 1."""
        tokens = check_tokens(tokens, "tokens", width=self.vocab_size + 1, length=self.length)
        here = tokens @ self._strides
        change = torch.arange(self.vocab_size) - self.mask_id
        opened = here[:, None, None] + change * self._strides[:, None]
        masked = tokens == self.mask_id
        logits = self._log_probability[torch.where(masked[..., None], opened, 0)] - self._log_probability[here][:, None, None]
        impossible = torch.isneginf(self._log_probability[here])[:, None, None]
        logits = torch.where(impossible, -math.log(self.vocab_size), logits)
        shown = torch.nn.functional.one_hot(torch.where(masked, 0, tokens), self.vocab_size).double().log()
        return torch.where(masked[..., None], logits, shown)

    def log_prob(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return log p (batch,) of the visible tokens, the masked ones summed out."""
        tokens = check_tokens(tokens, "tokens", width=self.vocab_size + 1, length=self.length)
        return self._log_probability[tokens @ self._strides]


@dataclass(frozen=True)
class MaskedLanguageModel:
    """A Hugging Face masked language model, or any network with ``network(input_ids).logits``, as a masked model of this room.

    Parameters
    ----------
    network : callable
        Takes tokens (batch, length), returns logits (batch, length, width), or an object that holds them as `logits`.
    mask_id : int
        Its mask token; the logit of it is set to -inf.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> model = MaskedLanguageModel(lambda tokens: torch.zeros(*tokens.shape, 3), mask_id=2)
    >>> model(torch.tensor([[2]])).softmax(-1)
    tensor([[[0.5000, 0.5000, 0.0000]]])
    """

    network: Callable[[torch.Tensor], object]
    mask_id: int

    def __post_init__(self):
        check_callable(self.network, "network")
        integer(self.mask_id, "mask_id", at_least=0)

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        output = self.network(tokens)
        logits = getattr(output, "logits", output)
        if self.mask_id >= logits.shape[-1]:
            return logits
        at_mask = torch.arange(logits.shape[-1], device=logits.device) == self.mask_id
        return logits.masked_fill(at_mask, float("-inf"))


def check_tokens(tokens: object, name: str, *, width: int | None = None, length: int | None = None) -> torch.Tensor:
    """Return tokens (batch, length) as int64, or refuse them; ids must be below `width`."""
    if not isinstance(tokens, torch.Tensor) or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        kind = f"a tensor of {tokens.dtype}" if isinstance(tokens, torch.Tensor) else type(tokens).__name__
        raise TypeError(f"{name} must be an integer tensor (batch, length), got {kind}")
    if tokens.ndim != 2 or not tokens.numel() or length not in (None, tokens.shape[1]):
        raise ValueError(f"{name} must have shape (batch, {'length' if length is None else length}) and not be empty, got {tuple(tokens.shape)}")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or (width is not None and high >= width):
        raise ValueError(f"{name} must be ids from 0 to {'the vocabulary' if width is None else width - 1}, got {low} to {high}")
    return tokens.long()


def check_masked_model(model: object, name: str = "model") -> int:
    """Refuse what is no masked model; return its mask token."""
    check_callable(model, name)
    mask_id = getattr(model, "mask_id", None)
    if not isinstance(mask_id, int):
        raise TypeError(f"{name} must have an integer attribute mask_id, the token that stands for a hidden one")
    return mask_id


def check_logits(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Refuse what a model must not answer: another shape, NaN."""
    if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
        raise ValueError(f"model must return logits of shape ({tokens.shape[0]}, {tokens.shape[1]}, width), got {tuple(logits.shape)}")
    if bool(torch.isnan(logits).any()):
        raise ValueError("model returned NaN")
    return logits


def draw(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draw a category (n,) from each row (n, width) by inverting its cumulative sum at `uniform` (n,), in double precision.

    Single precision would never draw the rarest tokens, which lowers the entropy of what is generated.
    """
    cumulative = probabilities.double().cumsum(-1)
    target = (uniform.double() * cumulative[:, -1])[:, None]
    drawn = torch.searchsorted(cumulative, target, right=True)[:, 0]
    last = probabilities.shape[-1] - 1 - (probabilities.flip(-1) > 0).int().argmax(-1)
    return torch.minimum(drawn, last)
