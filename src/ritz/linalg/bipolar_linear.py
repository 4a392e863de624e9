"""A linear layer whose weights, and if wanted activations, are odd integers of a few bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ritz.core import flag, integer, matrix, to_numpy
from ritz.linalg.bipolar import MOST_BITS, BipolarTensor, bipolar_matmul
from ritz.linalg.bipolar_quantization import best_scales, quantize_bipolar


class BipolarLinear(nn.Module):
    """A linear layer for inference, y = W x + b, with W in `weight_bits` bits and x, sample by sample, in `activation_bits`.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the input and the output.
    weight_bits : int
        1 to 8; one scale for each output.
    activation_bits : int, optional
        1 to 8; one scale and one offset for each sample. None multiplies real inputs by the decoded weights.
    bias : bool
        Whether there is an additive bias.

    Notes
    -----
    Inputs need not be around zero: with z the middle of a sample's range, x = s u + z and W x = s (W u) + z rowsum(W), u of odd integers.
    Scales have the least squared error (`quantize_bipolar`). The product is `bipolar_matmul`'s, exact. Weights are drawn as those of
    `torch.nn.Linear` and rounded; `from_linear` is the way to trained ones. Nothing has a gradient.
    Input (..., in_features), output (..., out_features).

    References
    ----------
    .. [1] "Efficient Arbitrary Precision Acceleration for Large Language Models on GPU Tensor Cores", ASP-DAC 2025, arXiv:2409.17870.

    Examples
    --------
    >>> layer = BipolarLinear(128, 10, weight_bits=2, activation_bits=4)
    >>> layer(torch.ones(3, 128)).shape
    torch.Size([3, 10])
    >>> layer.packed.numel() * 8
    320
    """

    def __init__(self, in_features: int, out_features: int, *, weight_bits: int = 2, activation_bits: int | None = 4, bias: bool = True):
        super().__init__()
        self.in_features = integer(in_features, "in_features", at_least=1)
        self.out_features = integer(out_features, "out_features", at_least=1)
        self.weight_bits = integer(weight_bits, "weight_bits", at_least=1, at_most=MOST_BITS)
        self.activation_bits = (
            activation_bits if activation_bits is None else integer(activation_bits, "activation_bits", at_least=1, at_most=MOST_BITS)
        )
        layer = nn.Linear(in_features, out_features, bias=flag(bias, "bias"))
        self.register_buffer("bias", layer.bias.detach() if bias else None)
        self._set_weight(layer.weight.detach(), None)

    @classmethod
    def from_linear(
        cls, layer: nn.Linear, calibration: torch.Tensor | None = None, *, weight_bits: int = 2, activation_bits: int | None = 4
    ) -> BipolarLinear:
        """Round a trained layer.

        Parameters
        ----------
        layer : torch.nn.Linear
            The layer; it is not changed.
        calibration : tensor (samples, in_features), optional
            Inputs of the layer: weights' errors then count by the mean square of the input that they meet, when scales are chosen.
        weight_bits, activation_bits : int
            As for the constructor.
        """
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"layer must be a torch.nn.Linear, got {type(layer).__name__}")
        importance = None
        if calibration is not None:
            inputs = to_numpy(matrix(calibration, "calibration", shape=(None, layer.in_features)))
            importance = np.square(inputs.astype(np.float64)).mean(axis=0)
        rounded = cls(
            layer.in_features, layer.out_features, weight_bits=weight_bits, activation_bits=activation_bits, bias=layer.bias is not None
        ).to(layer.weight.device)
        if layer.bias is not None:
            rounded.bias.copy_(layer.bias.detach())
        rounded._set_weight(layer.weight.detach(), importance)
        return rounded.train(layer.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), got {tuple(x.shape)}")
        W = self.tensor()
        if self.activation_bits is None:
            return functional.linear(x, W.dequantize().to(x.dtype), self.bias)
        rows = x.detach().reshape(-1, self.in_features)
        if len(rows) == 0:
            return x.new_zeros((*x.shape[:-1], self.out_features))
        offset = (rows.amax(dim=1, keepdim=True) + rows.amin(dim=1, keepdim=True)) / 2
        activations, _ = quantize_bipolar(rows - offset, self.activation_bits)
        y = bipolar_matmul(W, activations, out_dtype="float32").T.to(x.dtype) + offset * (W.row_sums() * self.scale).to(x.dtype)
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def tensor(self) -> BipolarTensor:
        """The weights (out_features, in_features) in bit planes."""
        return BipolarTensor(self.packed, self.weight_bits, self.in_features, self.scale)

    def extra_repr(self) -> str:
        """Shown by print."""
        sizes = f"{self.in_features}, {self.out_features}"
        return f"{sizes}, weight_bits={self.weight_bits}, activation_bits={self.activation_bits}, bias={self.bias is not None}"

    def _set_weight(self, weight: torch.Tensor, importance: np.ndarray | None) -> None:
        scale = "mse" if importance is None else best_scales(to_numpy(weight), self.weight_bits, importance)
        tensor, scale = quantize_bipolar(weight, self.weight_bits, scale=scale)
        self.register_buffer("packed", tensor.packed)
        self.register_buffer("scale", scale)
