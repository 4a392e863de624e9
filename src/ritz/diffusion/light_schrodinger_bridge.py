"""Light Schrodinger bridge: entropic optimal transport between two samples by fitting one Gaussian mixture, without neural networks.

Korotin, Gushchin and Burnaev, "Light Schrödinger Bridge", ICLR 2024, arXiv:2310.01174.
"""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ritz.core import (
    array,
    atomic_path,
    choice,
    existing_file,
    integer,
    is_torch,
    positive,
    progress,
    random_generator,
    real,
    to_numpy,
    warn_not_converged,
)
from ritz.diffusion.gaussian_potential import GaussianPotential

WINDOW = 200  # steps of the moving average whose change decides on convergence


class LightSchrodingerBridge(TransformerMixin, BaseEstimator):
    """The Schrodinger bridge between samples of p0 and p1, which is entropic optimal transport with cost ``|x - y|^2 / 2`` and weight epsilon.

    A potential ``v(y) = sum_k a_k N(y | r_k, epsilon S_k)`` is fitted by Adam to minimize ``E_p0 log c(x) - E_p1 log v(y)``, the Kullback-Leibler
    divergence from the true plan up to a constant. Plan, bridge and drift are then closed forms.

    Parameters
    ----------
    n_potentials : int
        Number K of components.
    epsilon : float
        Entropic weight, the variance that the reference process sqrt(epsilon) W has at time 1; in squared units of the data.
    covariance : {"diag", "full"}
        Shape of S_k.
    init : {"samples", "normal"}
        The first r_k: distinct random points of the target, or normal draws with the target's mean and variances.
    initial_scale : float
        S_k begins as this multiple of the identity; 1 suits epsilon = 10.
    steps, batch_size, lr
        Of Adam, each batch drawn anew from both samples. The authors take lr 1e-3 for epsilon = 0.1, 3e-3 for 1 and 6e-2 for 10.
    tol : float
        Training ends early when the mean loss of 200 steps changes by less than this share of itself from one 200 to the next; 0 runs all steps.
    rng : Generator, int or None
        Source of the initialization and the batches.

    Attributes
    ----------
    weights_log_ : ndarray (K,)
        log a_k, with a_k adding up to one.
    means_ : ndarray (K, d)
        r_k.
    scales_ : ndarray (K, d) or (K, d, d)
        S_k.
    loss_curve_ : ndarray (n_iter_,)
        The loss of each batch.
    n_iter_ : int
        Steps taken.
    converged_ : bool
        Whether `tol` was met (never for tol = 0).
    n_features_in_ : int
        The dimension d.

    Warns
    -----
    ConvergenceWarning
        If tol > 0 was not met within `steps`.

    Notes
    -----
    Cost O(batch_size K d) a step with diagonal, O(batch_size K d^2) with full covariances, in double precision: exponents are of the order of
    |x|^2 / epsilon. Full covariances are learned by their Cholesky factors, which need no orthogonal matrices; log a_k is learned as epsilon times
    itself.

    References
    ----------
    .. [1] Korotin, Gushchin and Burnaev, ICLR 2024, arXiv:2310.01174.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(500, 1)), rng.normal(3.0, 1.0, size=(500, 1))
    >>> bridge = LightSchrodingerBridge(5, epsilon=0.1, steps=500, lr=1e-2, tol=0, rng=0).fit(X, Y)
    >>> np.round(bridge.transform(np.array([[0.0]])))
    array([[3.]])
    """

    def __init__(
        self,
        n_potentials: int = 50,
        epsilon: float = 1.0,
        covariance: str = "diag",
        init: str = "samples",
        initial_scale: float = 0.1,
        steps: int = 10_000,
        batch_size: int = 128,
        lr: float = 1e-3,
        tol: float = 1e-4,
        rng: np.random.Generator | int | None = None,
    ):
        self.n_potentials = n_potentials
        self.epsilon = epsilon
        self.covariance = covariance
        self.init = init
        self.initial_scale = initial_scale
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.tol = tol
        self.rng = rng

    def fit(self, X, Y) -> LightSchrodingerBridge:
        """Fit the potential to two unpaired samples.

        Parameters
        ----------
        X : array (n, d)
            Sample of p0.
        Y : array (m, d)
            Sample of p1.

        Raises
        ------
        ValueError, TypeError
            If a sample has fewer than two points, is not finite or has another dimension than the other, or an option is out of range; with
            init="samples" also if there are more components than target points.
        """
        X, Y = _points(X, "X"), _points(Y, "Y")
        if X.shape[1] != Y.shape[1]:
            raise ValueError(f"Y must have as many columns as X, {X.shape[1]}, got {Y.shape[1]}")
        if min(len(X), len(Y)) < 2:
            raise ValueError(f"X and Y must have at least two points each, got {len(X)} and {len(Y)}")
        self._check_options(len(Y))
        rng = random_generator(self.rng)
        raw = self._start(Y, rng)
        optimizer = torch.optim.Adam(raw, lr=self.lr)
        losses, self.converged_ = [], False
        for _ in progress(range(self.steps), "light Schrodinger bridge"):
            x, y = (sample[torch.from_numpy(rng.integers(len(sample), size=self.batch_size))] for sample in (X, Y))
            optimizer.zero_grad(set_to_none=True)
            potential = self._potential(*raw)
            loss = potential.log_normalizer(x).mean() - potential.log_potential(y).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if self.tol and _has_settled(losses, self.tol):
                self.converged_ = True
                break
        self._keep(self._potential(*(part.detach() for part in raw)))
        self.loss_curve_, self.n_iter_ = np.array(losses), len(losses)
        if self.tol and not self.converged_:
            warn_not_converged(f"LightSchrodingerBridge: the mean loss still changes by more than tol = {self.tol:g} after {self.steps} steps")
        return self

    def transform(self, X):
        """Return the conditional means (n, d) of the plan, the barycentric map."""
        x, potential = self._checked(X)
        return _of_kind(potential.mean(x), X)

    def conditional(self, X):
        """Return the plan's conditionals: weights (n, K), means (n, K, d) and covariances (K, d), diagonals, or (K, d, d), the same for all x."""
        x, potential = self._checked(X)
        return tuple(_of_kind(part, X) for part in (potential.mixture_weights(x), potential.component_means(x), self.epsilon * potential.scales))

    def sample(self, X, *, rng: np.random.Generator | int | None = None):
        """Draw one y (n, d) for each x from the plan's conditional."""
        x, potential = self._checked(X)
        return _of_kind(_drawn(potential, x, random_generator(rng)), X)

    def sample_at(self, X, t: float, *, rng: np.random.Generator | int | None = None):
        """Draw the bridge's position (n, d) at time t in [0, 1] for each start x: between x and a drawn y, with variance epsilon t (1 - t)."""
        x, potential = self._checked(X)
        t, rng = real(t, "t", at_least=0, at_most=1), random_generator(rng)
        y = _drawn(potential, x, rng)
        return _of_kind((1 - t) * x + t * y + math.sqrt(self.epsilon * t * (1 - t)) * _normal(x, rng), X)

    def drift(self, X, t: float):
        """Return the drift (n, d) of the bridge's stochastic differential equation ``dx = drift dt + sqrt(epsilon) dW`` at a time in [0, 1)."""
        x, potential = self._checked(X)
        return _of_kind(potential.drift(x, real(t, "t", at_least=0, below=1)), X)

    def sample_path(self, X, n_steps: int = 100, *, rng: np.random.Generator | int | None = None):
        """Follow the bridge from each x by Euler and Maruyama's method: positions (n_steps + 1, n, d) at equal times from 0 to 1."""
        x, potential = self._checked(X)
        n_steps, rng = integer(n_steps, "n_steps", at_least=1), random_generator(rng)
        path = [x]
        for i in range(n_steps):
            path.append(path[-1] + potential.drift(path[-1], i / n_steps) / n_steps + math.sqrt(self.epsilon / n_steps) * _normal(x, rng))
        return _of_kind(torch.stack(path), X)

    def log_potential(self, Y):
        """Return log v(y), (n,)."""
        y, potential = self._checked(Y, "Y")
        return _of_kind(potential.log_potential(y), Y)

    def log_normalizer(self, X):
        """Return log c(x), (n,): the logarithm of the integral of ``exp(<x, y> / epsilon) v(y)`` over y."""
        x, potential = self._checked(X)
        return _of_kind(potential.log_normalizer(x), X)

    def score(self, X, Y) -> float:
        """Return minus the loss on two samples: larger is better, by as much as the divergence from the true plan is smaller."""
        x, potential = self._checked(X)
        y, _ = self._checked(Y, "Y")
        return float(potential.log_potential(y).mean() - potential.log_normalizer(x).mean())

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted bridge to an .npz file, whole or not at all."""
        check_is_fitted(self)
        if Path(path).suffix != ".npz":
            raise ValueError(f"path must end in .npz, got '{path}'")
        with atomic_path(path) as partial, open(partial, "wb") as file:
            np.savez(file, epsilon=self.epsilon, weights_log=self.weights_log_, means=self.means_, scales=self.scales_)

    @classmethod
    def load(cls, path: str | os.PathLike) -> LightSchrodingerBridge:
        """Read a bridge that `save` wrote.

        Raises
        ------
        ValueError, FileNotFoundError
            If there is no such file or it holds something else.
        """
        if not zipfile.is_zipfile(existing_file(path)):
            raise ValueError(f"path must be a bridge written by save, got '{path}', which is no .npz file")
        with np.load(path, allow_pickle=False) as stored:
            missing = {"epsilon", "weights_log", "means", "scales"} - set(stored.files)
            if missing:
                raise ValueError(f"path must be a bridge written by save, got '{path}' without {', '.join(sorted(missing))}")
            parts = {name: stored[name] for name in stored.files}
        scales = torch.from_numpy(parts["scales"])
        bridge = cls(len(parts["means"]), float(parts["epsilon"]), covariance="diag" if scales.ndim == 2 else "full")
        factors = scales.sqrt() if scales.ndim == 2 else torch.linalg.cholesky(scales)
        bridge._keep(GaussianPotential(torch.from_numpy(parts["weights_log"]), torch.from_numpy(parts["means"]), factors, bridge.epsilon))
        return bridge

    def _start(self, Y: torch.Tensor, rng: np.random.Generator) -> list[torch.Tensor]:
        """Epsilon log a_k, r_k, and the roots' logarithms (in full factors: on the diagonal) before training."""
        K, d = self.n_potentials, Y.shape[1]
        if self.init == "samples":
            means = Y[torch.from_numpy(rng.choice(len(Y), size=K, replace=False))]
        else:
            means = Y.mean(0) + Y.std(0) * torch.from_numpy(rng.standard_normal((K, d))).to(Y)
        log_root = Y.new_full((K, d), 0.5 * math.log(self.initial_scale))
        raw = [Y.new_full((K,), -self.epsilon * math.log(K)), means.clone(), log_root if self.covariance == "diag" else torch.diag_embed(log_root)]
        return [part.requires_grad_() for part in raw]

    def _potential(self, energies: torch.Tensor, means: torch.Tensor, roots: torch.Tensor) -> GaussianPotential:
        factors = roots.exp() if self.covariance == "diag" else roots.tril(-1) + torch.diag_embed(roots.diagonal(dim1=1, dim2=2).exp())
        return GaussianPotential(energies / self.epsilon, means, factors, self.epsilon)

    def _keep(self, potential: GaussianPotential) -> None:
        log_weights = potential.log_weights - torch.logsumexp(potential.log_weights, 0)
        self._fitted = GaussianPotential(log_weights, potential.means, potential.factors, self.epsilon)
        self.weights_log_, self.means_, self.scales_ = (part.numpy(force=True) for part in (log_weights, potential.means, potential.scales))
        self.n_features_in_ = potential.means.shape[1]

    def _checked(self, X, name: str = "X") -> tuple[torch.Tensor, GaussianPotential]:
        check_is_fitted(self, "means_")
        x = _points(X, name)
        if x.shape[1] != self.n_features_in_:
            raise ValueError(f"{name} must have {self.n_features_in_} columns, as those that were fitted, got {x.shape[1]}")
        fitted = self._fitted
        parts = (part.to(x.device) for part in (fitted.log_weights, fitted.means, fitted.factors))
        return x, GaussianPotential(*parts, fitted.epsilon)

    def _check_options(self, targets: int) -> None:
        integer(self.n_potentials, "n_potentials", at_least=1)
        positive(self.epsilon, "epsilon")
        choice(self.covariance, "covariance", ["diag", "full"])
        choice(self.init, "init", ["samples", "normal"])
        positive(self.initial_scale, "initial_scale")
        integer(self.steps, "steps", at_least=1)
        integer(self.batch_size, "batch_size", at_least=1)
        positive(self.lr, "lr")
        real(self.tol, "tol", at_least=0)
        if self.init == "samples" and self.n_potentials > targets:
            raise ValueError(f"n_potentials must be at most the number of points of Y, {targets}, for init='samples', got {self.n_potentials}")


