"""Layers that take the place of a linear layer, behind one protocol, and the way to put them into a model.

Every layer here is built with ``from_linear``, answers ``to_dense() -> (out, in)``, ``stored_numbers()`` (values at rest; the bits of indices are
counted apart by layers that have any) and ``flops(tokens)``, holds nothing but tensors in its state dict, and computes ``F.linear(x, to_dense(),
bias)`` up to rounding. The functions `dense_weight`, `stored_numbers` and `flops` ask the same of any linear layer: `torch.nn.Linear`, Hugging Face's
``Conv1D`` (which stores the transposed matrix), and whatever follows the protocol.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import torch
from torch import nn

from ritz.core import array, flag, integer, matrix
from ritz.linalg import LowRankFactors, RankRule, truncated_svd


class _WithFactors(nn.Module):
    """A layer with two factors as children: A (r, i) and B (o, r)."""

    @property
    def in_features(self) -> int:
        """Number of inputs i."""
        return self.A.in_features

    @property
    def out_features(self) -> int:
        """Number of outputs o."""
        return self.B.out_features

    @property
    def rank(self) -> int:
        """Number of columns of B and rows of A."""
        return self.A.out_features

    @property
    def weight(self) -> torch.Tensor:
        """The dense equivalent, for code that looks at a linear layer's weight; computed anew each time."""
        return self.to_dense()


class LowRankLinear(_WithFactors):
    """``y = B s(A x) + b``: two thin layers in place of a wide one, ``r (i + o)`` numbers in place of ``o i``.

    Parameters
    ----------
    A : Tensor (r, i)
        First factor; becomes the weight of the child layer ``A``.
    B : Tensor (o, r)
        Second factor; becomes the weight of the child layer ``B``.
    bias : Tensor (o,), optional
        Becomes the bias of ``B``.
    activation : callable, optional
        The function s between the two; with one the layer has no dense equivalent.

    Examples
    --------
    >>> layer = LowRankLinear(torch.ones(1, 3), torch.ones(2, 1))
    >>> layer(torch.tensor([1.0, 2.0, 3.0]))
    tensor([6., 6.], grad_fn=...)
    >>> layer.stored_numbers(), layer.flops(tokens=1)
    (5, 10)
    """

    def __init__(self, A: torch.Tensor, B: torch.Tensor, bias: torch.Tensor | None = None, *, activation: Callable | None = None):
        super().__init__()
        A, B = _factor_pair(A, B)
        self.A = linear_around(A)
        self.B = linear_around(B, None if bias is None else _bias(bias, B.shape[0]))
        self.activation = activation

    @classmethod
    def from_linear(cls, linear: nn.Module, rank: RankRule | int | float | str) -> LowRankLinear:
        """Split a linear layer by the truncated SVD of its weight, the singular values shared evenly between both factors."""
        weight = dense_weight(linear)
        U, s, Vh = truncated_svd(weight, rank)
        root = s.sqrt()
        return cls(root[:, None] * Vh, U * root, getattr(linear, "bias", None))

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias (o,), if there is one."""
        return self.B.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., i) to (..., o)."""
        _check_width(x, self.in_features)
        inner = self.A(x)
        return self.B(inner if self.activation is None else self.activation(inner))

    def to_dense(self) -> torch.Tensor:
        """Return ``B A`` (o, i).

        Raises
        ------
        ValueError
            If there is an activation between the factors.
        """
        if self.activation is not None:
            raise ValueError("a low-rank layer with an activation between its factors has no dense equivalent")
        return self.B.weight @ self.A.weight

    def merge(self) -> nn.Linear:
        """Return the dense linear layer that computes the same."""
        return linear_around(self.to_dense().detach(), self.bias)

    def stored_numbers(self) -> int:
        """Return ``r (i + o)``, plus o for a bias."""
        return stored_numbers(self.A) + stored_numbers(self.B)

    def flops(self, tokens: int) -> int:
        """Return the floating-point operations of the two products for this many inputs."""
        return flops(self.A, tokens) + flops(self.B, tokens)


