"""Stochastic interpolants between Gaussian mixtures in closed form: exact velocity, score, denoiser and density at all times.

Albergo, Boffi and Vanden-Eijnden, arXiv:2303.08797, appendix A. With independent x_0 and x_1 the law of x_t is the mixture over pairs of components.
"""

from __future__ import annotations

import math

import torch

from ritz.core import array, is_torch, to_numpy, torch_generator
from ritz.diffusion.interpolants import Interpolant, check_interpolant


class GaussianMixtureInterpolant:
    """The interpolant between ``sum_i p_i N(m_i, C_i)`` and ``sum_j q_j N(n_j, D_j)``.

    Parameters
    ----------
    weights0, weights1 : array (K,)
        Positive; normalized to add up to one.
    means0, means1 : array (K, d)
        Of the components.
    covs0, covs1 : array (K,), (K, d) or (K, d, d)
        Variances, diagonals or covariances.
    interpolant : Interpolant
        The path. On one-sided paths the first mixture must be one standard normal component.

    Raises
    ------
    TypeError, ValueError
        For a bad argument: shapes that do not fit, weights or covariances that are not positive.

    Notes
    -----
    Pair (i, j) has weight p_i q_j, mean ``alpha m_i + beta n_j`` and covariance ``alpha^2 C_i + beta^2 D_j + gamma^2 I``. Cost of a call: a product
    of d x d for each pair and point, in double precision; points of one time share the inverses.

    Examples
    --------
    >>> exact = GaussianMixtureInterpolant([1.0], [[0.0]], [1.0], [1.0], [[4.0]], [1.0], Interpolant())
    >>> exact.b(torch.tensor([[2.0]], dtype=torch.float64), 0.5)
    tensor([[4.]], dtype=torch.float64)
    """

    def __init__(self, weights0, means0, covs0, weights1, means1, covs1, interpolant: Interpolant):
        check_interpolant(interpolant)
        self.interpolant = interpolant
        self._ends = [_components(*parts, which) for which, parts in enumerate(((weights0, means0, covs0), (weights1, means1, covs1)))]
        if self._ends[0][1].shape[1] != self._ends[1][1].shape[1]:
            raise ValueError(f"means1 must have as many columns as means0, {self._ends[0][1].shape[1]}, got {self._ends[1][1].shape[1]}")
        if interpolant.one_sided and not _is_standard_normal(*self._ends[0]):
            raise ValueError(f"means0 and covs0 must be one standard normal component for the one-sided path '{interpolant.path}'")
        (p, *_), (q, *_) = self._ends
        self._log_weights = (p[:, None] * q).log().flatten()

    @property
    def dimension(self) -> int:
        """The dimension d."""
        return self._ends[0][1].shape[1]

    def b(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        """The velocity (batch, d) at x (batch, d) and a time, a float or a tensor (batch,)."""
        return self._velocity(x, t, with_noise=True)

    def v(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        """The velocity without the noise's, ``b + gamma gamma' s``."""
        return self._velocity(x, t, with_noise=False)

    def s(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        """The score, the gradient of `log_prob`."""
        pairs = _Pairs(self, x, t)
        return -pairs.average(pairs.precision, pairs.pull).to(x)

    def eta(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        """The denoiser E[z | x_t] = -gamma s."""
        return -self.interpolant.gamma(t).reshape(-1, 1).to(x) * self.s(x, t)

    def log_prob(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        """The log-density (batch,) of x_t."""
        return torch.logsumexp(_Pairs(self, x, t).log_joint(), dim=1).to(x)

    def sample(self, n: int, end: int, generator: torch.Generator | int | None = None) -> torch.Tensor:
        """Draw n points (n, d) of the first mixture (end 0) or the second (end 1)."""
        if end not in (0, 1):
            raise ValueError(f"end must be 0 or 1, got {end!r}")
        weights, means, covariances = self._ends[end]
        generator = torch_generator(generator)
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.dimension, 1, generator=generator, dtype=means.dtype)
        return means[chosen] + (torch.linalg.cholesky(covariances)[chosen] @ noise).squeeze(2)

    def _velocity(self, x: torch.Tensor, t: float | torch.Tensor, *, with_noise: bool) -> torch.Tensor:
        """sum_ij r_ij (m_ij' + C_ij' C_ij^-1 (x - m_ij) / 2), the noise's part of C_ij' in or out."""
        pairs = _Pairs(self, x, t)
        gain = pairs.half_covariance_slopes(with_noise) @ pairs.precision
        return pairs.average(gain, (gain @ pairs.means[..., None]).squeeze(-1) - pairs.mean_slopes).to(x)


class _Pairs:
    """The pairs of components at points and times: arrays (batch or 1, pairs, ...), and points (batch, d)."""

    def __init__(self, mixture: GaussianMixtureInterpolant, x: torch.Tensor, t: float | torch.Tensor):
        if x.ndim != 2 or x.shape[1] != mixture.dimension:
            raise ValueError(f"x must have shape (batch, {mixture.dimension}), got {tuple(x.shape)}")
        t = torch.as_tensor(t, dtype=torch.float64, device=x.device).reshape(-1)
        if len(t) not in (1, len(x)):
            raise ValueError(f"t must be a number or have shape ({len(x)},), got {len(t)} times")
        if len(t) > 1 and bool((t == t[0]).all()):
            t = t[:1]
        self.interpolant, self.t, self.x = mixture.interpolant, t, x.double()
        self.log_weights = mixture._log_weights.to(x.device)
        (_, self.m, self.C), (_, self.n, self.D) = ([part.to(x.device) for part in end] for end in mixture._ends)
        self.alpha, self.beta = (factor.reshape(-1, 1, 1) for factor in (self.interpolant.alpha(t), self.interpolant.beta(t)))
        gamma, identity = self.interpolant.gamma(t).reshape(-1, 1, 1, 1), torch.eye(mixture.dimension).to(self.m)
        self.means = self._over_pairs(self.alpha, self.m, self.beta, self.n)
        self.covariances = self._over_pairs(self.alpha[..., None] ** 2, self.C, self.beta[..., None] ** 2, self.D) + gamma**2 * identity
        self.precision = torch.linalg.inv(self.covariances)
        self.pull = (self.precision @ self.means[..., None]).squeeze(-1)

    def log_joint(self) -> torch.Tensor:
        """log of weight times density, (batch, pairs): a quadratic form of x, written as one product with x x^T, x and 1."""
        d = self.x.shape[1]
        constant = (self.means * self.pull).sum(-1) + torch.linalg.slogdet(self.covariances)[1] + d * math.log(2 * math.pi)
        forms = torch.cat([-0.5 * self.precision.flatten(2), self.pull, (self.log_weights - 0.5 * constant)[..., None]], dim=2)
        monomials = torch.cat([(self.x[:, :, None] * self.x[:, None, :]).flatten(1), self._with_one()], dim=1)
        return monomials @ forms[0].T if len(forms) == 1 else torch.einsum("nf,npf->np", monomials, forms)

    def average(self, gain: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """sum_p r_p (gain_p x - offset_p), (batch, d), with the pairs' responsibilities r."""
        r, maps = torch.softmax(self.log_joint(), dim=1), torch.cat([gain, -offset[..., None]], dim=3)
        mean = (r @ maps[0].flatten(1)).reshape(len(r), *maps.shape[2:]) if len(maps) == 1 else torch.einsum("np,npij->nij", r, maps)
        return (mean * self._with_one()[:, None]).sum(2)

    def _with_one(self) -> torch.Tensor:
        return torch.cat([self.x, torch.ones_like(self.x[:, :1])], dim=1)

    @property
    def mean_slopes(self) -> torch.Tensor:
        """m_ij'."""
        d_alpha, d_beta = (slope.reshape(-1, 1, 1) for slope in self.interpolant.slopes(self.t))
        return self._over_pairs(d_alpha, self.m, d_beta, self.n)

    def half_covariance_slopes(self, with_noise: bool) -> torch.Tensor:
        """C_ij' / 2."""
        d_alpha, d_beta = (slope.reshape(-1, 1, 1, 1) for slope in self.interpolant.slopes(self.t))
        slopes = self._over_pairs(self.alpha[..., None] * d_alpha, self.C, self.beta[..., None] * d_beta, self.D)
        if not with_noise:
            return slopes
        return slopes + self.interpolant.gg_dot(self.t).reshape(-1, 1, 1, 1) * torch.eye(self.m.shape[1]).to(self.m)

    def _over_pairs(self, left: torch.Tensor, first: torch.Tensor, right: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """left first_i + right second_j with the pairs (i, j) as one axis, after that of the times."""
        sums = (left * first).unsqueeze(2) + (right * second).unsqueeze(1)
        return sums.flatten(1, 2)


def _components(weights, means, covariances, which: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One mixture in double precision: weights that add up to one, means and full covariances."""
    weights = _double(array(weights, f"weights{which}", ndim=1))
    means = _double(array(means, f"means{which}", shape=(len(weights), None)))
    covariances = _double(array(covariances, f"covs{which}", ndim=(1, 2, 3)))
    d = means.shape[1]
    if not bool((weights > 0).all()):
        raise ValueError(f"weights{which} must be positive")
    if covariances.shape not in ((len(weights),), (len(weights), d), (len(weights), d, d)):
        shapes = f"(K,), (K, d) or (K, d, d) for means{which} of shape {tuple(means.shape)}"
        raise ValueError(f"covs{which} must have shape {shapes}, got {tuple(covariances.shape)}")
    if covariances.ndim < 3:
        covariances = torch.diag_embed(covariances.reshape(len(weights), -1).expand(-1, d))
    if not torch.allclose(covariances, covariances.mT) or bool((torch.linalg.eigvalsh(covariances) <= 0).any()):
        raise ValueError(f"covs{which} must be symmetric and positive definite")
    return weights / weights.sum(), means, covariances


def _double(value) -> torch.Tensor:
    return value.double() if is_torch(value) else torch.from_numpy(to_numpy(value).copy()).double()


def _is_standard_normal(weights: torch.Tensor, means: torch.Tensor, covariances: torch.Tensor) -> bool:
    return len(weights) == 1 and not bool(means.any()) and torch.equal(covariances[0], torch.eye(means.shape[1]).to(covariances))
