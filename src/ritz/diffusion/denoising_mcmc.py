"""Denoising MCMC: a Markov chain walks near the data through pairs (sample, noise level); each state it emits is denoised from its own level.

Kim and Ye, "Denoising MCMC for Accelerating Diffusion-Based Generative Models", ICML 2023, arXiv:2209.14593, sections 3 (DMCMC) and 4 (DLG).

The target is ``p(x, sigma) = p(sigma) p_sigma(x)``, p_sigma the data with noise of deviation sigma, ``p(sigma)`` proportional to 1 / sigma.
Langevin moves of x at fixed sigma, ``x + eta / 2 s(x, sigma) + sqrt(eta) z``, alternate with Gibbs moves of sigma by its posterior. The step eta is
absolute: the noise that a move adds sets the level near which the chain floats, about sqrt(eta). From there few steps of a sampler reach the data,
where a sampler of its own would spend most of its steps on the way down from the largest level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ritz.core import Result, array, choice, integer, positive, progress, real, torch_generator
from ritz.diffusion.denoisers import Denoiser, check_callable, per_sample
from ritz.diffusion.exponential_integrator import check_start
from ritz.diffusion.noise_posterior import noise_level_grid
from ritz.diffusion.reverse_integrator import ReverseIntegrator

NoisePosterior = Callable[[torch.Tensor], torch.Tensor]
Move = Callable[[Denoiser, torch.Tensor, torch.Tensor, float, torch.Generator], torch.Tensor]
Integrator = Callable[[Denoiser, torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class ChainState(Result):
    """Where the chains are.

    Attributes
    ----------
    x : Tensor (chains, *shape)
        Noised samples.
    sigma : Tensor (chains,)
        Their noise levels.
    nfe : int
        Denoiser calls spent so far, each on all chains.
    """

    x: torch.Tensor
    sigma: torch.Tensor
    nfe: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class ChainSamples(Result):
    """What the chains emitted.

    Attributes
    ----------
    x : Tensor (n_samples, *shape)
        Denoised samples, one of each chain after another, round by round.
    nfe : int
        Denoiser calls of these rounds, each on all chains: that many times chains / n_samples per sample.
    acf : ndarray (lags,)
        Autocorrelation of the samples of a chain, over lags 0, 1, ... up to half the rounds, averaged over chains and coordinates.
    state : ChainState
        Where the chains are now; the next call goes on from there.
    """

    x: torch.Tensor
    nfe: int
    acf: np.ndarray
    state: ChainState


def langevin_move(denoiser: Denoiser, x: torch.Tensor, sigma: torch.Tensor, step_size: float, generator: torch.Generator) -> torch.Tensor:
    """One unadjusted Langevin step ``x + eta / 2 s + sqrt(eta) z`` at fixed levels sigma (batch,); s = (D - x) / sigma^2. One call.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> langevin_move(lambda x, sigma: 0 * x, torch.zeros(2, 3), torch.ones(2), 0.5, generator).shape
    torch.Size([2, 3])
    """
    return x + 0.5 * step_size * _score(denoiser, x, sigma) + step_size**0.5 * _noise_like(x, generator)


@dataclass(frozen=True)
class MetropolisLangevin:
    """A Langevin step accepted or refused by Metropolis and Hastings' rule: it leaves p_sigma exactly invariant. Two calls.

    Parameters
    ----------
    log_prob : callable
        ``log_prob(x, sigma)`` (batch,): log-density of noised data, up to a constant for each sigma, whose gradient is the denoiser's score.

    Raises
    ------
    TypeError
        If it cannot be called.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser
    >>> mixture = GaussianMixtureDenoiser([1.0], [[0.0, 0.0]], [1.0])
    >>> generator = torch.Generator().manual_seed(0)
    >>> MetropolisLangevin(mixture.log_prob)(mixture, torch.zeros(3, 2), torch.ones(3), 0.5, generator).shape
    torch.Size([3, 2])
    """

    log_prob: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def __post_init__(self):
        check_callable(self.log_prob, "log_prob")

    def __call__(self, denoiser: Denoiser, x: torch.Tensor, sigma: torch.Tensor, step_size: float, generator: torch.Generator) -> torch.Tensor:
        ahead = x + 0.5 * step_size * _score(denoiser, x, sigma)
        proposed = ahead + step_size**0.5 * _noise_like(x, generator)
        back = proposed + 0.5 * step_size * _score(denoiser, proposed, sigma)
        gain = self.log_prob(proposed, sigma) - self.log_prob(x, sigma)
        log_ratio = gain + (_squared_distance(proposed, ahead) - _squared_distance(x, back)) / (2 * step_size)
        accepted = torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device).log() < log_ratio
        return torch.where(per_sample(accepted, x), proposed, x)


def dmcmc_transition(
    x: torch.Tensor,
    sigma: torch.Tensor,
    denoiser: Denoiser,
    noise_posterior: NoisePosterior,
    sigmas: torch.Tensor,
    *,
    step_size: float = 0.5,
    gibbs: Literal["argmax", "sample"] = "argmax",
    move: Move = langevin_move,
    generator: torch.Generator | int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move chains once: x at fixed sigma, then sigma given x.

    Parameters
    ----------
    x : Tensor (chains, *shape)
        Noised samples.
    sigma : Tensor (chains,)
        Their noise levels, positive.
    denoiser : callable
        ``D(x, sigma)`` with sigma (chains,).
    noise_posterior : callable
        Logits (chains, levels) of x over `sigmas`.
    sigmas : Tensor (levels,)
        The levels that sigma may take.
    step_size : float
        eta of the Langevin step, not relative to sigma.
    gibbs : {"argmax", "sample"}
        Take the likeliest level, as the authors do, or draw one from the posterior, the true Gibbs step.
    move : callable
        ``move(denoiser, x, sigma, step_size, generator) -> x``; any kernel that leaves p_sigma invariant, at least nearly, may stand here.
    generator : torch.Generator, int or None
        Where noise and levels come from.

    Returns
    -------
    x, sigma : Tensor
        The next states.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if denoiser or noise posterior answer in another shape.

    Examples
    --------
    >>> from ritz.diffusion import AnalyticNoisePosterior, GaussianMixtureDenoiser, noise_level_grid
    >>> mixture, sigmas = GaussianMixtureDenoiser([1.0], [[0.0, 0.0]], [1.0]), noise_level_grid(50)
    >>> x, sigma = dmcmc_transition(torch.zeros(3, 2), torch.ones(3), mixture, AnalyticNoisePosterior(mixture, sigmas), sigmas, generator=0)
    >>> x.shape, sigma.shape
    (torch.Size([3, 2]), torch.Size([3]))
    """
    check_callable(denoiser, "denoiser")
    check_callable(noise_posterior, "noise_posterior")
    check_callable(move, "move")
    x, sigmas = check_start(x, "x"), array(sigmas, "sigmas", ndim=1)
    sigma = _checked_levels(sigma, x, "sigma")
    step_size, gibbs = positive(step_size, "step_size"), choice(gibbs, "gibbs", GIBBS)
    return _transition(
        x, sigma, denoiser, noise_posterior, torch.as_tensor(sigmas).to(x), step_size, gibbs, move, torch_generator(generator, x.device)
    )


