"""Minority guidance: find out with a diffusion model how rare samples are, and sample rare ones on purpose.

Um, Lee and Ye, "Don't Play Favorites: Minority Guidance for Diffusion Models", ICLR 2024, arXiv:2301.12334.

A rare sample, noised and denoised once, is dragged to where the model has seen most data. How far it moves is its minority score. A classifier of
noised samples into levels of that score then guides any sampler to the level that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch import nn
from torch.nn import functional as F

from ritz.core import Result, array, choice, integer, is_torch, like, positive, progress, real, to_numpy, torch_generator
from ritz.diffusion.denoisers import ClassifierGuidance, Denoiser, check_callable, per_sample
from ritz.diffusion.exponential_integrator import check_answer, check_start
from ritz.diffusion.schedules import NoiseSchedule, check_schedule

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@torch.no_grad()
def minority_score(
    denoiser: Denoiser,
    x0: torch.Tensor,
    schedule: NoiseSchedule,
    *,
    t: float = 0.6,
    sigma: float | None = None,
    distance: str | Distance = "l2",
    repeats: int = 5,
    batch_size: int | None = None,
    generator: torch.Generator | int | None = None,
) -> torch.Tensor:
    """Return how far samples move when they are noised and denoised once, on average: the larger, the rarer.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, the posterior mean.
    x0 : Tensor (n, *shape)
        Clean samples.
    schedule : NoiseSchedule
        Says which noise level the time t has.
    t : float in (0, 1)
        Time as a share of the schedule's last one. Little noise measures the local density, much noise whether a sample belongs to a large group:
        take the time at which the groups are decided. Modes of a mixture are told apart from 0.4 on, hardly at 0.2.
    sigma : float, optional
        The noise level in the frame y = x / alpha itself, in place of t.
    distance : "l2" or callable
        Squared Euclidean distance, or ``distance(x0, x)`` (batch,), of features for instance; the authors take LPIPS for images.
    repeats : int
        Draws of noise that are averaged.
    batch_size : int, optional
        Samples a call of the denoiser; all by default.
    generator : torch.Generator, int or None
        Where the noise comes from.

    Returns
    -------
    Tensor (n,)

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the denoiser or the distance returns another shape or something not finite.

    Notes
    -----
    Cost: `repeats` calls of the denoiser on all samples. For data N(m, v I) the expected score is ``|x0 - m|^2 (1 - k)^2 + d k^2 sigma^2`` with
    ``k = v / (v + sigma^2)``.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> denoiser = GaussianMixtureDenoiser([0.9, 0.1], [[-1.0], [1.0]], [0.01, 0.01])
    >>> common, rare = minority_score(denoiser, torch.tensor([[-1.0], [1.0]]), VPLinear(), generator=0)
    >>> bool(rare > 3 * common)
    True
    """
    check_callable(denoiser, "denoiser")
    x0 = check_start(x0, "x0")
    check_schedule(schedule)
    level = schedule.rho(real(t, "t", above=0, below=1) * schedule.t_max) if sigma is None else positive(sigma, "sigma")
    measure = distance if callable(distance) else {"l2": _squared_distance}[choice(distance, "distance", ["l2"])]
    size = len(x0) if batch_size is None else integer(batch_size, "batch_size", at_least=1)
    generator = torch_generator(generator, x0.device)
    total = x0.new_zeros(len(x0))
    for _ in range(integer(repeats, "repeats", at_least=1)):
        y = x0 + level * torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        total += torch.cat([_moved(denoiser, measure, *parts, level) for parts in zip(x0.split(size), y.split(size))])
    return total / repeats


def minority_labels(scores, levels: int = 100):
    """Cut scores into levels of equal counts: 0 the most common, levels - 1 the rarest.

    Parameters
    ----------
    scores : array or Tensor (n,)
        Minority scores.
    levels : int
        How many, at most n; 10 to 30 suit small data.

    Returns
    -------
    labels : integers (n,)
        Of the kind of `scores`; counts differ by one at most. Equal scores stand in the order in which they came.
    quantiles : array or Tensor (levels - 1,)
        The largest score of each level but the last: a new score s has level j if ``quantiles[j - 1] < s <= quantiles[j]``.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> labels, quantiles = minority_labels([0.3, 0.1, 0.9, 0.2], levels=2)
    >>> labels, quantiles
    (array([1, 0, 1, 0]), array([0.2]))
    """
    checked = array(scores, "scores", ndim=1)
    values = to_numpy(checked)
    if integer(levels, "levels", at_least=2) > len(values):
        raise ValueError(f"levels must be at most the number of scores, {len(values)}, got {levels}")
    order = np.argsort(values, kind="stable")
    labels = np.empty(len(values), dtype=np.int64)
    labels[order] = np.arange(len(values)) * levels // len(values)
    last = np.searchsorted(labels[order], np.arange(levels - 1), side="right") - 1
    if is_torch(checked):
        return torch.from_numpy(labels).to(checked.device), like(values[order][last], checked)
    return labels, values[order][last]


class MinorityClassifier(nn.Module):
    """A perceptron that tells the levels of noised flat samples: logits (batch, levels) from x_t (batch, dim) and times (batch,).

    Parameters
    ----------
    dim, levels : int
        Numbers of a sample, and of levels.
    width, depth : int
        Of the hidden layers.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Notes
    -----
    `train_minority_classifier` and `MinorityGuidance` take any module of this form; for images take one that looks at features of a pretrained
    noise-aware network, as the authors do.

    Examples
    --------
    >>> MinorityClassifier(3, 10)(torch.zeros(4, 3), torch.full((4,), 0.5)).shape
    torch.Size([4, 10])
    """

    def __init__(self, dim: int, levels: int, width: int = 128, depth: int = 2):
        super().__init__()
        dim, levels = integer(dim, "dim", at_least=1), integer(levels, "levels", at_least=2)
        width, depth = integer(width, "width", at_least=1), integer(depth, "depth", at_least=1)
        self.into, self.time = nn.Linear(dim, width), nn.Linear(len(_FREQUENCIES) * 2, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.out = nn.Linear(width, levels)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        if x.ndim != 2 or x.shape[1] != self.into.in_features:
            raise ValueError(f"x must have shape (batch, {self.into.in_features}), got {tuple(x.shape)}")
        angles = torch.pi * t.reshape(-1, 1) * x.new_tensor(_FREQUENCIES)
        h = F.silu(self.into(x) + self.time(torch.cat([angles.sin(), angles.cos()], dim=1)))
        for layer in self.hidden:
            h = h + F.silu(layer(h))
        return self.out(h)


_FREQUENCIES = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, eq=False, repr=False)
class MinorityTraining(Result):
    """What `train_minority_classifier` saw: the losses (steps,), and the cross-entropy on samples held out, noised once, at the start and the end."""

    losses: np.ndarray
    validation_before: float
    validation_after: float


def train_minority_classifier(
    classifier: nn.Module,
    data: torch.Tensor,
    labels: torch.Tensor,
    schedule: NoiseSchedule,
    *,
    steps: int = 60_000,
    batch_size: int = 256,
    lr: float = 3e-4,
    weight_decay: float = 0.05,
    validation: float = 0.05,
    generator: torch.Generator | int | None = None,
) -> MinorityTraining:
    """Train a classifier of levels on noised data, in place, by cross-entropy over times drawn uniformly.

    Parameters
    ----------
    classifier : Module
        Maps x_t (batch, *shape) and times (batch,) to logits (batch, levels).
    data : Tensor (n, *shape)
        Clean samples.
    labels : integer Tensor (n,)
        Their levels, from `minority_labels`.
    schedule : NoiseSchedule
        How samples are noised: ``x_t = alpha x_0 + sigma n``.
    steps, batch_size, lr, weight_decay
        Of AdamW; the rate falls linearly to zero.
    validation : float in (0, 1)
        Share of each level that is held out.
    generator : torch.Generator, int or None
        Where batches, times and noise come from. (Layers with dropout draw from torch's own stream.)

    Returns
    -------
    MinorityTraining

    Raises
    ------
    TypeError, ValueError
        For a bad argument, if labels are no levels 0, 1, ... of all samples, or if the classifier has another number of outputs.

    Examples
    --------
    >>> from ritz.diffusion import VPLinear
    >>> data, labels = torch.randn(40, 2), torch.arange(40) % 2
    >>> train_minority_classifier(MinorityClassifier(2, 2), data, labels, VPLinear(), steps=3, generator=0).losses.shape
    (3,)
    """
    if not isinstance(classifier, nn.Module):
        raise TypeError(f"classifier must be a torch.nn.Module, got {type(classifier).__name__}")
    data = check_start(data, "data")
    labels, levels = _checked_labels(labels, len(data))
    check_schedule(schedule)
    steps, batch_size = integer(steps, "steps", at_least=1), integer(batch_size, "batch_size", at_least=1)
    share = real(validation, "validation", above=0, below=1)
    generator = torch_generator(generator, data.device)
    held_out = _stratified(labels, share, generator)
    train = torch.nonzero(~held_out).flatten()
    width = _without_training(classifier, data[:1], data.new_full((1,), schedule.t_max)).shape[-1]
    if width != levels:
        raise ValueError(f"classifier must have an output for each of the {levels} levels of labels, got {width}")
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=positive(lr, "lr"), weight_decay=real(weight_decay, "weight_decay", at_least=0))
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    state = generator.get_state()
    before = _held_out_loss(classifier, data[held_out], labels[held_out], schedule, generator)
    losses = []
    for _ in progress(range(steps), "training the minority classifier"):
        chosen = train[torch.randint(len(train), (batch_size,), generator=generator, device=data.device)]
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(classifier(*_noised(data[chosen], schedule, generator)), labels[chosen])
        loss.backward()
        optimizer.step()
        falling.step()
        losses.append(loss.detach())
    generator.set_state(state)
    after = _held_out_loss(classifier, data[held_out], labels[held_out], schedule, generator)
    return MinorityTraining(torch.stack(losses).numpy(force=True), before, after)


@dataclass(frozen=True)
class MinorityGuidance:
    """The denoiser ``D + scale sigma^2 grad log p(level | x, sigma)``, which every sampler takes.

    Parameters
    ----------
    denoiser : callable
        The unguided denoiser ``D(x, sigma)``.
    classifier : callable
        ``classifier(x_t, t)`` (batch, levels), trained under `schedule`. Gradients pass through it alone.
    schedule : NoiseSchedule
        Gives the time and the scale that belong to a noise level.
    level : int or integer Tensor (batch,)
        The wanted level, -1 the rarest; one for each sample where a tensor is given.
    scale : float
        Strength of the guidance, 0 for none; the authors take 3.5.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on a call if there is no such level.

    Examples
    --------
    >>> from ritz.diffusion import VPLinear
    >>> guided = MinorityGuidance(lambda x, sigma: 0 * x, MinorityClassifier(2, 10), VPLinear(), level=-1)
    >>> guided(torch.zeros(3, 2), 0.5).shape
    torch.Size([3, 2])
    """

    denoiser: Denoiser
    classifier: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    schedule: NoiseSchedule
    level: int | torch.Tensor = -1
    scale: float = 3.5

    def __post_init__(self):
        check_callable(self.denoiser, "denoiser")
        check_callable(self.classifier, "classifier")
        check_schedule(self.schedule)
        real(self.scale, "scale")
        if isinstance(self.level, torch.Tensor):
            if self.level.ndim != 1 or self.level.is_floating_point() or self.level.dtype == torch.bool:
                raise ValueError(f"level must be an integer or integers (batch,), got {self.level.dtype} of shape {tuple(self.level.shape)}")
        else:
            integer(self.level, "level")

    def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        if self.scale == 0:
            return self.denoiser(x, sigma)
        return ClassifierGuidance(self.denoiser, self.log_probability, self.scale)(x, sigma)

    def log_probability(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Return log p(level | x, sigma), (batch,), for x in the frame y = x / alpha."""
        t = self.schedule.inverse_lam(-torch.as_tensor(sigma, dtype=torch.float64, device=x.device).log()).expand(len(x))
        logits = self.classifier(per_sample(self.schedule.alpha(t).to(x.dtype), x) * x, t.to(x.dtype))
        level = torch.as_tensor(self.level, device=x.device)
        levels = logits.shape[1]
        if level.ndim and len(level) != len(x):
            raise ValueError(f"level must hold a level for each of the {len(x)} samples, got {len(level)}")
        if int(level.max()) >= levels or int(level.min()) < -levels:
            raise ValueError(f"level must be among the classifier's {levels} levels, got {self.level}")
        return F.log_softmax(logits, dim=1).gather(1, (level % levels).expand(len(x))[:, None]).squeeze(1)


class MinorityScoreTransformer(TransformerMixin, BaseEstimator):
    """`minority_score` as an estimator for scikit-learn pipelines: an outlier score of flat samples under a given diffusion model.

    Parameters
    ----------
    denoiser, schedule, t, sigma, distance, repeats, batch_size
        As for `minority_score`.
    seed : int
        Of the noise; the same samples get the same scores at every call.

    Examples
    --------
    >>> from ritz.diffusion import GaussianMixtureDenoiser, VPLinear
    >>> denoiser = GaussianMixtureDenoiser([1.0], [[0.0, 0.0]], [1.0])
    >>> scorer = MinorityScoreTransformer(denoiser, VPLinear()).fit(np.zeros((1, 2)))
    >>> near, far = scorer.score_samples(np.array([[0.0, 0.0], [9.0, 9.0]]))
    >>> bool(far > near)
    True
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: NoiseSchedule,
        *,
        t: float = 0.6,
        sigma: float | None = None,
        distance: str | Distance = "l2",
        repeats: int = 5,
        batch_size: int | None = None,
        seed: int = 0,
    ):
        self.denoiser, self.schedule = denoiser, schedule
        self.t, self.sigma, self.distance, self.repeats = t, sigma, distance, repeats
        self.batch_size, self.seed = batch_size, seed

    def fit(self, X, y=None) -> MinorityScoreTransformer:
        """Take note of the number of columns; the model is given."""
        self.n_features_in_ = array(X, "X", ndim=2).shape[1]
        return self

    def score_samples(self, X) -> np.ndarray:
        """Return the minority scores (n,) of samples (n, d)."""
        checked = array(X, "X", ndim=2)
        x0 = checked if is_torch(checked) else torch.from_numpy(np.ascontiguousarray(checked))
        options = {"t": self.t, "sigma": self.sigma, "distance": self.distance, "repeats": self.repeats, "batch_size": self.batch_size}
        return like(to_numpy(minority_score(self.denoiser, x0, self.schedule, **options, generator=integer(self.seed, "seed", at_least=0))), checked)

    def transform(self, X) -> np.ndarray:
        """Return the scores as a column (n, 1)."""
        return self.score_samples(X)[:, None]


def _moved(denoiser: Denoiser, measure: Distance, x0: torch.Tensor, y: torch.Tensor, level: float) -> torch.Tensor:
    data = denoiser(y, level)
    check_answer(data, y, "the noised samples", level)
    moved = measure(x0, data.to(x0.dtype))
    if moved.shape != (len(x0),) or not bool(torch.isfinite(moved).all()):
        raise ValueError(f"distance must return finite numbers ({len(x0)},), got shape {tuple(moved.shape)}")
    return moved.to(x0.dtype)


def _squared_distance(x0: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (x0 - x).square().flatten(1).sum(1)


def _checked_labels(labels: torch.Tensor, count: int) -> tuple[torch.Tensor, int]:
    """The labels as int64 and the number of levels."""
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError("labels must be a tensor of integers, the levels of minority_labels")
    if labels.shape != (count,):
        raise ValueError(f"labels must have shape ({count},), one for each sample of data, got {tuple(labels.shape)}")
    present = torch.unique(labels)
    if len(present) < 2 or int(present[0]) != 0 or int(present[-1]) != len(present) - 1:
        raise ValueError(f"labels must be levels 0, 1, ... each with a sample, at least two, got {present[:8].tolist()}")
    return labels.long(), len(present)


def _stratified(labels: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """A mask of about this share of each level, at least one sample of all and never a whole level."""
    held_out = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    shuffled = torch.randperm(len(labels), generator=generator, device=labels.device)
    for level in range(int(labels.max()) + 1):
        members = shuffled[labels[shuffled] == level]
        held_out[members[: min(round(share * len(members)), len(members) - 1)]] = True
    if not held_out.any():
        counts = torch.bincount(labels)
        held_out[shuffled[labels[shuffled] == int(counts.argmax())][:1]] = True
    return held_out


def _noised(x0: torch.Tensor, schedule: NoiseSchedule, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    t = torch.rand(len(x0), generator=generator, dtype=torch.float64, device=x0.device)
    t = schedule.t_min + (schedule.t_max - schedule.t_min) * t
    alpha, sigma = (per_sample(value.to(x0.dtype), x0) for value in (schedule.alpha(t), schedule.sigma(t)))
    return alpha * x0 + sigma * torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device), t.to(x0.dtype)


def _held_out_loss(classifier: nn.Module, data: torch.Tensor, labels: torch.Tensor, schedule: NoiseSchedule, generator: torch.Generator) -> float:
    return float(F.cross_entropy(_without_training(classifier, *_noised(data, schedule, generator)), labels))


@torch.no_grad()
def _without_training(classifier: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    """The classifier's answer in evaluation mode, its own mode kept."""
    training = classifier.training
    answer = classifier.eval()(*inputs)
    classifier.train(training)
    return answer
