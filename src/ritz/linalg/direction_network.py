"""A convolutional network that proposes search directions from residuals, and its unsupervised training.

Asked for A^-1 r up to a factor, since the step length removes it, a network f is trained on unit vectors r to make
L = ||r - alpha A f(r)||^2 small, with alpha = r^T f(r) / (f(r)^T A f(r)) the step that the solver takes; no system is ever solved for it.

Kaneda, Akar, Chen, Kala, Hyde and Teran, "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems", ICML 2023, arXiv:2205.10763,
sections 4.1-4.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ritz.core import array, flag, integer, is_torch, positive, progress, random_generator, real, torch_generator
from ritz.linalg.products import Products
from ritz.linalg.ritz_vectors import real_symmetric_products, ritz_pairs, ritz_weights

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
CACHED = 2**19  # so many activations at a time stay in a core's cache
POOLS = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


class DirectionNetwork(nn.Module):
    """A fully convolutional network from residuals to search directions on a regular grid, for `dcdm`.

    Parameters
    ----------
    grid_shape : sequence of int
        Points per axis, two or three axes, in the order in which vectors (n,) are reshaped.
    channels : int
        Of every hidden layer.
    levels : int, optional
        Resolutions, each half the one before. Two as published; the default, ``max(2, log2(shortest side) - 2)``, lets the receptive field cover
        the grid.
    dims : {2, 3}, optional
        How many axes there are, as `grid_shape` says.
    mask : array of `grid_shape`, optional
        1 in the cells of an irregular domain and 0 elsewhere: directions are multiplied by it.

    Raises
    ------
    ValueError, TypeError
        If the grid has not two or three axes, or its shortest side cannot be halved so often.

    Notes
    -----
    ``forward(r)`` maps (B, 1, *grid) to (B, 1, *grid). Per level: residual pairs x <- relu(conv relu(conv x)) + x (3^d kernels, zero padding, no
    normalization), average pooling by 2, the level below, nearest upsampling plus what was there before, residual pairs; three pairs at the
    coarsest level; a linear convolution before all and a linear 1 x 1 convolution after. It works in single precision (in the dtype of its
    parameters) whatever the solver works in. Cost per residual: O(n channels^2 3^d).
    It is a nonlinear map: as a learned preconditioner it suits a flexible method only, `dcdm` itself or flexible GMRES, never plain `cg` or `gmres`.

    References
    ----------
    .. [1] Kaneda et al., ICML 2023, arXiv:2205.10763, section 4.3.

    Examples
    --------
    >>> network = DirectionNetwork((16, 16), channels=4)
    >>> network.directions(np.ones((3, 256))).shape
    (3, 256)
    """

    def __init__(self, grid_shape: Sequence[int], channels: int = 16, levels: int | None = None, dims: int | None = None, *, mask=None):
        super().__init__()
        self.grid_shape = _grid(grid_shape)
        if dims is not None and integer(dims, "dims", at_least=2, at_most=3) != len(self.grid_shape):
            raise ValueError(f"dims must be {len(self.grid_shape)} for a grid of shape {self.grid_shape}, got {dims}")
        shortest = min(self.grid_shape)
        self.channels = integer(channels, "channels", at_least=1)
        self.levels = max(2, int(math.log2(shortest)) - 2) if levels is None else integer(levels, "levels", at_least=1)
        if shortest < 2 ** (self.levels - 1):
            raise ValueError(f"levels must be at most {int(math.log2(shortest)) + 1} for a shortest side of {shortest}, got {self.levels}")
        convolution = CONVOLUTIONS[len(self.grid_shape)]
        self.first = convolution(1, self.channels, 3, padding=1)
        self.body = _Level(self.channels, self.levels, len(self.grid_shape))
        self.last = convolution(self.channels, 1, 1)
        self.register_buffer("mask", None if mask is None else torch.as_tensor(array(mask, "mask", shape=self.grid_shape)).float())

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        """Propose directions (B, 1, *grid) for residuals (B, 1, *grid)."""
        if r.ndim != len(self.grid_shape) + 2 or r.shape[1] != 1:
            raise ValueError(f"r must have shape (B, 1, {', '.join(map(str, self.grid_shape))}), got {tuple(r.shape)}")
        d = self.last(self.body(self.first(r)))
        return d if self.mask is None else d * self.mask

    @torch.no_grad()
    def directions(self, residuals):
        """Propose directions (k, n) for residuals (k, n), NumPy or torch: of their kind and dtype, computed in the network's."""
        if residuals.ndim != 2 or residuals.shape[1] != math.prod(self.grid_shape):
            raise ValueError(
                f"residuals must have shape (k, {math.prod(self.grid_shape)}) on the grid {self.grid_shape}, got {tuple(residuals.shape)}"
            )
        weight = self.last.weight
        rows = residuals if is_torch(residuals) else torch.from_numpy(np.ascontiguousarray(residuals))
        batch = rows.to(weight.device, weight.dtype).reshape(-1, 1, *self.grid_shape)
        piece = len(rows) if weight.device.type != "cpu" else max(1, CACHED // (self.channels * rows.shape[1]))
        d = torch.cat([self(some) for some in batch.split(piece)]).reshape(rows.shape)
        return d.to(rows.device, rows.dtype) if is_torch(residuals) else d.cpu().numpy().astype(residuals.dtype)

    def on_grid(self, grid_shape: Sequence[int], *, mask=None) -> DirectionNetwork:
        """Return the same network, with the same parameters, for another grid."""
        other = DirectionNetwork(grid_shape, self.channels, self.levels, len(self.grid_shape), mask=mask)
        other.first, other.body, other.last = self.first, self.body, self.last
        return other.to(self.last.weight.device)


class _ResidualPair(nn.Module):
    """x <- relu(conv relu(conv x)) + x."""

    def __init__(self, channels: int, dims: int):
        super().__init__()
        self.first, self.second = (CONVOLUTIONS[dims](channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.second(functional.relu(self.first(x)))) + x


class _Level(nn.Module):
    """One resolution and those below it."""

    def __init__(self, channels: int, levels: int, dims: int):
        super().__init__()
        self._dims = dims
        self.below = _Level(channels, levels - 1, dims) if levels > 1 else None
        self.before = nn.Sequential(*(_ResidualPair(channels, dims) for _ in range(1 if levels > 1 else 3)))
        self.after = nn.Sequential(*(_ResidualPair(channels, dims) for _ in range(1 if levels > 1 else 0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        if self.below is None:
            return x
        coarse = self.below(POOLS[self._dims](x, 2))
        return self.after(functional.interpolate(coarse, size=x.shape[2:], mode="nearest") + x)


def train_direction_network(
    A,
    grid_shape: Sequence[int],
    *,
    model: DirectionNetwork | None = None,
    samples: int = 20_000,
    ritz_vectors: int | None = None,
    theta: int | None = None,
    low_weight: float = 9.0,
    epochs: int = 5,
    batch_size: int = 10,
    learning_rate: float = 1e-4,
    final_learning_rate: float | None = None,
    generator: torch.Generator | int | None = None,
    progress: bool = True,
) -> DirectionNetwork:
    """Train a network to propose search directions for systems with the matrix A.

    Parameters
    ----------
    A : array, sparse array, LinearOperator or torch tensor (n, n)
        Real, symmetric, positive (semi)definite, on a grid.
    grid_shape : sequence of int
        Of n points in all.
    model : DirectionNetwork, optional
        The network to train, in place; a new one with its defaults otherwise.
    samples : int
        Residuals per epoch. They are drawn anew for every batch, so that an epoch is but a measure of time.
    ritz_vectors, theta : int, optional
        As m and theta of `ritz_training_vectors`; ``min(400, n / 10)`` and a twentieth of `ritz_vectors` by default.
    low_weight : float
        As in `ritz_training_vectors`.
    epochs, batch_size : int
        ``epochs * samples / batch_size`` steps of Adam.
    learning_rate : float
        1e-4 as in the published code, for long trainings; 2e-3, falling to 1e-5, for short ones.
    final_learning_rate : float, optional
        To what the learning rate falls, linearly; it is constant otherwise.
    generator : torch.Generator, int or None
        Of all random choices; on the CPU.
    progress : bool
        Whether a progress bar is shown on a terminal.

    Returns
    -------
    DirectionNetwork
        The trained network. Its attribute `training_losses` (steps,) holds the loss of every batch.

    Raises
    ------
    ValueError, TypeError
        If A is not symmetric, the grid has not n points, or a number is out of range.

    Notes
    -----
    A step costs the network's forward and backward pass and two products with A for `batch_size` vectors.

    References
    ----------
    .. [1] Kaneda et al., ICML 2023, arXiv:2205.10763, section 4.

    Examples
    --------
    >>> A = np.diag(np.arange(1.0, 65.0))
    >>> network = train_direction_network(A, (8, 8), samples=20, epochs=1, generator=0)
    >>> len(network.training_losses)
    2
    """
    products, grid_shape = real_symmetric_products(A), _grid(grid_shape)
    n = products.shape[0]
    if math.prod(grid_shape) != n:
        raise ValueError(f"grid_shape must have {n} points, as A has rows, got {grid_shape}")
    m = min(n, max(2, min(400, n // 10))) if ritz_vectors is None else integer(ritz_vectors, "ritz_vectors", at_least=1, at_most=n)
    theta = m // 20 if theta is None else integer(theta, "theta", at_least=0, at_most=m // 2)
    steps = max(1, integer(epochs, "epochs", at_least=1) * integer(samples, "samples", at_least=1) // integer(batch_size, "batch_size", at_least=1))
    start = positive(learning_rate, "learning_rate")
    end = start if final_learning_rate is None else positive(final_learning_rate, "final_learning_rate")
    generator = torch_generator(generator)
    rng = random_generator(int(torch.randint(2**62, (), generator=generator)))
    values, vectors = ritz_pairs(products, m, rng)
    weights = ritz_weights(values, theta, real(low_weight, "low_weight", above=0))
    model = _new_network(grid_shape, generator) if model is None else _checked_model(model, grid_shape)
    draw = _ResidualSampler(vectors, weights, batch_size, generator, model.last.weight)
    _fit(model, products, draw, np.linspace(start, end, steps), flag(progress, "progress"))
    return model


def direction_loss(A: Products, r: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """The mean of ||r - alpha A f||^2 over the rows, alpha = r^T f / (f^T A f): zero where f is A^-1 r up to a factor."""
    Af = _SymmetricProduct.apply(f, A)
    alpha = (r * f).sum(dim=1, keepdim=True) / (f * Af).sum(dim=1, keepdim=True)
    return (r - alpha * Af).square().sum(dim=1).mean()


class _SymmetricProduct(torch.autograd.Function):
    """Rows times a symmetric matrix of any kind, differentiable in the rows: the gradient is multiplied by the same matrix."""

    @staticmethod
    def forward(ctx, rows: torch.Tensor, A: Products) -> torch.Tensor:
        ctx.A = A
        return _multiplied(A, rows)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        return _multiplied(ctx.A, gradient), None


def _multiplied(A: Products, rows: torch.Tensor) -> torch.Tensor:
    columns = rows.detach().T
    product = A.matmat(columns.to(A.device, A.dtype) if is_torch_products(A) else columns.cpu().numpy().astype(A.dtype))
    return torch.as_tensor(product).T.to(rows.device, rows.dtype)


def is_torch_products(A: Products) -> bool:
    """Whether a matrix multiplies tensors."""
    return isinstance(A.dtype, torch.dtype)


class _ResidualSampler:
    """Unit vectors (batch, n): random combinations of Ritz vectors, drawn on the fly."""

    def __init__(self, vectors, weights: np.ndarray, batch_size: int, generator: torch.Generator, like: torch.Tensor):
        self._vectors = torch.as_tensor(vectors).to(like.device, like.dtype)
        self._weights = torch.from_numpy(weights).to(like.device, like.dtype)
        self._batch_size, self._generator = batch_size, generator

    def __call__(self) -> torch.Tensor:
        c = torch.randn(self._batch_size, len(self._weights), generator=self._generator).to(self._weights) * self._weights
        return functional.normalize(c @ self._vectors, dim=1)


def _fit(model: DirectionNetwork, A: Products, draw: Callable[[], torch.Tensor], rates: np.ndarray, shown: bool) -> None:
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=rates[0]), []
    for rate in _bar(rates, shown):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad(set_to_none=True)
        r = draw()
        loss = direction_loss(A, r, model(r.reshape(-1, 1, *model.grid_shape)).flatten(1))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    model.training_losses = torch.stack(losses).cpu().numpy()


def _bar(rates: np.ndarray, shown: bool):
    if shown:
        return progress(rates, "training a direction network", total=len(rates))
    return iter(rates)


def _new_network(grid_shape: tuple[int, ...], generator: torch.Generator) -> DirectionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return DirectionNetwork(grid_shape)


def _checked_model(model: DirectionNetwork, grid_shape: tuple[int, ...]) -> DirectionNetwork:
    if not isinstance(model, DirectionNetwork):
        raise TypeError(f"model must be a DirectionNetwork, got {type(model).__name__}")
    if model.grid_shape != grid_shape:
        raise ValueError(f"model must work on the grid {grid_shape}, got {model.grid_shape}")
    return model


def _grid(grid_shape: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(grid_shape, Sequence) or isinstance(grid_shape, str) or len(grid_shape) not in CONVOLUTIONS:
        raise ValueError(f"grid_shape must be two or three numbers of points, got {grid_shape!r}")
    return tuple(integer(side, "grid_shape", at_least=2) for side in grid_shape)
