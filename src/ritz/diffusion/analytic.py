"""Exact denoisers of known data distributions: what a perfectly trained network would answer.

For ``y = x_0 + sigma n`` the best denoiser is the posterior mean ``D(y, sigma) = E[x_0 | y]``; it is in closed form for Gaussian mixtures and for
the uniform distribution over a finite data set. Both take one sigma per sample and stay in the logarithmic domain throughout.
"""

from __future__ import annotations

import math

import torch

from ritz.core import array, integer, torch_generator
from ritz.diffusion.denoisers import check_level


class GaussianMixtureDenoiser:
    """Posterior mean, score and density of a Gaussian mixture in R^d plus noise.

    Parameters
    ----------
    weights : Tensor (K,)
        Positive; divided by their sum.
    means : Tensor (K, d)
        Centers of the components.
    covariances : Tensor (K,), (K, d) or (K, d, d)
        Per component a variance, d variances (zero for a coordinate that is constant), or a positive semidefinite matrix.

    Raises
    ------
    TypeError, ValueError
        For arrays that are not finite or do not fit together, weights that are not positive, covariances that are not positive semidefinite.

    Notes
    -----
    Cost of a call: O(batch K d), with full covariances O(batch K d^2). Calls compute in the dtype and on the device of `y`.

    Examples
    --------
    >>> one = GaussianMixtureDenoiser([1.0], [[2.0, 0.0]], [[1.0, 0.0]])
    >>> one(torch.tensor([[4.0, 4.0]], dtype=torch.float64), 1.0)
    tensor([[3., 0.]], dtype=torch.float64)
    """

    def __init__(self, weights, means, covariances):
        self.means = _tensor(means, "means", ndim=2)
        components, dimension = self.means.shape
        self.weights = _tensor(weights, "weights", ndim=1).to(self.means)
        if len(self.weights) != components:
            raise ValueError(f"weights must have one entry per row of means, {components}, got {len(self.weights)}")
        if not bool((self.weights > 0).all()):
            raise ValueError("weights must be positive")
        self.weights = self.weights / self.weights.sum()
        covariances = _tensor(covariances, "covariances", ndim=(1, 2, 3)).to(self.means)
        expected = (components, dimension, dimension)[: covariances.ndim]
        if tuple(covariances.shape) != expected:
            raise ValueError(f"covariances must have shape {expected} to fit the means, got {tuple(covariances.shape)}")
        self.variances, self.axes = _principal_axes(covariances, dimension)

    @property
    def dimension(self) -> int:
        """Dimension d of the space."""
        return self.means.shape[1]

    def __call__(self, y: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Return E[x_0 | y] (batch, d) for y (batch, d) and sigma a float or (batch,)."""
        return _PosteriorMean.apply(y, self._check(y, sigma), self)

    def posterior_mean(self, y: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """E[x_0 | y] for noise variances (batch, 1, 1) or (1, 1, 1)."""
        offset, variances, total = self._terms(y, noise)
        means = self.means.to(y) + self._from_axes(variances / total * offset)
        return torch.einsum("bk,bkd->bd", self._responsibilities(offset, total), means)

    def posterior_mean_change(self, y: torch.Tensor, noise: torch.Tensor, dy: torch.Tensor, dnoise: torch.Tensor) -> torch.Tensor:
        """Derivative of `posterior_mean` along (dy, dnoise)."""
        offset, variances, total = self._terms(y, noise)
        responsibilities, ratio = self._responsibilities(offset, total), offset / total
        doffset = self._to_axes(dy[:, None])
        means = self.means.to(y) + self._from_axes(variances * ratio)
        dmeans = self._from_axes(variances * (doffset - ratio * dnoise) / total)
        dlog_joint = (0.5 * dnoise * (ratio**2 - 1 / total) - ratio * doffset).sum(-1)
        dlog_joint = dlog_joint - (responsibilities * dlog_joint).sum(-1, keepdim=True)
        return torch.einsum("bk,bkd->bd", responsibilities, dmeans + dlog_joint[..., None] * means)

    def score(self, y: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Return the gradient (batch, d) of `log_prob` in y."""
        offset, _, total = self._terms(y, self._check(y, sigma))
        return -torch.einsum("bk,bkd->bd", self._responsibilities(offset, total), self._from_axes(offset / total))

    def responsibilities(self, y: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Return the probability (batch, K) of each component given y."""
        offset, _, total = self._terms(y, self._check(y, sigma))
        return self._responsibilities(offset, total)

    def log_prob(self, y: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Return the logarithm (batch,) of the density of y = x_0 + sigma n."""
        offset, _, total = self._terms(y, self._check(y, sigma))
        return torch.logsumexp(self._log_joint(offset, total), dim=1) - 0.5 * self.dimension * math.log(2 * math.pi)

    def log_prob_at(self, y: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        """Return `log_prob` at each of the levels (L,), as (batch, L), by products of matrices: no array of batch x K x d x L entries is made."""
        self._check(y, 0.0)
        offset, variances, _ = self._terms(y, y.new_zeros(1, 1, 1))
        total = variances[:, :, None] + sigmas.to(y) ** 2
        quadratic = torch.einsum("bkd,kdl->blk", offset**2, 1 / total)
        log_joint = self.weights.to(y).log() - 0.5 * (quadratic + total.log().sum(1).T)
        return torch.logsumexp(log_joint, dim=2) - 0.5 * self.dimension * math.log(2 * math.pi)

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> torch.Tensor:
        """Return n draws (n, d) of the clean data, in the dtype of the means.

        Raises
        ------
        TypeError, ValueError
            If n is no positive integer.
        """
        generator = torch_generator(generator, self.means.device)
        chosen = torch.multinomial(self.weights, integer(n, "n", at_least=1), replacement=True, generator=generator)
        noise = torch.randn(n, self.dimension, generator=generator, dtype=self.means.dtype, device=self.means.device)
        offset = self.variances[chosen].sqrt() * noise
        return self.means[chosen] + (offset if self.axes is None else torch.einsum("nij,nj->ni", self.axes[chosen], offset))

    def _check(self, y: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Refuse what does not fit together; return the noise's variance as (batch, 1, 1) or (1, 1, 1)."""
        if y.ndim != 2 or y.shape[1] != self.dimension:
            raise ValueError(f"y must have shape (batch, {self.dimension}), got {tuple(y.shape)}")
        check_level(y, sigma)
        return torch.as_tensor(sigma, dtype=y.dtype, device=y.device).reshape(-1, 1, 1) ** 2

    def _terms(self, y: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Offsets from the means along the principal axes, the variances there, and the variances with the noise's; each (batch, K, d)."""
        variances = self.variances.to(y)
        return self._to_axes(y[:, None] - self.means.to(y)), variances, variances + noise

    def _to_axes(self, offset: torch.Tensor) -> torch.Tensor:
        return offset if self.axes is None else torch.einsum("kij,bki->bkj", self.axes.to(offset), offset.expand(-1, len(self.means), -1))

    def _from_axes(self, offset: torch.Tensor) -> torch.Tensor:
        return offset if self.axes is None else torch.einsum("kij,bkj->bki", self.axes.to(offset), offset)

    def _log_joint(self, offset: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        return self.weights.to(offset).log() - 0.5 * (offset**2 / total + total.log()).sum(-1)

    def _responsibilities(self, offset: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self._log_joint(offset, total), dim=1)


class _PosteriorMean(torch.autograd.Function):
    """The posterior mean with its derivative forward in closed form: left to itself, torch spends more time on the zero derivatives of constants."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: torch.Tensor, noise: torch.Tensor, mixture: GaussianMixtureDenoiser) -> torch.Tensor:
        return mixture.posterior_mean(y, noise)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        y, noise, ctx.mixture = inputs
        ctx.save_for_backward(y, noise)
        ctx.save_for_forward(y, noise)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        _, pull_back = torch.func.vjp(ctx.mixture.posterior_mean, *ctx.saved_tensors)
        return *pull_back(gradient), None

    @staticmethod
    def jvp(ctx, dy: torch.Tensor | None, dnoise: torch.Tensor | None, _) -> torch.Tensor:
        y, noise = ctx.saved_tensors
        dy = torch.zeros_like(y) if dy is None else dy
        return ctx.mixture.posterior_mean_change(y, noise, dy, torch.zeros_like(noise) if dnoise is None else dnoise)


class EmpiricalDenoiser:
    """Posterior mean, score and density of the uniform distribution over a data set plus noise.

    Parameters
    ----------
    data : Tensor (n, *shape)
        The data set.

    Raises
    ------
    TypeError, ValueError
        If `data` is not finite, empty, or has no dimension beside the first.

    Notes
    -----
    Cost of a call: one product of a (batch, d) by a (d, n) matrix. Distances are differences of squares of centered data, so their relative error is
    the machine precision times (size of the data / sigma)^2: use float64 where sigma is below 1e-3 of the size of the data.

    Examples
    --------
    >>> two = EmpiricalDenoiser([[-1.0], [1.0]])
    >>> two(torch.tensor([[0.0], [30.0]], dtype=torch.float64), 1.0)
    tensor([[0.],
            [1.]], dtype=torch.float64)
    """

    def __init__(self, data):
        self.data = _tensor(data, "data")
        if self.data.ndim < 2:
            raise ValueError(f"data must have shape (n, *shape), got {tuple(self.data.shape)}")
        flat = self.data.flatten(1)
        self._center = flat.mean(0)
        self._centered = flat - self._center

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.data.shape[1:])

    def __call__(self, y: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Return E[x_0 | y] (batch, *shape) for y (batch, *shape) and sigma a float or (batch,)."""
        log_likelihood, _ = self._log_likelihood(y, sigma)
        return self.average(torch.softmax(log_likelihood, dim=1))

    def score(self, y: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Return the gradient (batch, *shape) of `log_prob` in y."""
        level = sigma.reshape(-1, *(1,) * (y.ndim - 1)) if isinstance(sigma, torch.Tensor) else sigma
        return (self(y, sigma) - y) / level**2

    def log_prob(self, y: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Return the logarithm (batch,) of the density of y = x_0 + sigma n."""
        log_likelihood, level = self._log_likelihood(y, sigma)
        dimension = self._centered.shape[1]
        log_normalizer = math.log(len(self.data)) + dimension * (torch.log(level) + 0.5 * math.log(2 * math.pi))
        return torch.logsumexp(log_likelihood, dim=1) - log_normalizer.reshape(-1)

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> torch.Tensor:
        """Return n draws (n, *shape) of the data, with replacement.

        Raises
        ------
        TypeError, ValueError
            If n is no positive integer.
        """
        generator = torch_generator(generator, self.data.device)
        return self.data[torch.randint(len(self.data), (integer(n, "n", at_least=1),), generator=generator, device=self.data.device)]

    def average(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the means (batch, *shape) of the data under weights (batch, n) that add up to one."""
        return (weights @ self._centered.to(weights) + self._center.to(weights)).reshape(-1, *self.shape)

    def squared_distances(self, y: torch.Tensor) -> torch.Tensor:
        """Return |y - x_i|^2 (batch, n) up to rounding for y (batch, *shape), by one product of matrices."""
        if tuple(y.shape[1:]) != self.shape:
            raise ValueError(f"y must have shape (batch, {', '.join(map(str, self.shape))}), got {tuple(y.shape)}")
        data = self._centered.to(y)
        y = y.flatten(1) - self._center.to(y)
        return (y**2).sum(1, keepdim=True) - 2 * y @ data.T + (data**2).sum(1)

    def _log_likelihood(self, y: torch.Tensor, sigma: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """-|y - x_i|^2 / (2 sigma^2) as (batch, n), and sigma as (batch, 1) or (1, 1)."""
        check_level(y, sigma)
        level = torch.as_tensor(sigma, dtype=y.dtype, device=y.device).reshape(-1, 1)
        return -self.squared_distances(y) / (2 * level**2), level


def _tensor(value, name: str, **checks) -> torch.Tensor:
    checked = array(value, name, **checks)
    return checked if isinstance(checked, torch.Tensor) else torch.from_numpy(checked.copy())


def _principal_axes(covariances: torch.Tensor, dimension: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Variances (K, d) along the principal axes, and the axes (K, d, d) as columns; no axes where the covariances are diagonal."""
    if covariances.ndim == 3:
        if not torch.allclose(covariances, covariances.mT, atol=1e-8 * float(covariances.abs().max())):
            raise ValueError("covariances must be symmetric")
        variances, axes = torch.linalg.eigh(covariances)
        rounding = 1e-10 * variances.amax(1, keepdim=True).clamp(min=0)
        variances = torch.where(variances.abs() <= rounding, 0.0, variances)
    else:
        variances, axes = (covariances if covariances.ndim == 2 else covariances[:, None].expand(-1, dimension)), None
    if bool((variances < 0).any()):
        raise ValueError("covariances must be positive semidefinite: a variance is negative")
    return variances, axes
