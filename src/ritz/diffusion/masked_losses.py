"""Training losses and likelihood bounds of masked diffusion; all estimate the same bound on -log p of a sequence for a time-free model.

Ou et al., ICLR 2025, arXiv:2406.03736, sections 3.2 and 3.3. With c(v | visible tokens) the model, sums over the masked positions i of -log c(x_i):

    lambda-DCE   mask each token with probability lambda ~ U(0, 1); weight 1 / lambda
    t-DCE        mask by the noise of a time t; weight total_noise'(t) / (exp(total_noise) - 1)
    t-DSE        the score entropy of the concrete score that c gives (SEDD's loss); equal to t-DCE because c sums to one
    k-DCE        mask k ~ U{1..L} tokens; weight L / k: the loss of any-order autoregression
    ar-...       the exact -log p when tokens are revealed one by one from left, from right, or in a random order
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch

from ritz.core import choice, integer, torch_generator
from ritz.diffusion.masked import LogLinear, MaskingSchedule, check_logits, check_masked_model, check_tokens

Kind = Literal["lambda_dce", "t_dce", "t_dse", "k_dce", "ar_forward", "ar_backward", "ar_random"]
KINDS: tuple[Kind, ...] = ("lambda_dce", "t_dce", "t_dse", "k_dce", "ar_forward", "ar_backward", "ar_random")
TimeSampling = Literal["decoupled", "antithetic", "uniform"]
TIME_SAMPLINGS: tuple[TimeSampling, ...] = ("decoupled", "antithetic", "uniform")
EARLIEST = 1e-3
"""t of the t-losses is drawn from (EARLIEST, 1]."""


def masked_diffusion_loss(
    model: Callable[[torch.Tensor], torch.Tensor],
    tokens: torch.Tensor,
    *,
    kind: Kind = "lambda_dce",
    schedule: MaskingSchedule | None = None,
    time_sampling: TimeSampling = "decoupled",
    generator: torch.Generator | int | None = None,
) -> torch.Tensor:
    """Return an estimate (batch,) of the bound on -log p of each sequence, in nats; its mean is the training loss.

    Parameters
    ----------
    model : callable
        A masked model: tokens to logits, with `mask_id`.
    tokens : Tensor (batch, length)
        Clean sequences.
    kind : {"lambda_dce", "t_dce", "t_dse", "k_dce", "ar_forward", "ar_backward", "ar_random"}
        See the module's documentation.
    schedule : MaskingSchedule, optional
        Of the t-losses; `LogLinear()` by default.
    time_sampling : {"decoupled", "antithetic", "uniform"}
        How lambda or t is drawn for a batch: one in each of `batch` equal parts of (0, 1); one draw and its equidistant shifts; independently.
    generator : torch.Generator, int or None
        Where times and masks come from.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, for masked tokens, for a model that returns NaN or another shape.

    Notes
    -----
    One model call, except for the autoregressive kinds: `length` calls' worth, in one batch.

    Examples
    --------
    >>> from ritz.diffusion import TabularMaskedModel
    >>> model = TabularMaskedModel([[0.5, 0.0], [0.0, 0.5]])
    >>> masked_diffusion_loss(model, torch.tensor([[0, 0], [1, 1]]), kind="ar_forward")
    tensor([0.6931, 0.6931], dtype=torch.float64)
    """
    mask_id = check_masked_model(model)
    tokens = check_tokens(tokens, "tokens")
    choice(kind, "kind", KINDS)
    choice(time_sampling, "time_sampling", TIME_SAMPLINGS)
    schedule = LogLinear() if schedule is None else schedule
    if not isinstance(schedule, MaskingSchedule):
        raise TypeError(f"schedule must be a MaskingSchedule, got {type(schedule).__name__}")
    if bool((tokens == mask_id).any()):
        raise ValueError(f"tokens must be clean, but some are the mask token, {mask_id}")
    generator = torch_generator(generator, tokens.device)
    if kind.startswith("ar_"):
        return _revealed_one_by_one(model, tokens, mask_id, _orders(tokens, kind, generator))
    if kind == "k_dce":
        masked, weight = _exactly_k_masked(tokens, generator)
        return weight * _cross_entropy(model, tokens, masked, mask_id)
    u = draw_times(len(tokens), time_sampling, generator, tokens.device)
    if kind == "lambda_dce":
        probability, weight = u, 1 / u.clamp(min=torch.finfo(u.dtype).tiny)
    else:
        t = 1 - (1 - EARLIEST) * u
        probability = schedule.masking_probability(t)
        weight = (1 - EARLIEST) * schedule.noise_rate(t) / torch.expm1(schedule.total_noise(t))
    masked = torch.rand(tokens.shape, generator=generator, dtype=u.dtype, device=tokens.device) < probability[:, None]
    if kind == "t_dse":
        ratio = 1 / torch.expm1(schedule.total_noise(t))
        return (1 - EARLIEST) * schedule.noise_rate(t) * _score_entropy(model, tokens, masked, mask_id, ratio)
    loss = _cross_entropy(model, tokens, masked, mask_id)
    return torch.where(masked.any(1), weight * loss, 0.0)


def perplexity_bound(
    model: Callable[[torch.Tensor], torch.Tensor],
    tokens: torch.Tensor,
    *,
    kind: Kind = "lambda_dce",
    samples: int = 16,
    schedule: MaskingSchedule | None = None,
    time_sampling: TimeSampling = "decoupled",
    generator: torch.Generator | int | None = None,
) -> float:
    """Return the bound on -log2 p per token, averaged over the sequences and `samples` draws; 2 to its power bounds the perplexity.

    Parameters
    ----------
    model, tokens, kind, schedule, time_sampling, generator
        As in `masked_diffusion_loss`.
    samples : int
        Draws per sequence.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> from ritz.diffusion import TabularMaskedModel
    >>> model = TabularMaskedModel([[0.25, 0.25], [0.25, 0.25]])
    >>> perplexity_bound(model, torch.tensor([[0, 1]]), kind="ar_random", samples=1)
    1.0
    """
    integer(samples, "samples", at_least=1)
    tokens = check_tokens(tokens, "tokens")
    generator = torch_generator(generator, tokens.device)
    options = {"kind": kind, "schedule": schedule, "time_sampling": time_sampling, "generator": generator}
    with torch.no_grad():
        total = sum(float(masked_diffusion_loss(model, tokens, **options).mean()) for _ in range(samples))
    return total / samples / tokens.shape[1] / math.log(2)


def draw_times(count: int, how: TimeSampling, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Draw `count` numbers, each uniform on (0, 1), spread evenly together unless drawn independently."""
    options = {"generator": generator, "dtype": torch.float64, "device": device}
    grid = torch.arange(count, dtype=torch.float64, device=device)
    if how == "decoupled":
        parts = grid[torch.randperm(count, generator=generator, device=device)]  # no sequence keeps a part of its own
        return (torch.rand(count, **options) + parts) / count
    if how == "antithetic":
        return (torch.rand(1, **options) + grid / count) % 1
    return torch.rand(count, **options)


