"""One decoder for masked diffusion models, and all the usual strategies of which tokens to decode together.

Kang et al., "ParallelBench: Understanding the Trade-offs of Parallel Decoding in Diffusion LLMs", ICLR 2026, arXiv:2510.04767, section 5; the
decoding step is LLaDA's (arXiv:2502.09992, algorithm 5). In each call every masked position gets a candidate token, drawn independently of the
others, and a confidence; a strategy says which candidates stay. Blocks are filled from left to right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ritz.core import Result, array, integer, real, to_numpy, torch_generator
from ritz.diffusion.masked import check_masked_model, check_tokens, draw
from ritz.diffusion.unmask_strategies import Confidence, DecodingState, FunctionStrategy, UnmaskStrategy


@dataclass(frozen=True, eq=False, repr=False)
class Decoded(Result):
    """What `parallel_decode` returns.

    Attributes
    ----------
    tokens : Tensor (n, length) int64
        The filled sequences.
    nfe : Tensor (n,) int64
        Model calls that each sequence took; guidance counts twice.
    order : Tensor (n, length) int64
        The step at which each position got its last token; -1 in the prompt.
    history : tuple of Tensor (n, length)
        The sequences after each step.
    """

    tokens: torch.Tensor
    nfe: torch.Tensor
    order: torch.Tensor
    history: tuple[torch.Tensor, ...]


def parallel_decode(
    model: Callable[[torch.Tensor], torch.Tensor],
    tokens: torch.Tensor,
    *,
    strategy: UnmaskStrategy | Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    block_length: int | None = None,
    temperature: float = 0.0,
    guidance: float = 0.0,
    eos_id: int | None = None,
    generator: torch.Generator | int | None = None,
) -> Decoded:
    """Fill the masked positions of sequences.

    Parameters
    ----------
    model : callable
        A masked model: tokens to logits, with `mask_id`.
    tokens : Tensor (n, length)
        The prompts, with `model.mask_id` at the positions to fill.
    strategy : UnmaskStrategy or callable
        `TopK`, `RandomK`, `LeftToRight`, `Threshold`, `Factor`, `FixedPartition`, `RemaskLowest`, `RunningConfidence`, or a function
        ``(confidence, eligible) -> selection`` of tensors (n, length).
    block_length : int, optional
        Length of the blocks that are filled one after the other; divides length. One block by default.
    temperature : float
        0 takes the likeliest token as the candidate; 1 draws from the model's law. The confidence is the model's own in any case.
    guidance : float
        w > 0: logits ``un + (w + 1) (logits - un)``, with un those of the sequence with its prompt masked too; twice the calls.
    eos_id : int, optional
        Once this token is decided, with all before it, the rest of the sequence is filled with it.
    generator : torch.Generator, int or None
        Where the random numbers come from; on the device of tokens.

    Returns
    -------
    Decoded

    Raises
    ------
    TypeError, ValueError
        For a bad argument, nothing to fill, a model that returns NaN or another shape, or a strategy that opens nothing.

    Notes
    -----
    One softmax per step, over the eligible positions only; "entropy" and "margin" take another pass over it. One token per step and temperature 1 is
    ancestral sampling from the model if the confidence does not look at the drawn token; "probability" does, and prefers likely draws.

    Examples
    --------
    >>> from ritz.diffusion import TabularMaskedModel, TopK
    >>> model = TabularMaskedModel([[0.1, 0.0], [0.0, 0.9]])
    >>> parallel_decode(model, torch.full((1, 2), model.mask_id), strategy=TopK(2)).tokens
    tensor([[1, 1]])
    """
    mask_id = check_masked_model(model)
    tokens = check_tokens(tokens, "tokens").clone()
    strategy = _strategy(strategy)
    length = tokens.shape[1]
    block_length = length if block_length is None else integer(block_length, "block_length", at_least=1)
    if length % block_length:
        raise ValueError(f"block_length must divide the length of tokens, {length}, got {block_length}")
    real(temperature, "temperature", at_least=0)
    real(guidance, "guidance", at_least=0)
    if eos_id is not None:
        integer(eos_id, "eos_id", at_least=0)
    to_fill = tokens == mask_id
    if not bool(to_fill.any()):
        raise ValueError(f"tokens must have a masked position (the mask token is {mask_id})")
    progress = _Progress(tokens, to_fill, mask_id, block_length, torch_generator(generator, tokens.device))
    while progress.next_step():
        seen = tokens[progress.rows]
        logits = _guided(model, seen, to_fill[progress.rows], mask_id, guidance)
        candidates, confidence = _candidates(logits, progress.state, progress.rows, strategy.confidence, temperature)
        progress.open(candidates, confidence, strategy)
        if eos_id is not None:
            progress.end_at(eos_id)
    calls = progress.calls * (2 if guidance else 1)
    return Decoded(tokens, calls, progress.order, tuple(progress.history))


class _Progress:
    """Which positions are open, in which block each sequence is, and what is counted."""

    def __init__(self, tokens: torch.Tensor, to_fill: torch.Tensor, mask_id: int, block_length: int, generator: torch.Generator):
        n, length = tokens.shape
        self.tokens, self.to_fill, self.mask_id = tokens, to_fill, mask_id
        self.block_of = torch.arange(length, device=tokens.device) // block_length
        self.block = torch.full((n,), -1, device=tokens.device)
        zeros = torch.zeros(n, dtype=torch.int64, device=tokens.device)
        nowhere = torch.zeros_like(to_fill)
        unsure = torch.full((n, length), -math.inf, dtype=torch.float64, device=tokens.device)
        self.state = DecodingState(unsure, nowhere, nowhere, unsure.clone(), zeros, zeros.clone(), generator)
        self.calls, self.order = zeros.clone(), torch.full_like(tokens, -1)
        self.history: list[torch.Tensor] = []
        self.limit = 100 * length + 100

    def next_step(self) -> bool:
        """Find the eligible positions; False when nothing is masked."""
        masked = (self.tokens == self.mask_id) & self.to_fill
        active = masked.any(1)
        if not bool(active.any()):
            return False
        if len(self.history) >= self.limit:
            raise ValueError(f"strategy hides what it opens: nothing was finished after {self.limit} steps")
        block = torch.where(active, self.block_of[masked.int().argmax(1)], self.block)
        in_block = self.block_of == block[:, None]
        entered, self.block = active & (block != self.block), block
        state = self.state
        state.eligible, state.decided = masked & in_block, ~masked & self.to_fill & in_block
        state.step = torch.where(entered, 0, state.step)
        state.total = torch.where(entered, state.eligible.sum(1), state.total)
        self.rows = torch.nonzero(active)[:, 0]
        return True

    def open(self, candidates: torch.Tensor, confidence: torch.Tensor, strategy: UnmaskStrategy) -> None:
        """Let the strategy choose among the candidates, and hide again."""
        state = self.state
        state.confidence = confidence
        selection = strategy.choose(state) & state.eligible
        if not bool(selection[self.rows].any(1).all()):
            raise ValueError(f"strategy {strategy} opened nothing at step {len(self.history) + 1}, though something is masked")
        self.tokens[selection] = candidates[selection]
        self.order[selection] = len(self.history)
        state.decided, state.eligible = state.decided | selection, state.eligible & ~selection
        state.decided_confidence = torch.where(selection, confidence, state.decided_confidence)
        state.step[self.rows] += 1
        self.calls[self.rows] += 1
        hidden = strategy.hide(state)
        if hidden is not None:
            active = torch.zeros_like(self.block, dtype=torch.bool)
            active[self.rows] = True
            self.tokens[hidden & state.decided & active[:, None]] = self.mask_id
        self.history.append(self.tokens.clone())

    def end_at(self, eos_id: int) -> None:
        """Fill what follows a decided end with ends."""
        masked = self.tokens == self.mask_id
        ended = ((self.tokens == eos_id) & self.to_fill & (masked.cumsum(1) == 0)).any(1)
        rest = masked & ended[:, None]
        self.tokens[rest] = eos_id
        self.order[rest] = len(self.history) - 1
        self.history[-1] = self.tokens.clone()


def _guided(model, seen: torch.Tensor, to_fill: torch.Tensor, mask_id: int, guidance: float) -> torch.Tensor:
    with torch.no_grad():
        logits = model(seen)
        if logits.ndim != 3 or logits.shape[:2] != seen.shape:
            raise ValueError(f"model must return logits of shape ({seen.shape[0]}, {seen.shape[1]}, width), got {tuple(logits.shape)}")
        if not guidance:
            return logits
        without_prompt = model(seen.masked_fill(~to_fill, mask_id))
    # Impossible tokens are -inf in both, whose difference is no number.
    return torch.where(torch.isneginf(logits), logits, without_prompt + (guidance + 1) * (logits - without_prompt))


def _candidates(logits, state: DecodingState, rows: torch.Tensor, kind: Confidence, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A token and the confidence in it for each eligible position."""
    eligible = state.eligible[rows]
    logits = logits[eligible]
    probabilities = torch.softmax(logits.double() if temperature else logits, dim=-1)
    if temperature == 0:
        best, drawn = probabilities.max(-1)
    else:
        law = probabilities if temperature == 1 else torch.softmax(logits.double() / temperature, dim=-1)
        uniform = torch.rand(len(law), generator=state.generator, dtype=torch.float64, device=law.device)
        drawn = draw(law, uniform)
        best = probabilities.gather(-1, drawn[:, None])[:, 0]
    if bool(torch.isnan(best).any()):
        raise ValueError("model returned NaN, or no token it allows")
    values = _confidences(kind, probabilities, best, state.generator)
    candidates = torch.zeros(state.eligible.shape, dtype=torch.int64, device=logits.device)
    confidence = torch.full(state.eligible.shape, -math.inf, dtype=torch.float64, device=logits.device)
    candidates[state.eligible], confidence[state.eligible] = drawn, values.double()
    return candidates, confidence