class LinearWithLowRankCompensation(_WithFactors):
    """``y = base(x) + B (A x)``: a layer that stays as it is, beside a thin path that makes up for what it lost.

    Parameters
    ----------
    base : nn.Module
        Any linear layer; kept as the child ``base``, untouched.
    A : Tensor (r, i)
        Becomes the weight of the child layer ``A``.
    B : Tensor (o, r)
        Becomes the weight of the child layer ``B``.

    Examples
    --------
    >>> base = nn.Linear(3, 2, bias=False)
    >>> layer = LinearWithLowRankCompensation(base, torch.ones(1, 3), torch.ones(2, 1))
    >>> torch.equal(layer.to_dense(), base.weight + 1)
    True
    """

    def __init__(self, base: nn.Module, A: torch.Tensor, B: torch.Tensor):
        super().__init__()
        A, B = _factor_pair(A, B)
        rows, columns = dense_shape(base)
        if (B.shape[0], A.shape[1]) != (rows, columns):
            raise ValueError(
                f"A and B must have {columns} columns and {rows} rows, as base has inputs and outputs, got {tuple(A.shape)} and {tuple(B.shape)}"
            )
        self.base = base
        self.A = linear_around(A)
        self.B = linear_around(B)

    @classmethod
    def from_linear(cls, linear: nn.Module, factors: LowRankFactors) -> LinearWithLowRankCompensation:
        """Put low-rank factors, in the layer's dtype and on its device, beside a linear layer."""
        like = dense_weight(linear)
        return cls(linear, factors.A.to(like), factors.B.to(like))

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias (o,) of the base, if it has one."""
        return getattr(self.base, "bias", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., i) to (..., o)."""
        _check_width(x, self.in_features)
        return self.base(x) + self.B(self.A(x))

    def to_dense(self) -> torch.Tensor:
        """Return the base's matrix plus ``B A`` (o, i)."""
        return dense_weight(self.base) + self.B.weight @ self.A.weight

    def stored_numbers(self) -> int:
        """Return the numbers of the base plus ``r (i + o)``."""
        return stored_numbers(self.base) + stored_numbers(self.A) + stored_numbers(self.B)

    def flops(self, tokens: int) -> int:
        """Return the floating-point operations of the three products for this many inputs."""
        return flops(self.base, tokens) + flops(self.A, tokens) + flops(self.B, tokens)


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer: `torch.nn.Linear`, Hugging Face's ``Conv1D``, or one with ``to_dense``.

    The output projection inside `torch.nn.MultiheadAttention` is not: that module reads its weight and never calls it.
    """
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return False
    return isinstance(module, nn.Linear) or is_transposed(module) or hasattr(module, "to_dense")


def is_transposed(module: nn.Module) -> bool:
    """Whether a module is Hugging Face's ``Conv1D``, which stores its matrix (in, out)."""
    conv = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)
    return conv is not None and isinstance(module, conv)


