"""Adjusted Schrodinger potentials that are Gaussian mixtures: plan, bridge and drift of an entropic transport problem in closed form.

With the reference process sqrt(epsilon) W on [0, 1] and the potential ``v(y) = sum_k a_k N(y | r_k, epsilon S_k)`` the plan's conditional is

    pi(y | x) = sum_k w_k(x) N(y | r_k + S_k x, epsilon S_k),   w_k(x) ~ a_k exp((x^T S_k x + 2 r_k^T x) / (2 epsilon)).

Source: Korotin, Gushchin and Burnaev, "Light Schrödinger Bridge", ICLR 2024, arXiv:2310.01174, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class GaussianPotential:
    """The potential v, its parameters double precision.

    Parameters
    ----------
    log_weights : Tensor (K,)
        log a_k; a constant added to all changes no plan.
    means : Tensor (K, d)
        r_k.
    factors : Tensor (K, d) or (K, d, d)
        Of S_k: the roots of its diagonal, or a matrix L with S = L L^T; `log_potential` needs lower triangles.
    epsilon : float
        Variance of the reference process at time 1.
    """

    log_weights: torch.Tensor
    means: torch.Tensor
    factors: torch.Tensor
    epsilon: float

    @property
    def is_diagonal(self) -> bool:
        """Whether S_k is kept as its diagonal."""
        return self.factors.ndim == 2

    @property
    def scales(self) -> torch.Tensor:
        """S_k, as (K, d) or (K, d, d)."""
        return self.factors**2 if self.is_diagonal else self.factors @ self.factors.mT

    def log_potential(self, y: torch.Tensor) -> torch.Tensor:
        """log v(y) for points (n, d)."""
        if self.is_diagonal:
            precision = self.factors**-2
            square = y**2 @ precision.T - 2 * y @ (precision * self.means).T + (precision * self.means**2).sum(1)
            log_root = self.factors.log().sum(1)
        else:
            offsets = (y[None] - self.means[:, None]).mT
            square = torch.linalg.solve_triangular(self.factors, offsets, upper=False).square().sum(1).T
            log_root = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        log_normal = -0.5 * square / self.epsilon - log_root - 0.5 * y.shape[1] * math.log(2 * math.pi * self.epsilon)
        return torch.logsumexp(self.log_weights + log_normal, dim=1)

    def log_normalizer(self, x: torch.Tensor) -> torch.Tensor:
        """log c(x), the integral of ``exp(<x, y> / epsilon) v(y)`` over y, for points (n, d)."""
        return torch.logsumexp(self._logits(x), dim=1)

    def mixture_weights(self, x: torch.Tensor) -> torch.Tensor:
        """w_k(x), (n, K)."""
        return torch.softmax(self._logits(x), dim=1)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of pi(. | x), (n, d), without the components' means one by one."""
        w = self.mixture_weights(x)
        moved = x * (w @ self.scales) if self.is_diagonal else torch.einsum("nk,kij,nj->ni", w, self.scales, x)
        return w @ self.means + moved

    def component_means(self, x: torch.Tensor) -> torch.Tensor:
        """r_k + S_k x, (n, K, d)."""
        moved = x[:, None] * self.scales if self.is_diagonal else torch.einsum("kij,nj->nki", self.scales, x)
        return self.means + moved

    def draw(self, x: torch.Tensor, uniform: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
        """One y for each x from uniform numbers (n,) and normal ones (n, d)."""
        levels = self.mixture_weights(x).cumsum(1)
        k = torch.searchsorted(levels, uniform[:, None] * levels[:, -1:]).squeeze(1).clamp(max=len(self.means) - 1)
        root = self.factors[k]
        if self.is_diagonal:
            return self.means[k] + root**2 * x + math.sqrt(self.epsilon) * root * normal
        along = (root.mT @ x[..., None] + math.sqrt(self.epsilon) * normal[..., None]).squeeze(-1)
        return self.means[k] + (root @ along[..., None]).squeeze(-1)

    def seen_from(self, t: float) -> GaussianPotential:
        """The potential of the plan between time t in [0, 1) and time 1, for starts x / (1 - t).

        The law of the end point given x_t is a conditional of the same form: with c = t / (1 - t) and M_k = (I + c S_k)^-1 it has S_k M_k for S_k,
        M_k r_k for r_k, and log a_k falls by ``log|I + c S_k| / 2 + c r_k^T M_k r_k / (2 epsilon)``.
        """
        c = t / (1 - t)
        if self.is_diagonal:
            spread = 1 + c * self.factors**2
            means, factors, log_spread = self.means / spread, self.factors / spread.sqrt(), spread.log().sum(1)
        else:
            # with I + c L^T L = R R^T, L R^-T is a root of S M
            d = self.means.shape[1]
            R = torch.linalg.cholesky(torch.eye(d).to(self.factors) + c * self.factors.mT @ self.factors)
            root = torch.linalg.solve_triangular(R, self.factors.mT, upper=False).mT
            means = self.means - c * (root @ (root.mT @ self.means[..., None])).squeeze(-1)
            factors, log_spread = root, 2 * R.diagonal(dim1=1, dim2=2).log().sum(1)
        log_weights = self.log_weights - 0.5 * log_spread - c * (self.means * means).sum(1) / (2 * self.epsilon)
        return GaussianPotential(log_weights, means, factors, self.epsilon)

    def drift(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """The bridge's drift (E[x_1 | x_t = x] - x) / (1 - t), (n, d), at a time in [0, 1)."""
        return (self.seen_from(t).mean(x / (1 - t)) - x) / (1 - t)

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        square = x**2 @ (self.factors**2).T if self.is_diagonal else torch.matmul(x, self.factors).square().sum(2).T
        return self.log_weights + (square + 2 * x @ self.means.T) / (2 * self.epsilon)