def _confidences(kind: Confidence, probabilities: torch.Tensor, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """All in [0, 1]: the candidate's probability; the lead of the likeliest token; exp(-entropy), which orders as negative entropy; or random."""
    if kind == "probability":
        return chosen
    if kind == "margin":
        if probabilities.shape[-1] == 1:
            return chosen
        first, second = probabilities.topk(2, dim=-1).values.unbind(-1)
        return first - second
    if kind == "entropy":
        return torch.exp(torch.special.xlogy(probabilities, probabilities).sum(-1))
    return torch.rand(chosen.shape, generator=generator, dtype=torch.float64, device=chosen.device)


def _strategy(strategy) -> UnmaskStrategy:
    if hasattr(strategy, "choose") and hasattr(strategy, "hide"):
        return strategy
    if not callable(strategy):
        raise TypeError(f"strategy must be one such as TopK(8), or a function (confidence, eligible) -> selection, got {type(strategy).__name__}")
    return FunctionStrategy(strategy)


def decoding_order_correlation(order) -> tuple[float, float]:
    """Return Kendall's tau and Spearman's rho between positions and the steps they were decoded at: 1 is left to right, -1 right to left.

    Parameters
    ----------
    order : Tensor or array (n, length)
        `Decoded.order`; negative entries, the prompt, are left out. Averaged over the rows in which it is defined, NaN if there is none.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> decoding_order_correlation(np.array([[-1, 0, 1, 2]]))
    (1.0, 1.0)
    """
    from scipy.stats import kendalltau, spearmanr

    found = []
    for row in to_numpy(array(order, "order", ndim=2)):
        positions = np.flatnonzero(row >= 0)
        if len(np.unique(row[positions])) > 1:
            found.append((kendalltau(positions, row[positions]).statistic, spearmanr(positions, row[positions]).statistic))
    if not found:
        return math.nan, math.nan
    kendall, spearman = np.mean(found, axis=0)
    return float(np.round(kendall, 12)), float(np.round(spearman, 12))
