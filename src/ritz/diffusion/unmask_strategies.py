"""Which tokens a masked diffusion model decodes in a step: the strategies of the literature as small objects.

A strategy is asked with a `DecodingState` which of the eligible positions to open now (`choose`), and afterwards which of the opened ones to hide
again (`hide`; most hide nothing). Any function ``(confidence, eligible) -> selection`` of tensors (n, length) is a strategy too.

Sources: LLaDA, arXiv:2502.09992 (schedule of top-k); Fast-dLLM, arXiv:2505.22618 (threshold and factor); ReMDM, arXiv:2503.00307 (remasking of the
least confident); running-confidence remasking as in ParallelBench, arXiv:2510.04767, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch

from ritz.core import choice, integer, real

Confidence = Literal["probability", "margin", "entropy", "random"]
CONFIDENCES: tuple[Confidence, ...] = ("probability", "margin", "entropy", "random")


@dataclass
class DecodingState:
    """What a strategy sees.

    Attributes
    ----------
    confidence : Tensor (n, length)
        Confidence in the candidate of each eligible position, -inf elsewhere.
    eligible : Tensor (n, length) bool
        The masked positions of the current block.
    decided : Tensor (n, length) bool
        The positions of the current block that have been opened.
    decided_confidence : Tensor (n, length)
        The confidence they were opened with.
    step, total : Tensor (n,)
        Model calls in this block so far, and the positions it had to fill.
    generator : torch.Generator
        For random choices.
    memory : dict
        The strategy's own, empty when decoding starts.
    """

    confidence: torch.Tensor
    eligible: torch.Tensor
    decided: torch.Tensor
    decided_confidence: torch.Tensor
    step: torch.Tensor
    total: torch.Tensor
    generator: torch.Generator
    memory: dict = field(default_factory=dict)


class UnmaskStrategy(Protocol):
    """What decides which positions are opened."""

    confidence: Confidence

    def choose(self, state: DecodingState) -> torch.Tensor:
        """The positions (n, length) to open now; at least one where any is eligible."""

    def hide(self, state: DecodingState) -> torch.Tensor | None:
        """The positions to mask again, once the chosen ones have been opened."""


class _Keeps:
    """Hides nothing."""

    confidence: Confidence = "probability"

    def hide(self, state: DecodingState) -> None:
        return None


@dataclass(frozen=True)
class TopK(_Keeps):
    """The most confident positions, as many as needed to fill a block in `steps` calls: equally many each, the remainder on the first calls.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> TopK(steps=4, confidence="margin")
    TopK(steps=4, confidence='margin')
    """

    steps: int
    confidence: Confidence = "probability"

    def __post_init__(self):
        integer(self.steps, "steps", at_least=1)
        choice(self.confidence, "confidence", CONFIDENCES)

    def choose(self, state: DecodingState) -> torch.Tensor:
        return highest(state.confidence, scheduled(state.total, state.step, self.steps), state.eligible)


@dataclass(frozen=True)
class RandomK(_Keeps):
    """Random positions: k per call, or as many as needed for `steps` calls per block.

    Raises
    ------
    TypeError, ValueError
        Unless exactly one of k and steps is a positive integer.

    Examples
    --------
    >>> RandomK(k=2)
    RandomK(k=2, steps=None)
    """

    k: int | None = None
    steps: int | None = None

    def __post_init__(self):
        if (self.k is None) == (self.steps is None):
            raise ValueError("k or steps must be given, and not both")
        integer(self.steps if self.k is None else self.k, "steps" if self.k is None else "k", at_least=1)

    def choose(self, state: DecodingState) -> torch.Tensor:
        noise = torch.rand(state.eligible.shape, generator=state.generator, device=state.eligible.device)
        count = torch.full_like(state.total, self.k) if self.k is not None else scheduled(state.total, state.step, self.steps)
        return highest(noise, count, state.eligible)


@dataclass(frozen=True)
class LeftToRight(_Keeps):
    """The first k masked positions.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> LeftToRight()
    LeftToRight(k=1)
    """

    k: int = 1

    def __post_init__(self):
        integer(self.k, "k", at_least=1)

    def choose(self, state: DecodingState) -> torch.Tensor:
        return state.eligible & (state.eligible.cumsum(1) <= self.k)


@dataclass(frozen=True)
class Threshold(_Keeps):
    """All positions whose confidence exceeds tau, and at least the most confident one.

    Raises
    ------
    TypeError, ValueError
        Unless 0 <= tau <= 1.

    Examples
    --------
    >>> Threshold(0.7)
    Threshold(tau=0.7, confidence='probability')
    """

    tau: float = 0.9
    confidence: Confidence = "probability"

    def __post_init__(self):
        real(self.tau, "tau", at_least=0, at_most=1)
        choice(self.confidence, "confidence", CONFIDENCES)

    def choose(self, state: DecodingState) -> torch.Tensor:
        return (state.eligible & (state.confidence > self.tau)) | highest(state.confidence, torch.ones_like(state.total), state.eligible)


@dataclass(frozen=True)
class Factor(_Keeps):
    """The n most confident positions for the largest n such that the j-th confidence is at least 1 - f / (j + 1) for j = 1..n; the first always.

    Raises
    ------
    TypeError, ValueError
        Unless f is positive; infinity opens everything.

    Examples
    --------
    >>> Factor(math.inf)
    Factor(f=inf, confidence='probability')
    """

    f: float = 1.0
    confidence: Confidence = "probability"

    def __post_init__(self):
        if self.f != math.inf:
            real(self.f, "f", above=0)
        choice(self.confidence, "confidence", CONFIDENCES)

    def choose(self, state: DecodingState) -> torch.Tensor:
        ordered = state.confidence.sort(1, descending=True).values
        j = torch.arange(1, ordered.shape[1] + 1, device=ordered.device)
        fits = ordered >= 1 - self.f / (j + 1)
        return highest(state.confidence, fits.cumprod(1).sum(1).clamp(min=1), state.eligible)


@dataclass(frozen=True)
class FixedPartition(_Keeps):
    """The positions of one given set after another.

    Raises
    ------
    TypeError, ValueError
        If sets is empty, or holds anything but non-negative positions.

    Examples
    --------
    >>> FixedPartition(((0, 2), (1,))).sets
    ((0, 2), (1,))
    """

    sets: Sequence[Sequence[int]]

    def __post_init__(self):
        if isinstance(self.sets, str) or not hasattr(self.sets, "__len__") or not len(self.sets):
            raise TypeError(f"sets must be a sequence of sets of positions, got {self.sets!r:.60}")
        object.__setattr__(self, "sets", tuple(tuple(integer(i, "sets", at_least=0) for i in positions) for positions in self.sets))

    def choose(self, state: DecodingState) -> torch.Tensor:
        selection = torch.zeros_like(state.eligible)
        for row, step in enumerate(state.step.tolist()):
            positions = [i for i in (self.sets[step] if step < len(self.sets) else ()) if i < selection.shape[1]]
            selection[row, positions] = True
        return selection & state.eligible


@dataclass(frozen=True)
class RemaskLowest:
    """Another strategy, with `steps` extra calls once 7/8 of a block are filled: each decodes again the `number` least confident tokens (ReMDM).

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> RemaskLowest(2, 3, TopK(8)).steps
    3
    """

    number: int
    steps: int
    base: UnmaskStrategy = field(default_factory=LeftToRight)

    def __post_init__(self):
        integer(self.number, "number", at_least=1)
        integer(self.steps, "steps", at_least=1)
        if not hasattr(self.base, "choose"):
            raise TypeError(f"base must be a strategy such as TopK(8), got {type(self.base).__name__}")

    @property
    def confidence(self) -> Confidence:
        """That of the other strategy."""
        return self.base.confidence

    def choose(self, state: DecodingState) -> torch.Tensor:
        rounds, again = self._memory(state)
        plain = DecodingState(**{**vars(state), "step": state.step - rounds, "eligible": state.eligible & ~again})
        return torch.where(again.any(1, keepdim=True), again & state.eligible, self.base.choose(plain))

    def hide(self, state: DecodingState) -> torch.Tensor:
        rounds, _ = self._memory(state)
        rounds[state.step == 1] = 0  # a new block
        due = (8 * state.decided.sum(1) >= 7 * state.total) & (rounds < self.steps)
        hidden = highest(-state.decided_confidence, torch.full_like(state.total, self.number), state.decided) & due[:, None]
        state.memory["rounds"], state.memory["again"] = rounds + due, hidden
        return hidden

    def _memory(self, state: DecodingState) -> tuple[torch.Tensor, torch.Tensor]:
        rounds = state.memory.setdefault("rounds", torch.zeros_like(state.total))
        return rounds, state.memory.setdefault("again", torch.zeros_like(state.eligible))


@dataclass(frozen=True)
class RunningConfidence:
    """Open everything, then hide again the tokens of the lowest confidence so far, until as many are open as a schedule of `steps` calls says.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> RunningConfidence(4)
    RunningConfidence(steps=4, confidence='probability')
    """

    steps: int
    confidence: Confidence = "probability"

    def __post_init__(self):
        integer(self.steps, "steps", at_least=1)
        choice(self.confidence, "confidence", CONFIDENCES)

    def choose(self, state: DecodingState) -> torch.Tensor:
        return state.eligible

    def hide(self, state: DecodingState) -> torch.Tensor:
        best = torch.maximum(state.memory.get("best", torch.full_like(state.decided_confidence, -math.inf)), state.decided_confidence)
        state.memory["best"] = best
        open_now = sum(scheduled(state.total, torch.full_like(state.step, i), self.steps) * (i < state.step) for i in range(self.steps))
        return highest(-best, state.total - torch.where(state.step >= self.steps, state.total, open_now), state.decided)


@dataclass(frozen=True)
class FunctionStrategy(_Keeps):
    """A function ``(confidence, eligible) -> selection`` as a strategy."""

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def choose(self, state: DecodingState) -> torch.Tensor:
        selection = self.function(state.confidence, state.eligible)
        if not isinstance(selection, torch.Tensor) or selection.shape != state.eligible.shape or selection.dtype != torch.bool:
            raise ValueError(f"strategy must return a boolean tensor of shape {tuple(state.eligible.shape)}")
        return selection & state.eligible


def scheduled(total: torch.Tensor, step: torch.Tensor, steps: int) -> torch.Tensor:
    """How many (n,) of `total` positions to open at call `step` of `steps`."""
    return total // steps + (step < total % steps)


def highest(score: torch.Tensor, count: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    """The `count` (n,) positions of the highest score in each row, among those allowed; ties go to the left."""
    order = torch.where(among, score.double(), -math.inf).sort(dim=1, descending=True, stable=True).indices
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    return among & (ranks < count[:, None])