class DenoisingLangevinGibbs:
    """Cheap samples from a denoiser: Langevin-Gibbs chains near the data, whose states any sampler denoises from their own small noise levels.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)`` with sigma (batch,), for data with noise of deviation sigma and no scaling (variance exploding).
    noise_posterior : callable
        Logits (batch, levels) of x over ``noise_level_grid(levels, sigma_min, sigma_max)``: `AnalyticNoisePosterior`, `NoiseClassifier` or another.
    step_size : float
        eta of the Langevin steps, in squared units of the data. Chains float near sigma = sqrt(eta): small values make short ways to the data,
        large ones chains that mix. The authors take 0.5 to 1.6 for images in [0, 1] and tune it for each sampler.
    steps_between : int
        Moves between two samples of a chain.
    sigma_min, sigma_max : float
        Range of the levels.
    levels : int
        Number of levels.
    pick : {"smallest", "last"}
        Denoise the state of the smallest level since the last sample, that one included, as the authors do (it is cheap, and somewhat biased
        towards samples that look clean), or the last state.
    gibbs : {"argmax", "sample"}
        As in `dmcmc_transition`.
    move : callable
        As in `dmcmc_transition`.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the noise posterior has other levels (its attribute `sigmas` where it has one, else on the first call).

    Notes
    -----
    A sample costs ``steps_between`` calls of the denoiser and those of the sampler, and ``steps_between`` calls of the noise posterior.
    Gradients are not recorded.

    References
    ----------
    .. [1] Kim and Ye, "Denoising MCMC for Accelerating Diffusion-Based Generative Models", ICML 2023, arXiv:2209.14593.

    Examples
    --------
    >>> from ritz.diffusion import AnalyticNoisePosterior, GaussianMixtureDenoiser, ReverseIntegrator, noise_level_grid
    >>> mixture = GaussianMixtureDenoiser([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.01, 0.01])
    >>> chains = DenoisingLangevinGibbs(mixture, AnalyticNoisePosterior(mixture, noise_level_grid(100)), levels=100, steps_between=3)
    >>> state = chains.init_chains(20, (2,), generator=0)
    >>> chains.sample(60, ReverseIntegrator(nodes=3), state, generator=1)
    ChainSamples(x=float32[60, 2], nfe=18, acf=float64[2], state=ChainState(x=float32[20, 2], sigma=float32[20], nfe=75))
    """

    def __init__(
        self,
        denoiser: Denoiser,
        noise_posterior: NoisePosterior,
        *,
        step_size: float = 0.5,
        steps_between: int = 10,
        sigma_min: float = 0.01,
        sigma_max: float = 50.0,
        levels: int = 1000,
        pick: Literal["smallest", "last"] = "smallest",
        gibbs: Literal["argmax", "sample"] = "argmax",
        move: Move = langevin_move,
    ):
        check_callable(denoiser, "denoiser")
        check_callable(noise_posterior, "noise_posterior")
        check_callable(move, "move")
        self.denoiser, self.noise_posterior, self.move = denoiser, noise_posterior, move
        self.step_size = positive(step_size, "step_size")
        self.steps_between = integer(steps_between, "steps_between", at_least=0)
        self.sigmas = noise_level_grid(levels, sigma_min, sigma_max)
        self.sigma_min, self.sigma_max = float(sigma_min), float(sigma_max)
        self.pick, self.gibbs = choice(pick, "pick", ("smallest", "last")), choice(gibbs, "gibbs", GIBBS)
        own = getattr(noise_posterior, "sigmas", self.sigmas)
        if own.shape != self.sigmas.shape or not torch.allclose(own.to(self.sigmas), self.sigmas, rtol=1e-5):
            raise ValueError(f"noise_posterior must tell apart the {levels} levels from {sigma_max} to {sigma_min}, but its sigmas are others")

    @torch.no_grad()
    def init_chains(
        self,
        n: int,
        shape,
        integrator: Integrator | None = None,
        burn_in: tuple[int, int] = (10, 10),
        generator: torch.Generator | int | None = None,
        *,
        burn_in_step_size: float = 0.5,
        burn_in_noise: float = 0.5,
    ) -> ChainState:
        """Start chains: samples drawn from the largest level, noised, then moved.

        Parameters
        ----------
        n : int
            Number of chains.
        shape : tuple of int
            Of a sample.
        integrator : callable, optional
            As in `sample`, from the largest level; ``ReverseIntegrator(nodes=20)``, Heun's method, by default.
        burn_in : (int, int)
            Moves with `burn_in_step_size`, then with the chains' own step size.
        generator : torch.Generator, int or None
            Where all noise comes from; the chains live on its device, in torch's default dtype.
        burn_in_step_size : float
            eta of the first moves; the authors take 1.6 for images of 256 x 256 pixels.
        burn_in_noise : float
            Deviation of the noise added to the first samples.

        Returns
        -------
        ChainState

        Raises
        ------
        TypeError, ValueError
            For a bad argument, or if a chain's state is not finite.
        """
        n, shape = integer(n, "n", at_least=1), _checked_shape(shape)
        first, second = (integer(moves, "burn_in", at_least=0) for moves in _pair(burn_in))
        step_size, noise = positive(burn_in_step_size, "burn_in_step_size"), real(burn_in_noise, "burn_in_noise", at_least=0)
        integrator = ReverseIntegrator(nodes=20, sigma_min=self.sigma_min) if integrator is None else integrator
        check_callable(integrator, "integrator")
        generator = torch_generator(generator)
        counted = _Counted(self.denoiser)
        x = self.sigma_max * torch.randn(n, *shape, generator=generator, device=generator.device)
        x = integrator(counted, x, x.new_full((n,), self.sigma_max), generator)
        x = x + noise * _noise_like(x, generator)
        sigma = _levels_given(x, self.noise_posterior, self.sigmas.to(x), self.gibbs, generator)
        for eta in [step_size] * first + [self.step_size] * second:
            x, sigma = self._moved(counted, x, sigma, eta, generator)
        _check_chains(x)
        return ChainState(x, sigma, counted.calls)

    @torch.no_grad()
    def sample(self, n_samples: int, integrator: Integrator, state: ChainState, generator: torch.Generator | int | None = None) -> ChainSamples:
        """Move the chains and denoise a state of each, until there are enough samples.

        Parameters
        ----------
        n_samples : int
            A multiple of the number of chains.
        integrator : callable
            ``integrator(denoiser, x, sigma, generator)`` returns clean samples (batch, *shape) from x at levels sigma (batch,); `ReverseIntegrator`.
        state : ChainState
            From `init_chains`, or where an earlier call left the chains.
        generator : torch.Generator, int or None
            Where all noise comes from. With one and the same generator two calls give what one call for all samples gives.

        Returns
        -------
        ChainSamples

        Raises
        ------
        TypeError, ValueError
            For a bad argument, or if a chain's state turns NaN or infinite (the message names the chain).
        """
        check_callable(integrator, "integrator")
        x, sigma = _checked_state(state)
        n_samples = integer(n_samples, "n_samples", at_least=1)
        if n_samples % len(x):
            raise ValueError(f"n_samples must be a multiple of the number of chains, {len(x)}, got {n_samples}")
        generator, counted, rounds = torch_generator(generator, x.device), _Counted(self.denoiser), []
        for _ in progress(range(n_samples // len(x)), "denoising MCMC"):
            emitted = (x, sigma)
            for _ in range(self.steps_between):
                x, sigma = self._moved(counted, x, sigma, self.step_size, generator)
                emitted = _cleaner(emitted, (x, sigma)) if self.pick == "smallest" else (x, sigma)
            _check_chains(x)
            rounds.append(integrator(counted, *emitted, generator))
        drawn = torch.stack(rounds)
        return ChainSamples(drawn.flatten(0, 1), counted.calls, _autocorrelation(drawn), ChainState(x, sigma, state.nfe + counted.calls))

    def _moved(self, denoiser: Denoiser, x: torch.Tensor, sigma: torch.Tensor, eta: float, generator: torch.Generator):
        return _transition(x, sigma, denoiser, self.noise_posterior, self.sigmas.to(x), eta, self.gibbs, self.move, generator)


GIBBS = ("argmax", "sample")


class _Counted:
    """A denoiser that counts its calls, whoever makes them."""

    def __init__(self, denoiser: Denoiser):
        self.denoiser, self.calls = denoiser, 0

    def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.denoiser(x, sigma)


def _transition(x, sigma, denoiser, noise_posterior, sigmas, step_size, gibbs, move, generator) -> tuple[torch.Tensor, torch.Tensor]:
    x = move(denoiser, x, sigma, step_size, generator)
    return x, _levels_given(x, noise_posterior, sigmas, gibbs, generator)


def _levels_given(x: torch.Tensor, noise_posterior: NoisePosterior, sigmas: torch.Tensor, gibbs: str, generator: torch.Generator) -> torch.Tensor:
    logits = noise_posterior(x)
    if logits.shape != (len(x), len(sigmas)):
        raise ValueError(f"noise_posterior must return logits ({len(x)}, {len(sigmas)}) over the levels, sigmas, got {tuple(logits.shape)}")
    if gibbs == "argmax":
        return sigmas[logits.argmax(dim=1)]
    uniform = torch.rand(logits.shape, generator=generator, dtype=logits.dtype, device=logits.device)
    return sigmas[(logits - torch.log(-torch.log(uniform))).argmax(dim=1)]  # a draw from the softmax, by Gumbel noise


def _score(denoiser: Denoiser, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    data = denoiser(x, sigma)
    if data.shape != x.shape:
        raise ValueError(f"denoiser must return the shape of its input, {tuple(x.shape)}, got {tuple(data.shape)}")
    return (data - x) / per_sample(sigma, x) ** 2


def _cleaner(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of two states of each chain the one with the smaller level, the first where they are equal."""
    better = other[1] < one[1]
    return torch.where(per_sample(better, one[0]), other[0], one[0]), torch.where(better, other[1], one[1])


def _autocorrelation(drawn: torch.Tensor) -> np.ndarray:
    """Of samples (rounds, chains, *shape), lags 0 to half the rounds."""
    centered = drawn.flatten(2).double()
    centered = centered - centered.mean(dim=(0, 1))
    lags = range(len(drawn) // 2 + 1)
    covariances = torch.stack([(centered[: len(drawn) - lag] * centered[lag:]).mean() for lag in lags])
    return (covariances / covariances[0].clamp(min=torch.finfo(torch.float64).tiny)).numpy(force=True)


def _check_chains(x: torch.Tensor, name: str = "the state") -> None:
    finite = torch.isfinite(x).flatten(1).all(dim=1)
    if not bool(finite.all()):
        bad = torch.nonzero(~finite).flatten()
        raise ValueError(f"{name} of chain {int(bad[0])} is not finite ({len(bad)} of {len(x)} chains): step_size may be too large")


def _checked_state(state: ChainState) -> tuple[torch.Tensor, torch.Tensor]:
    if not isinstance(state, ChainState):
        raise TypeError(f"state must be a ChainState, got {type(state).__name__}")
    if isinstance(state.x, torch.Tensor) and state.x.ndim >= 2 and len(state.x):
        _check_chains(state.x, "state.x")
    x = check_start(state.x, "state.x")
    return x, _checked_levels(state.sigma, x, "state.sigma")


def _checked_levels(sigma, x: torch.Tensor, name: str) -> torch.Tensor:
    sigma = torch.as_tensor(array(sigma, name, shape=(len(x),))).to(x)
    if not bool((sigma > 0).all()):
        raise ValueError(f"{name} must be positive, got {float(sigma.min()):g}")
    return sigma


def _checked_shape(shape) -> tuple[int, ...]:
    if not isinstance(shape, tuple | list | torch.Size) or not shape:
        raise TypeError(f"shape must be a tuple of sizes, got {shape!r}")
    return tuple(integer(size, "shape", at_least=1) for size in shape)


def _pair(burn_in) -> tuple[int, int]:
    if not isinstance(burn_in, tuple | list) or len(burn_in) != 2:
        raise TypeError(f"burn_in must be two numbers of moves, got {burn_in!r}")
    return tuple(burn_in)


def _squared_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x - y).square().flatten(1).sum(dim=1)


def _noise_like(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