def _log_probabilities(model, tokens: torch.Tensor, masked: torch.Tensor, mask_id: int) -> torch.Tensor:
    seen = tokens.masked_fill(masked, mask_id)
    logits = check_logits(model(seen), seen)
    if int(tokens.max()) >= logits.shape[-1]:
        raise ValueError(f"tokens must be ids below the model's {logits.shape[-1]}, got {int(tokens.max())}")
    return torch.log_softmax(logits, dim=-1)


def _of_the_truth(log_probabilities: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return log_probabilities.gather(-1, tokens[..., None])[..., 0]


def _cross_entropy(model, tokens: torch.Tensor, masked: torch.Tensor, mask_id: int) -> torch.Tensor:
    """Sum (batch,) of -log c over the masked positions."""
    truth = _of_the_truth(_log_probabilities(model, tokens, masked, mask_id), tokens)
    return -torch.where(masked, truth, 0.0).sum(1)


def _score_entropy(model, tokens: torch.Tensor, masked: torch.Tensor, mask_id: int, ratio: torch.Tensor) -> torch.Tensor:
    """Sum over the masked positions of ``sum_v s(v) - a log s(x_i) + a (log a - 1)``: s = ratio c is the model's score, a = ratio the true one."""
    log_probabilities = _log_probabilities(model, tokens, masked, mask_id)
    ratio = ratio[:, None]
    log_score = ratio.log() + _of_the_truth(log_probabilities, tokens)
    entropy = ratio * log_probabilities.exp().sum(-1) - ratio * log_score + ratio * (ratio.log() - 1)
    return torch.where(masked, entropy, 0.0).sum(1)


def _exactly_k_masked(tokens: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    batch, length = tokens.shape
    k = torch.randint(1, length + 1, (batch, 1), generator=generator, device=tokens.device)
    return _ranks(tokens, generator) < k, length / k[:, 0]


def _ranks(tokens: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random permutation of 0..length-1 in each row."""
    return torch.rand(tokens.shape, generator=generator, device=tokens.device).argsort(1)


def _orders(tokens: torch.Tensor, kind: Kind, generator: torch.Generator) -> torch.Tensor:
    """When (batch, length) each position is revealed."""
    forward = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    return {"ar_forward": lambda: forward, "ar_backward": lambda: forward.flip(1), "ar_random": lambda: _ranks(tokens, generator)}[kind]()


def _revealed_one_by_one(model, tokens: torch.Tensor, mask_id: int, when: torch.Tensor) -> torch.Tensor:
    batch, length = tokens.shape
    now = torch.arange(length, device=tokens.device)[None, :, None]
    hidden = (when[:, None] >= now).flatten(0, 1)
    repeated = tokens[:, None].expand(-1, length, -1).flatten(0, 1)
    truth = _of_the_truth(_log_probabilities(model, repeated, hidden, mask_id), repeated)
    revealed = (when[:, None] == now).flatten(0, 1)
    return -torch.where(revealed, truth, 0.0).sum(1).reshape(batch, length).sum(1)