def _has_settled(losses: list[float], tol: float) -> bool:
    """Whether the mean of the last window is within tol of that of the window before, asked once a window."""
    if len(losses) % WINDOW or len(losses) < 2 * WINDOW:
        return False
    before, now = np.mean(losses[-2 * WINDOW : -WINDOW]), np.mean(losses[-WINDOW:])
    return abs(now - before) < tol * abs(before)


def _points(value, name: str) -> torch.Tensor:
    """Points (n, d) as a double-precision tensor, on the device they came on."""
    value = array(value, name, ndim=2)
    tensor = value.detach() if is_torch(value) else torch.from_numpy(np.ascontiguousarray(to_numpy(value)))
    if 0 in tensor.shape:
        raise ValueError(f"{name} must have at least one point and one column, got shape {tuple(tensor.shape)}")
    return tensor.double()


def _of_kind(result: torch.Tensor, reference):
    """The result as a tensor for a tensor, else as an array; single precision stays single."""
    if is_torch(reference):
        return result.to(reference.dtype) if reference.is_floating_point() else result
    result = result.numpy(force=True)
    return result.astype(np.float32) if getattr(reference, "dtype", None) == np.float32 else result


def _drawn(potential: GaussianPotential, x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    uniform = torch.from_numpy(rng.random(len(x))).to(x)
    return potential.draw(x, uniform, _normal(x, rng))


def _normal(like: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(like.shape)).to(like)
