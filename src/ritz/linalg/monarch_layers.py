"""Monarch layers: drop-in replacements of `torch.nn.Linear`, and the ways between dense and Monarch networks.

Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate Training", ICML 2022, arXiv:2204.00595, sections 3.4 and 4: train with
Monarch layers from the start, project a trained dense network on them and fine-tune ("dense to sparse"), or train sparse and multiply out for the
last part of the training ("reverse sparsification").
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional

from ritz.core import choice, flag, integer, real
from ritz.linalg.monarch import MonarchOperator, monarch_mix, monarch_project


class MonarchLinear(nn.Module):
    """A linear layer whose weight is a Monarch matrix: y = M x + b, with M padded to multiples of the block sizes.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the input and the output.
    blocks : int
        The number K of blocks of the first factor.
    rank : int
        The rank of the blocks of the matrix ("standard" layout only).
    bias : bool
        Whether there is an additive bias.
    layout : {"standard", "official"}
        "standard": the first factor has K blocks of J x I, the second J blocks of K x K with I = ceil(in / K), J = ceil(out / K), the form that
        `monarch_project` fills. "official": the published layer's block sizes, both factors with K blocks, their inner side the smaller of
        I and J; it mixes in another order, and a trained dense weight cannot be projected on it in closed form.
    device, dtype : optional
        As for `torch.nn.Linear`.

    Notes
    -----
    Each factor starts uniform in +-1 / sqrt(its own fan-in). Cost per row of the input: about in * J + out * K multiply-adds instead of in * out.
    Input (..., in_features), output (..., out_features).

    References
    ----------
    .. [1] Dao et al., ICML 2022, arXiv:2204.00595.

    Examples
    --------
    >>> layer = MonarchLinear(64, 256, blocks=8)
    >>> layer(torch.zeros(2, 64)).shape
    torch.Size([2, 256])
    >>> sum(p.numel() for p in layer.parameters()) / (64 * 256 + 256)
    0.26...
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        blocks: int = 4,
        rank: int = 1,
        bias: bool = True,
        layout: str = "standard",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = integer(in_features, "in_features", at_least=1)
        self.out_features = integer(out_features, "out_features", at_least=1)
        self.blocks = integer(blocks, "blocks", at_least=1, at_most=min(in_features, out_features))
        self.layout = choice(layout, "layout", ["standard", "official"])
        self.rank = integer(rank, "rank", at_least=1, at_most=1 if layout == "official" else self._largest_rank())
        shape_R, shape_L = self._factor_shapes()
        self.R = nn.Parameter(torch.empty(shape_R, device=device, dtype=dtype))
        self.L = nn.Parameter(torch.empty(shape_L, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if flag(bias, "bias") else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both factors and the bias anew."""
        for factor in (self.R, self.L):
            bound = 1 / math.sqrt(factor.shape[-1])
            nn.init.uniform_(factor, -bound, bound)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), got {tuple(x.shape)}")
        rows = functional.pad(x.reshape(-1, self.in_features), (0, self.R.shape[0] * self.R.shape[2] - self.in_features))
        mixed = monarch_mix(self.R, self.L, rows.mT)  # (J, O, rows), row o * J + j of the output
        y = mixed.permute(2, 1, 0).flatten(1)[:, : self.out_features].reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def weight(self) -> torch.Tensor:
        """Multiply out: the dense weight (out_features, in_features)."""
        return MonarchOperator(self.R, self.L).toarray()[: self.out_features, : self.in_features]

    def to_linear(self) -> nn.Linear:
        """Return the dense layer that computes the same."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device=self.R.device, dtype=self.R.dtype)
        with torch.no_grad():
            linear.weight.copy_(self.weight())
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear.train(self.training)

    @classmethod
    def from_linear(cls, layer: nn.Linear, *, blocks: int = 4, rank: int = 1) -> MonarchLinear:
        """Return the Monarch layer nearest to a dense one in the Frobenius norm of the (zero-padded) weight.

        Parameters
        ----------
        layer : torch.nn.Linear
            The dense layer; it is not changed.
        blocks, rank : int
            As for the constructor.
        """
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"layer must be a torch.nn.Linear, got {type(layer).__name__}")
        weight, has_bias = layer.weight, layer.bias is not None
        monarch = cls(layer.in_features, layer.out_features, blocks=blocks, rank=rank, bias=has_bias, device=weight.device, dtype=weight.dtype)
        K, J, I, O = monarch.blocks, monarch.L.shape[0], monarch.R.shape[2], monarch.L.shape[1]
        padded = functional.pad(weight.detach(), (0, K * I - layer.in_features, 0, O * J - layer.out_features))
        nearest = monarch_project(padded, blocks=(K, J), rank=rank)
        with torch.no_grad():
            monarch.R.copy_(nearest.R)
            monarch.L.copy_(nearest.L)
            if has_bias:
                monarch.bias.copy_(layer.bias)
        return monarch.train(layer.training)

    def extra_repr(self) -> str:
        """Shown by print."""
        return (
            f"{self.in_features}, {self.out_features}, blocks={self.blocks}, rank={self.rank}, bias={self.bias is not None}, layout={self.layout!r}"
        )

    def _largest_rank(self) -> int:
        return min(self.blocks, math.ceil(self.in_features / self.blocks))

    def _factor_shapes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        K, I, J = self.blocks, math.ceil(self.in_features / self.blocks), math.ceil(self.out_features / self.blocks)
        if self.layout == "standard":
            return (K, self.rank * J, I), (J, K, self.rank * K)
        inner = min(I, J)
        return (K, inner, I), (K, J, inner)


def monarchize(module: nn.Module, *, blocks: int = 4, rank: int = 1, match: Callable[[str, nn.Linear], bool] = lambda name, layer: True) -> nn.Module:
    """Return a copy of a network with its linear layers projected on Monarch matrices ("dense to sparse").

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed.
    blocks, rank : int
        As for `MonarchLinear`.
    match : callable
        Called with the name and the layer; False leaves that layer dense.

    Raises
    ------
    ValueError
        If no layer matches.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> monarchize(net, blocks=4, match=lambda name, layer: layer.out_features == 16)[0]
    MonarchLinear(16, 16, blocks=4, rank=1, bias=True, layout='standard')
    """
    return _converted(module, nn.Linear, match, lambda layer: MonarchLinear.from_linear(layer, blocks=blocks, rank=rank))


def densify(module: nn.Module) -> nn.Module:
    """Return a copy of a network with its Monarch layers multiplied out to dense ones, which compute the same ("sparse to dense").

    Raises
    ------
    ValueError
        If there is no Monarch layer.

    Examples
    --------
    >>> densify(nn.Sequential(MonarchLinear(8, 8), nn.ReLU()))[0]
    Linear(in_features=8, out_features=8, bias=True)
    """
    return _converted(module, MonarchLinear, lambda name, layer: True, MonarchLinear.to_linear)


class ReverseSparsification:
    """Train sparse, end dense: multiplies out the Monarch layers of a network in place after a given part of its training.

    Parameters
    ----------
    module : torch.nn.Module
        The network in training. It must not itself be a Monarch layer.
    fraction : float in (0, 1)
        The part of the training after which layers become dense (0.8 in the paper, 0.7 for BERT).
    optimizer : torch.optim.Optimizer, optional
        Its groups are given the dense weights in place of the factors, and its state is moved.
    moments : {"reset", "multiply"}
        "reset" starts the state of dense weights anew; "multiply" keeps the first moment `exp_avg` as the change of the product,
        dL R + L dR, and resets the rest.
    warmup_steps : int
        For so many optimizer steps after that, the learning rate of the groups that got dense weights rises linearly to its scheduled value.

    Examples
    --------
    >>> net = nn.Sequential(MonarchLinear(8, 8))
    >>> hook = ReverseSparsification(net, 0.5)
    >>> [hook.step(progress) for progress in (0.0, 0.5, 1.0)]
    [False, True, False]
    """

    def __init__(
        self,
        module: nn.Module,
        fraction: float = 0.8,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        moments: str = "reset",
        warmup_steps: int = 100,
    ):
        if not any(isinstance(layer, MonarchLinear) for layer in module.modules()) or isinstance(module, MonarchLinear):
            raise ValueError("module must hold Monarch layers (and not be one itself)")
        self.module = module
        self.fraction = real(fraction, "fraction", above=0, below=1)
        self.optimizer = optimizer
        self.moments = choice(moments, "moments", ["reset", "multiply"])
        self.warmup_steps = integer(warmup_steps, "warmup_steps", at_least=0)
        self.is_dense = False

    def step(self, progress: float) -> bool:
        """Tell the hook how far the training is, in [0, 1], before each optimizer step; True at the step at which the layers become dense."""
        if self.is_dense or real(progress, "progress", at_least=0, at_most=1) < self.fraction:
            return False
        self.is_dense = True
        touched = []
        for name, layer in list(_layers(self.module, MonarchLinear)):
            linear = layer.to_linear()
            linear.bias = layer.bias  # the same parameter: its state stays
            self.module.set_submodule(name, linear)
            if self.optimizer is not None:
                touched.append(self._hand_over(layer, linear.weight))
        if touched and self.warmup_steps:
            _warm_up(self.optimizer, touched, self.warmup_steps)
        return True

    def _hand_over(self, layer: MonarchLinear, weight: nn.Parameter) -> dict:
        """Put the dense weight where the factors were, and return its group."""
        state = {name: self.optimizer.state.pop(factor, {}) for name, factor in (("R", layer.R), ("L", layer.L))}
        group = next(g for g in self.optimizer.param_groups if any(p is layer.R for p in g["params"]))
        for g in self.optimizer.param_groups:
            g["params"] = [p for p in g["params"] if p is not layer.R and p is not layer.L]
        group["params"].append(weight)
        if self.moments == "multiply" and all("exp_avg" in moments for moments in state.values()):
            self.optimizer.state[weight] = _dense_moments(layer, weight, state)
        return group


@torch.no_grad()
def _dense_moments(layer: MonarchLinear, weight: nn.Parameter, state: dict[str, dict]) -> dict:
    moved = MonarchOperator(state["R"]["exp_avg"], layer.L).toarray() + MonarchOperator(layer.R, state["L"]["exp_avg"]).toarray()
    fresh = {key: torch.zeros_like(weight) for key in state["R"] if key in ("exp_avg_sq", "max_exp_avg_sq")}
    return fresh | {
        "step": torch.zeros_like(torch.as_tensor(state["R"]["step"])),
        "exp_avg": moved[: layer.out_features, : layer.in_features].clone(),
    }


def _warm_up(optimizer: torch.optim.Optimizer, groups: list[dict], steps: int) -> None:
    """Scale the learning rate of `groups` during each of the next `steps` optimizer steps, whatever a scheduler sets it to."""
    groups = [group for group in optimizer.param_groups if any(group is touched for touched in groups)]
    scheduled: list[float] = []
    taken = 0

    def before(*_) -> None:
        scheduled[:] = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * (taken + 1) / (steps + 1)

    def after(*_) -> None:
        nonlocal taken
        taken += 1
        for group, lr in zip(groups, scheduled):
            group["lr"] = lr
        if taken == steps:
            handles[0].remove()
            handles[1].remove()

    handles = [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]


def _layers(module: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    return ((name, layer) for name, layer in module.named_modules() if type(layer) is kind)


def _converted(module: nn.Module, kind: type[nn.Module], match: Callable[[str, nn.Module], bool], convert: Callable) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    chosen = [name for name, layer in _layers(module, kind) if match(name, layer)]
    if not chosen:
        raise ValueError(f"module has no {kind.__name__} layer that matches")
    result = copy.deepcopy(module)
    for name in chosen:
        if name == "":
            return convert(result)
        result.set_submodule(name, convert(result.get_submodule(name)))
    return result
