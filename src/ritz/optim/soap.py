"""SOAP: Adam in the slowly changing eigenbasis of Shampoo's preconditioner.

Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson and Kakade, "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025,
arXiv:2409.11321, algorithms 3 and 4.

Shampoo with exponent 1/2 is Adafactor run in the eigenbasis of L = E[G G^T] and R = E[G^T G]. SOAP keeps Adam's second moment in that basis up to
date at every step and refreshes the basis every few steps by one warm-started orthogonal iteration: fewer steps than AdamW to the same loss, for
one more hyper-parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from ritz.core import choice, flag, integer, real

State = dict[str, torch.Tensor]


class SOAP(torch.optim.Optimizer):
    """Adam in Shampoo's eigenbasis, a drop-in replacement of `torch.optim.AdamW`.

    Parameters
    ----------
    params : iterable of parameters or of parameter groups
        float32 or bfloat16 (state in float32), or float64 (state in float64).
    lr : float
        Learning rate.
    betas : (float, float)
        Decay of the first and of the second moment, in [0, 1).
    shampoo_beta : float, optional
        Decay of the Gram matrices L and R; default ``betas[1]``.
    eps : float
        Added to the root of the second moment; not divided by the bias correction.
    weight_decay : float
        Decoupled, applied after the step.
    precondition_frequency : int
        The eigenbasis is refreshed every so many updates.
    max_precond_dim : int
        Longer dimensions are not preconditioned; set it below the vocabulary size of an embedding.
    merge_dims : bool
        Multiply neighboring dimensions together while their product is at most `max_precond_dim`.
    precondition_1d : bool
        Precondition vectors too; else they get plain Adam.
    normalize_grads : bool
        Divide each tensor's direction by its root mean square: useful where the basis is refreshed rarely (every 100 updates), harmful at 10.
    correct_bias : bool
        Adam's bias correction.
    one_sided : bool
        Precondition only the shortest dimension of each tensor (of two equal ones the first).
    factorized : bool
        For matrices, keep Adafactor's rank-one estimate of the second moment: m + n numbers instead of m n. Other tensors keep all of it.
    data_format : {"channels_first", "channels_last"}
        "channels_last" takes four-dimensional weights as (out, height, width, in) and merges them as (out, in, height, width).

    Notes
    -----
    The first call for a parameter only builds its basis: no update, no step counted, so that a basis never contains the gradient it projects.
    Without preconditioned dimensions the trajectory is Adam's, one step late.

    The first moment is kept in the eigenbasis and rotated when the basis changes. Per step an m x n weight costs 6 products of order m^2 n or m n^2,
    and O(m^3 + n^3) every `precondition_frequency` steps. Memory: 2 m^2 + 2 n^2 + 2 m n. Parameters of one shape are worked on as one batch.

    Raises
    ------
    ValueError, TypeError
        For options out of range. `step` refuses sparse, complex and non-finite gradients, naming the parameter's index, before it changes anything.

    References
    ----------
    .. [1] Vyas et al., ICLR 2025, arXiv:2409.11321.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.eye(3))
    >>> optimizer = SOAP([weight], lr=0.1, weight_decay=0.0)
    >>> for _ in range(200):
    ...     optimizer.zero_grad()
    ...     (weight - 2).square().sum().backward()
    ...     optimizer.step()
    >>> bool((weight - 2).abs().max() < 0.1)
    True
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        *,
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precond_dim: int = 10000,
        merge_dims: bool = False,
        precondition_1d: bool = False,
        normalize_grads: bool = False,
        correct_bias: bool = True,
        one_sided: bool = False,
        factorized: bool = False,
        data_format: str = "channels_first",
    ):
        self._stacks: dict[tuple[int, ...], State] = {}
        options = {
            "lr": lr,
            "betas": betas,
            "shampoo_beta": shampoo_beta,
            "eps": eps,
            "weight_decay": weight_decay,
            "precondition_frequency": precondition_frequency,
            "max_precond_dim": max_precond_dim,
            "merge_dims": merge_dims,
            "precondition_1d": precondition_1d,
            "normalize_grads": normalize_grads,
            "correct_bias": correct_bias,
            "one_sided": one_sided,
            "factorized": factorized,
            "data_format": data_format,
        }
        super().__init__(params, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with the defaults for the options it does not set."""
        _check_options(self.defaults | {name: value for name, value in param_group.items() if name != "params"})
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """Take one step on the gradients that the parameters hold; those without one are skipped."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check_gradients()
        for group in self.param_groups:
            for parameters in self._batches(group):
                if self.state[parameters[0]]:
                    self._update(parameters, group)
                else:
                    self._initialize(parameters, group)
        return loss

    def eigenbasis(self, parameter: torch.Tensor) -> list[torch.Tensor | None]:
        """Return one orthogonal matrix per dimension of the (merged) parameter, None where that dimension is not preconditioned.

        Raises
        ------
        KeyError
            If the optimizer has not yet seen a gradient of this parameter.
        """
        if not self.state.get(parameter):
            raise KeyError("the parameter has no eigenbasis: the optimizer has seen no gradient of it")
        group = next(group for group in self.param_groups if any(p is parameter for p in group["params"]))
        return [self.state[parameter].get(f"basis_{k}") for k in range(len(merged_shape(parameter, group)))]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a saved state, each tensor in the precision it was saved in."""
        super().load_state_dict(state_dict)
        saved_ids = (index for group in state_dict["param_groups"] for index in group["params"])
        parameters = (p for group in self.param_groups for p in group["params"])
        for index, p in zip(saved_ids, parameters):
            if index in state_dict["state"]:  # the base class casts state to the parameter's dtype, which bfloat16 cannot bear
                saved = state_dict["state"][index]
                self.state[p] = {name: value.to(p.device, copy=True) if torch.is_tensor(value) else value for name, value in saved.items()}
        self._stacks.clear()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._stacks = {}

    def _initialize(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        """First call: Gram matrices of this gradient and their eigenvectors, zero moments."""
        G = _stacked_gradients(parameters, group)
        stack: State = {"exp_avg": torch.zeros_like(G)}
        if group["factorized"] and G.ndim == 3:
            stack |= {"row_sq": G.new_zeros(G.shape[:2]), "column_sq": G.new_zeros(G.shape[0], G.shape[2])}
        else:
            stack["exp_avg_sq"] = torch.zeros_like(G)
        for k in _preconditioned(G.shape[1:], group):
            stack[f"gram_{k}"] = _gram(G, k) * (1 - _shampoo_beta(group))
            stack[f"basis_{k}"] = eigenvectors(stack[f"gram_{k}"])
        for p in parameters:
            self.state[p]["step"] = 0
        self._keep(parameters, stack)

    def _update(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        stack = self._stack(parameters)
        G = _stacked_gradients(parameters, group)
        modes = _preconditioned(G.shape[1:], group)
        bases = [stack.get(f"basis_{k}") for k in range(G.ndim - 1)]
        beta1, beta2 = group["betas"]
        projected = rotate(G, bases)
        stack["exp_avg"].lerp_(projected, 1 - beta1)
        count = self._count(parameters)
        direction = stack["exp_avg"] / (self._second_moment(stack, projected, beta2, count).sqrt().add_(group["eps"]))
        N = rotate(direction, [None if Q is None else Q.mT for Q in bases])
        if group["normalize_grads"]:
            N = N / (1e-30 + N.flatten(1).square().mean(dim=1).sqrt().reshape(-1, *[1] * (N.ndim - 1)))
        self._apply(parameters, group, N, count)
        for k in modes:
            stack[f"gram_{k}"].lerp_(_gram(G, k), 1 - _shampoo_beta(group))
        if count % group["precondition_frequency"] == 0:
            self._refresh(stack, modes, count, beta2)

    def _second_moment(self, stack: State, projected: torch.Tensor, beta2: float, count: int) -> torch.Tensor:
        """Take in the squares of this gradient and return V, not to be changed."""
        squares = projected.square()
        if "exp_avg_sq" in stack:
            return stack["exp_avg_sq"].lerp_(squares, 1 - beta2)
        rows = stack["row_sq"].lerp_(squares.sum(dim=2), 1 - beta2)
        columns = stack["column_sq"].lerp_(squares.sum(dim=1), 1 - beta2)
        total = rows.sum(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
        return (rows / total).unsqueeze(2) * columns.unsqueeze(1)

    def _apply(self, parameters: list[torch.Tensor], group: dict[str, Any], N: torch.Tensor, count: int) -> None:
        beta1, beta2 = group["betas"]
        size = group["lr"] * (math.sqrt(1 - beta2**count) / (1 - beta1**count) if group["correct_bias"] else 1.0)
        for p, direction in zip(parameters, N):
            p.sub_(_restored(direction, p, group).to(p.dtype), alpha=size)
            if group["weight_decay"]:
                p.mul_(1 - group["lr"] * group["weight_decay"])

    def _refresh(self, stack: State, modes: Sequence[int], count: int, beta2: float) -> None:
        """One step of orthogonal iteration per dimension, columns sorted by their Rayleigh quotients; V is permuted alike, M is rotated."""
        turns: list[torch.Tensor | None] = [None] * (stack["exp_avg"].ndim - 1)
        for k in modes:
            Q, image = stack[f"basis_{k}"], stack[f"gram_{k}"] @ stack[f"basis_{k}"]
            order = torch.argsort((Q * image).sum(dim=-2), dim=-1, descending=True, stable=True)
            self._permute_second_moment(stack, k, order)
            refreshed = torch.linalg.qr(image.take_along_dim(order.unsqueeze(-2), dim=-1)).Q
            turns[k] = Q.mT @ refreshed
            Q.copy_(refreshed)
        stack["exp_avg"].copy_(rotate(stack["exp_avg"], turns))

    def _permute_second_moment(self, stack: State, k: int, order: torch.Tensor) -> None:
        if "exp_avg_sq" in stack:
            V = stack["exp_avg_sq"]
            V.copy_(V.take_along_dim(order.reshape(len(order), *[1] * k, -1, *[1] * (V.ndim - 2 - k)), dim=k + 1))
        else:
            V = stack["row_sq" if k == 0 else "column_sq"]
            V.copy_(V.take_along_dim(order, dim=1))

    def _batches(self, group: dict[str, Any]) -> list[list[torch.Tensor]]:
        """The group's parameters with a gradient, those alike in shape, precision, device and number of steps together."""
        alike: dict[tuple, list[torch.Tensor]] = {}
        for p in group["params"]:
            if p.grad is not None:
                key = (merged_shape(p, group), _precision(p), p.device, self.state[p].get("step"))
                alike.setdefault(key, []).append(p)
        return list(alike.values())

    def _stack(self, parameters: list[torch.Tensor]) -> State:
        """The states of alike parameters as one batch, of which each parameter's state is a view."""
        key = tuple(id(p) for p in parameters)
        if key not in self._stacks:
            states = [self.state[p] for p in parameters]
            names = [name for name in states[0] if name != "step"]
            # one parameter needs no copy: its batch of one is a view of its state
            stack = {name: torch.stack([state[name] for state in states]) if len(states) > 1 else states[0][name].unsqueeze(0) for name in names}
            self._keep(parameters, stack)
        return self._stacks[key]

    def _keep(self, parameters: list[torch.Tensor], stack: State) -> None:
        key = tuple(id(p) for p in parameters)
        self._stacks = {other: kept for other, kept in self._stacks.items() if not set(other) & set(key)}
        self._stacks[key] = stack
        for i, p in enumerate(parameters):
            self.state[p].update({name: batch[i] for name, batch in stack.items()})

    def _count(self, parameters: list[torch.Tensor]) -> int:
        for p in parameters:
            self.state[p]["step"] += 1
        return self.state[parameters[0]]["step"]

    def _check_gradients(self) -> None:
        """Refuse bad gradients of any parameter before the first state changes; one synchronization with the device in all."""
        indexed = [(i, p.grad) for i, p in enumerate(p for group in self.param_groups for p in group["params"]) if p.grad is not None]
        for i, grad in indexed:
            if grad.is_sparse or grad.layout != torch.strided:
                raise ValueError(f"the gradient of parameter {i} must be dense, got layout {grad.layout}")
            if grad.is_complex():
                raise TypeError(f"the gradient of parameter {i} must be real, got {grad.dtype}")
        if not indexed or all(bool(norms.isfinite().all()) for norms in _norms_by_device([grad for _, grad in indexed])):
            return
        for i, grad in indexed:  # a norm may overflow where no entry does
            if not bool(grad.isfinite().all()):
                raise ValueError(f"the gradient of parameter {i} must be finite; no parameter was changed")


def rotate(X: torch.Tensor, bases: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """Contract each dimension of a batch of tensors (b, d_1, ..., d_k) with its matrix (b, d, e), None meaning the identity.

    Each contraction moves its dimension to the end, so that after all of them the order is the first again.
    """
    for Q in bases:
        if Q is None:
            X = X.movedim(1, -1)
        else:
            rest = X.shape[2:]
            X = (X.reshape(X.shape[0], X.shape[1], -1).mT @ Q).reshape(X.shape[0], *rest, Q.shape[-1])
    return X


def eigenvectors(gram: torch.Tensor) -> torch.Tensor:
    """Eigenvectors (b, d, d) of symmetric matrices, columns by descending eigenvalue; in double precision where single fails."""
    shifted = gram + 1e-30 * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    try:
        vectors = torch.linalg.eigh(shifted).eigenvectors
    except torch.linalg.LinAlgError:
        vectors = torch.linalg.eigh(shifted.double()).eigenvectors.to(gram.dtype)
    return vectors.flip(-1).contiguous()  # one memory layout before and after a state is saved, and so one rounding


def merged_shape(p: torch.Tensor, group: dict[str, Any]) -> tuple[int, ...]:
    """The shape that is worked on: at least one dimension, neighbors multiplied together if `merge_dims`."""
    shape = tuple(_channels_second(p, group).shape) or (1,)
    if not group["merge_dims"]:
        return shape
    merged = [1]
    for size in shape:
        if merged[-1] * size <= group["max_precond_dim"]:
            merged[-1] *= size
        else:
            merged.append(size)
    return tuple(size for size in merged if size > 1) or (1,)


def _channels_second(p: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    return p.permute(0, 3, 1, 2) if group["data_format"] == "channels_last" and p.ndim == 4 else p


def _restored(direction: torch.Tensor, p: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    """A worked-on tensor in the shape of its parameter."""
    unmerged = direction.reshape(_channels_second(p, group).shape)
    return unmerged.permute(0, 2, 3, 1) if group["data_format"] == "channels_last" and p.ndim == 4 else unmerged


def _stacked_gradients(parameters: list[torch.Tensor], group: dict[str, Any]) -> torch.Tensor:
    shape, precision = merged_shape(parameters[0], group), _precision(parameters[0])
    return torch.stack([_channels_second(p.grad, group).reshape(shape).to(precision) for p in parameters])


def _preconditioned(shape: Sequence[int], group: dict[str, Any]) -> list[int]:
    """Which dimensions get a Gram matrix and a basis."""
    if len(shape) == 1 and not group["precondition_1d"]:
        return []
    modes = [k for k, size in enumerate(shape) if size <= group["max_precond_dim"]]
    return [min(modes, key=lambda k: shape[k])] if group["one_sided"] and modes else modes


def _gram(G: torch.Tensor, k: int) -> torch.Tensor:
    """Contract each tensor of a batch with itself over all dimensions but k: (b, d_k, d_k)."""
    unfolded = G.movedim(k + 1, 1).reshape(len(G), G.shape[k + 1], -1)
    return unfolded @ unfolded.mT


def _shampoo_beta(group: dict[str, Any]) -> float:
    return group["betas"][1] if group["shampoo_beta"] is None else group["shampoo_beta"]


def _precision(p: torch.Tensor) -> torch.dtype:
    return torch.float64 if p.dtype == torch.float64 else torch.float32


def _norms_by_device(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    devices = dict.fromkeys(grad.device for grad in gradients)
    return [torch.stack([n.float() for n in torch._foreach_norm([grad for grad in gradients if grad.device == device])]) for device in devices]


def _check_options(options: dict[str, Any]) -> None:
    real(options["lr"], "lr", at_least=0)
    betas = options["betas"]
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise ValueError(f"betas must be two numbers, got {betas!r}")
    for beta in betas:
        real(beta, "betas", at_least=0, below=1)
    if options["shampoo_beta"] is not None:
        real(options["shampoo_beta"], "shampoo_beta", at_least=0, below=1)
    real(options["eps"], "eps", above=0)
    real(options["weight_decay"], "weight_decay", at_least=0)
    integer(options["precondition_frequency"], "precondition_frequency", at_least=1)
    integer(options["max_precond_dim"], "max_precond_dim", at_least=0)
    for name in ("merge_dims", "precondition_1d", "normalize_grads", "correct_bias", "one_sided", "factorized"):
        flag(options[name], name)
    choice(options["data_format"], "data_format", ["channels_first", "channels_last"])