def dense_weight(layer: nn.Module) -> torch.Tensor:
    """Return the matrix (out, in) of a linear layer.

    A detached view where the layer stores it (transposed for ``Conv1D``), ``to_dense()`` where it follows the protocol; any other module with
    ``in_features`` is asked for its response to the unit vectors.

    Raises
    ------
    TypeError
        If `layer` is not a module that maps vectors linearly, as far as can be seen.

    Examples
    --------
    >>> tuple(dense_weight(nn.Linear(3, 2)).shape)
    (2, 3)
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(f"layer must be an nn.Module, got {type(layer).__name__}")
    if hasattr(layer, "to_dense"):
        return layer.to_dense().detach()
    if isinstance(layer, nn.Linear):
        return layer.weight.detach()
    if is_transposed(layer):
        return layer.weight.detach().T
    if hasattr(layer, "in_features"):
        return _response(layer)
    raise TypeError(f"layer must be a linear layer (nn.Linear, Conv1D, or one with to_dense or in_features), got {type(layer).__name__}")


def dense_shape(layer: nn.Module) -> tuple[int, int]:
    """Return (out, in) of a linear layer, without computing its matrix where its attributes tell."""
    if hasattr(layer, "in_features") and hasattr(layer, "out_features"):
        return layer.out_features, layer.in_features
    return tuple(dense_weight(layer).shape)


def stored_numbers(layer: nn.Module) -> int:
    """Return how many numbers a linear layer stores, bias included."""
    return layer.stored_numbers() if hasattr(layer, "stored_numbers") else sum(p.numel() for p in layer.parameters())


def flops(layer: nn.Module, tokens: int) -> int:
    """Return the floating-point operations of a linear layer for this many inputs: two per multiply and add of a dense matrix."""
    tokens = integer(tokens, "tokens", at_least=0)
    rows, columns = dense_shape(layer)
    return layer.flops(tokens) if hasattr(layer, "flops") else 2 * tokens * rows * columns


def linear_around(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    """Return an `nn.Linear` whose parameters are these tensors, not copies of them."""
    layer = nn.Linear(1, 1, bias=bias is not None, device="meta")
    layer.out_features, layer.in_features = weight.shape
    layer.weight = _as_parameter(weight)
    if bias is not None:
        layer.bias = _as_parameter(bias)
    return layer


def replace_modules(model: nn.Module, replacements: Mapping[str, nn.Module], *, break_ties: bool = False) -> nn.Module:
    """Put modules in the place of others, in `model` itself, and return it.

    Training mode carries over; a module that sits at several places is replaced at all of them. Dtype and device are those of the replacement.

    Parameters
    ----------
    model : nn.Module
        The model that is changed.
    replacements : mapping from str to nn.Module
        New modules by dotted name.
    break_ties : bool
        Allow a replacement that drops a parameter which another module still uses, such as an output layer tied to the embedding.

    Raises
    ------
    ValueError
        If a name is unknown, or a tie would break. Nothing is changed then.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> replace_modules(model, {"1": nn.GELU()})[1]
    GELU(approximate='none')
    """
    flag(break_ties, "break_ties")
    places: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        places.setdefault(id(module), []).append(name)
    old = {name: submodule(model, name, "replacements") for name in replacements}
    for name, module in old.items():
        if not break_ties and (lost := _broken_ties(model, module, replacements[name])):
            raise ValueError(f"replacements: '{name}' shares {', '.join(lost)} with another module; break_ties=True replaces it all the same")
    for name, module in old.items():
        replacements[name].train(module.training)
        for place in places[id(module)]:
            parent, _, child = place.rpartition(".")
            setattr(model.get_submodule(parent), child, replacements[name])
    return model


def submodule(model: nn.Module, name: str, argument: str) -> nn.Module:
    """Return the module at a dotted name, or refuse `argument` by naming it."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise ValueError(f"{argument}: there is no module '{name}' in the {type(model).__name__}") from None


def _broken_ties(model: nn.Module, old: nn.Module, new: nn.Module) -> list[str]:
    kept = {id(p) for p in new.parameters()}
    inside = {id(module) for module in old.modules()}
    elsewhere = {id(p) for module in model.modules() if id(module) not in inside for p in module.parameters(recurse=False)}
    return [name for name, p in old.named_parameters() if id(p) in elsewhere and id(p) not in kept]


def _factor_pair(A, B) -> tuple[torch.Tensor, torch.Tensor]:
    A, B = torch.as_tensor(matrix(A, "A", allow_empty=True)), torch.as_tensor(matrix(B, "B", allow_empty=True))
    if B.shape[1] != A.shape[0]:
        raise ValueError(f"B must have as many columns as A has rows, {A.shape[0]}, got shape {tuple(B.shape)}")
    if A.dtype != B.dtype or A.device != B.device:
        raise ValueError(f"B must have the dtype and device of A, {A.dtype} on {A.device}, got {B.dtype} on {B.device}")
    return A.contiguous(), B.contiguous()


def _bias(bias, rows: int) -> torch.Tensor:
    return torch.as_tensor(array(bias, "bias", shape=(rows,)))


def _as_parameter(tensor: torch.Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)


def _check_width(x: torch.Tensor, width: int) -> None:
    if x.ndim == 0 or x.shape[-1] != width:
        raise ValueError(f"x must have {width} features in its last dimension, got shape {tuple(x.shape)}")


@torch.no_grad()
def _response(layer: nn.Module) -> torch.Tensor:
    """The matrix of an opaque linear layer, from what it makes of the unit vectors and of zero."""
    floating = [t for t in (*layer.parameters(), *layer.buffers()) if t.is_floating_point()]
    like = floating[0] if floating else torch.zeros(())
    units = torch.eye(layer.in_features, dtype=like.dtype, device=like.device)
    return (layer(units) - layer(torch.zeros_like(units[:1]))).T
