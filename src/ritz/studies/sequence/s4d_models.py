"""The classifiers that the study of S4D compares: S4D itself, and an LSTM and a dilated convolution of the same number of parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class LSTMClassifier(nn.Module):
    """Two LSTM layers, linear decoder of the last output.

    The gates start with time scales spread over the length of the sequence (Tallec and Ollivier, ICLR 2018, arXiv:1804.11188): with torch's own
    start such sequences teach an LSTM almost nothing in a few epochs.
    """

    def __init__(self, classes: int, width: int, length: int):
        super().__init__()
        self.lstm = nn.LSTM(1, width, num_layers=2, batch_first=True)
        self.decoder = nn.Linear(width, classes)
        with torch.no_grad():
            for input_bias, hidden_bias in ((self.lstm.bias_ih_l0, self.lstm.bias_hh_l0), (self.lstm.bias_ih_l1, self.lstm.bias_hh_l1)):
                forget = torch.empty(width).uniform_(1, length - 1).log()
                input_bias.copy_(torch.cat([-forget, forget, torch.zeros(2 * width)]))
                hidden_bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.lstm(x)[0][:, -1])


class DilatedConvolutionClassifier(nn.Module):
    """Residual convolutions of width 3 with dilations 1, 2, 4, ... that together see the whole sequence, mean over time, linear decoder."""

    def __init__(self, classes: int, width: int, length: int):
        super().__init__()
        dilations = [2**k for k in range((length - 1).bit_length())]
        self.encoder = nn.Conv1d(1, width, 1)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in dilations)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in dilations)
        self.decoder = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder(x.transpose(1, 2))
        for norm, layer in zip(self.norms, self.layers):
            x = x + nn.functional.gelu(norm(layer(x)))
        return self.decoder(x.mean(dim=2))


def of_size(build: Callable[[int], nn.Module], parameters: int) -> nn.Module:
    """Return `build(width)` of the width whose number of parameters is nearest to the one given."""
    width = min(range(8, 129), key=lambda width: abs(parameter_count(build(width)) - parameters))
    return build(width)


def parameter_count(model: nn.Module) -> int:
    """The number of trained numbers."""
    return sum(p.numel() for p in model.parameters())
