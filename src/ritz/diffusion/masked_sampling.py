"""Sampling from masked diffusion in many small steps, with a model call only where a token changes.

Ou et al., ICLR 2025, arXiv:2406.03736, sections 3.1 and 3.4. In a step from time t to s each masked token is unmasked with probability
``(m(t) - m(s)) / m(t)`` (Tweedie tau-leaping), independently of what it turns out to be. So the step at which each token opens can be drawn
beforehand, and a time-free model has to be asked only at the steps at which something opens: on average ``sum_k 1 - (1 - r_k)^length`` calls per
sequence, r_k the probability that a token opens at step k. Sequences are kept in lockstep, each at its own next such step, so batches stay full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from ritz.core import Result, choice, flag, integer, real, torch_generator
from ritz.diffusion.masked import LogLinear, MaskingSchedule, check_logits, check_masked_model, check_tokens, draw

Update = Literal["tweedie", "euler"]
Strategy = Literal["direct", "top_p", "top_k"]
STRATEGIES: tuple[Strategy, ...] = ("direct", "top_p", "top_k")
LAST_TIME = 1e-5


@dataclass(frozen=True, eq=False, repr=False)
class MaskedSamples(Result):
    """What samplers of masked diffusion return.

    Attributes
    ----------
    tokens : Tensor (n, length) int64
        The sequences, without masks.
    nfe : Tensor (n,) int64
        Number of model calls that each sequence needed.
    history : Tensor (n, length) int64
        The step at which each position was filled; -1 where the prompt had a token.
    """

    tokens: torch.Tensor
    nfe: torch.Tensor
    history: torch.Tensor


def sample_masked(
    model: Callable[[torch.Tensor], torch.Tensor],
    length: int,
    n: int,
    *,
    steps: int = 128,
    schedule: MaskingSchedule | None = None,
    update: Update = "tweedie",
    cache: bool = True,
    strategy: Strategy = "direct",
    strategy_value: float = 0.9,
    prompt: torch.Tensor | None = None,
    generator: torch.Generator | int | None = None,
) -> MaskedSamples:
    """Draw sequences from a masked model.

    Parameters
    ----------
    model : callable
        A masked model: tokens to logits, with `mask_id`.
    length, n : int
        Length and number of the sequences.
    steps : int
        Steps over equidistant times from 1 to 0; the last opens all that is left. Tokens of one step are drawn independently: few steps are biased.
    schedule : MaskingSchedule, optional
        `LogLinear()` by default, with which every step opens equally many tokens on average.
    update : {"tweedie", "euler"}
        The exact probability of opening in a step, or its first order in the step.
    cache : bool
        Call the model only for sequences in which something opens; else for all at every step. The samples are the same.
    strategy : {"direct", "top_p", "top_k"}
        Draw from the model's law, from its likeliest tokens of total probability strategy_value, or from its strategy_value likeliest tokens.
    strategy_value : float
        A probability in (0, 1] for "top_p", a whole number for "top_k"; not used by "direct".
    prompt : Tensor (n, length) or (length,), optional
        Tokens that stay as they are; the mask token where something is to be filled in.
    generator : torch.Generator, int or None
        Where the random numbers come from; on the model's device.

    Returns
    -------
    MaskedSamples

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or for a model that returns NaN or another shape.

    Notes
    -----
    Cost: about `expected_nfe` batched model calls; the rest is O(n length) per call.

    Examples
    --------
    >>> from ritz.diffusion import TabularMaskedModel
    >>> model = TabularMaskedModel([[0.5, 0.0], [0.0, 0.5]])
    >>> tokens = sample_masked(model, 2, 100, steps=10_000, generator=0).tokens
    >>> bool((tokens[:, 0] == tokens[:, 1]).all())
    True
    """
    mask_id = check_masked_model(model)
    length, n = integer(length, "length", at_least=1), integer(n, "n", at_least=1)
    flag(cache, "cache")
    keep = token_filter(strategy, strategy_value)
    opening_law = opening_probabilities(integer(steps, "steps", at_least=1), schedule, update)
    device = _device(model, prompt)
    generator = torch_generator(generator, device)
    tokens = starting_tokens(prompt, n, length, mask_id, device)
    options = {"generator": generator, "dtype": torch.float64, "device": device}
    opening = torch.searchsorted(opening_law.cumsum(0).to(device), torch.rand(n, length, **options), right=True).clamp(max=steps - 1)
    opening = torch.where(tokens == mask_id, opening, -1)
    uniform = torch.rand(n, length, **options)
    if cache:
        tokens, nfe = _fill(model, tokens, event_ranks(opening), uniform, keep)
    else:
        tokens, _ = _fill(model, tokens, opening, uniform, keep, events=steps)
        nfe = torch.full((n,), steps, device=device)
    return MaskedSamples(tokens, nfe, opening)


def sample_any_order(
    model: Callable[[torch.Tensor], torch.Tensor],
    order: torch.Tensor,
    n: int,
    *,
    strategy: Strategy = "direct",
    strategy_value: float = 0.9,
    prompt: torch.Tensor | None = None,
    generator: torch.Generator | int | None = None,
) -> MaskedSamples:
    """Draw sequences one token per call, in a given order: what a masked model is as an autoregressive one.

    Parameters
    ----------
    model, n, strategy, strategy_value, prompt, generator
        As in `sample_masked`.
    order : Tensor (length,) or (n, length)
        Positions in the order in which they are filled: a permutation, for all sequences or for each. Those of the prompt are passed over.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, such as an order that is no permutation.

    Examples
    --------
    >>> from ritz.diffusion import TabularMaskedModel
    >>> model = TabularMaskedModel([[0.5, 0.0], [0.0, 0.5]])
    >>> sample_any_order(model, torch.tensor([1, 0]), 3, generator=0).nfe
    tensor([2, 2, 2])
    """
    mask_id = check_masked_model(model)
    n = integer(n, "n", at_least=1)
    keep = token_filter(strategy, strategy_value)
    if not isinstance(order, torch.Tensor) or order.ndim not in (1, 2):
        raise TypeError(f"order must be an integer tensor (length,) or ({n}, length), got {type(order).__name__}")
    order = check_tokens(order.expand(n, -1) if order.ndim == 1 else order, "order")
    length = order.shape[1]
    if len(order) != n or not torch.equal(order.sort(1).values, torch.arange(length, device=order.device).expand(n, -1)):
        raise ValueError(f"order must hold permutations of 0..{length - 1} in shape ({length},) or ({n}, {length}), got {tuple(order.shape)}")
    device = _device(model, prompt)
    generator = torch_generator(generator, device)
    tokens = starting_tokens(prompt, n, length, mask_id, device)
    when = torch.where(tokens == mask_id, order.to(device).argsort(1), -1)
    uniform = torch.rand(n, length, generator=generator, dtype=torch.float64, device=device)
    ranks = event_ranks(when)
    tokens, nfe = _fill(model, tokens, ranks, uniform, keep)
    return MaskedSamples(tokens, nfe, ranks)


def expected_nfe(length: int, steps: int, schedule: MaskingSchedule | None = None, *, update: Update = "tweedie") -> float:
    """Return the expected number of model calls per sequence of `sample_masked` with its cache.

    Parameters
    ----------
    length, steps : int
        Length of the sequences (without their prompts) and number of steps.
    schedule, update
        As in `sample_masked`. For `LogLinear` it is steps (1 - (1 - 1 / steps)^length).

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> round(expected_nfe(32, 16), 2), round(expected_nfe(32, 1024), 1)
    (13.97, 31.5)
    """
    integer(length, "length", at_least=1)
    opening = opening_probabilities(integer(steps, "steps", at_least=1), schedule, update)
    return float(-torch.expm1(length * torch.log1p(-opening)).sum())


def opening_probabilities(steps: int, schedule: MaskingSchedule | None, update: Update) -> torch.Tensor:
    """Probability (steps,) that a token opens at each step."""
    schedule = LogLinear() if schedule is None else schedule
    if not isinstance(schedule, MaskingSchedule):
        raise TypeError(f"schedule must be a MaskingSchedule, got {type(schedule).__name__}")
    choice(update, "update", ("tweedie", "euler"))
    times = torch.linspace(1, LAST_TIME, steps + 1, dtype=torch.float64)
    masked = schedule.masking_probability(times)
    if update == "tweedie":
        rate = (masked[:-1] - masked[1:]) / masked[:-1]
    else:
        rate = ((times[:-1] - times[1:]) * schedule.noise_rate(times[:-1]) / torch.expm1(schedule.total_noise(times[:-1]))).clamp(0, 1)
    rate[-1] = 1.0
    still_masked = torch.cat([rate.new_ones(1), torch.cumprod(1 - rate[:-1], 0)])
    return rate * still_masked


def token_filter(strategy: Strategy, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """What turns probabilities (k, width) into those of the tokens that may be drawn."""
    choice(strategy, "strategy", STRATEGIES)
    if strategy == "direct":
        real(value, "strategy_value")
        return lambda probabilities: probabilities
    if strategy == "top_k":
        if real(value, "strategy_value", at_least=1) != int(value):
            raise ValueError(f"strategy_value must be a whole number of tokens for top_k, got {value}")
        return lambda probabilities: _top_k(probabilities, int(value))
    share = real(value, "strategy_value", above=0, at_most=1)
    return lambda probabilities: _top_p(probabilities, share)


def _top_k(probabilities: torch.Tensor, k: int) -> torch.Tensor:
    kept = probabilities.topk(min(k, probabilities.shape[-1]), dim=-1)
    return torch.zeros_like(probabilities).scatter(-1, kept.indices, kept.values)


def _top_p(probabilities: torch.Tensor, share: float) -> torch.Tensor:
    """The likeliest tokens up to the one with which they reach `share`."""
    ordered, index = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probabilities).scatter(-1, index, torch.where(before < share, ordered, 0.0))


def starting_tokens(prompt: torch.Tensor | None, n: int, length: int, mask_id: int, device: torch.device) -> torch.Tensor:
    """Masks everywhere but where the prompt has tokens."""
    if prompt is None:
        return torch.full((n, length), mask_id, device=device)
    if not isinstance(prompt, torch.Tensor) or prompt.ndim not in (1, 2):
        raise TypeError(f"prompt must be an integer tensor (length,) or (n, length), got {type(prompt).__name__}")
    tokens = check_tokens(prompt.expand(n, -1) if prompt.ndim == 1 else prompt, "prompt", length=length)
    if len(tokens) != n:
        raise ValueError(f"prompt must have {n} rows, or be one for all, got {len(tokens)}")
    return tokens.to(device).clone()


def event_ranks(when: torch.Tensor) -> torch.Tensor:
    """Number the distinct non-negative entries of each row (n, length) from 0 in rising order; negative ones stay -1."""
    ordered, index = when.sort(1)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ranks = (is_new & (ordered >= 0)).cumsum(1) - 1
    return torch.zeros_like(when).scatter(1, index, ranks)


def _fill(model, tokens, ranks, uniform, keep, events: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Open at event e the positions of rank e, calling the model for the sequences that still have events, or for all if `events` is given."""
    nfe = ranks.amax(1) + 1
    with torch.no_grad():
        for event in range(int(nfe.max()) if events is None else events):
            active = torch.nonzero(nfe > event)[:, 0] if events is None else slice(None)
            seen = tokens[active]
            logits = check_logits(model(seen), seen)
            opened = ranks[active] == event
            probabilities = keep(torch.softmax(logits[opened].double(), dim=-1))
            seen[opened] = draw(probabilities, uniform[active][opened])
            tokens[active] = seen
    return tokens, nfe


def _device(model, prompt) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, torch.nn.Module) else None
    if parameter is not None:
        return parameter.device
    return prompt.device if isinstance(prompt, torch.Tensor) else torch.device("cpu")
