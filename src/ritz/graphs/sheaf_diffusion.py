"""Neural sheaf diffusion networks: layers of it, or a differential equation, between a linear encoder and a linear classifier.

Bodnar, Di Giovanni, Chamberlain, Liò and Bronstein, "Neural Sheaf Diffusion: A Topological Perspective on Heterophily and Oversmoothing in GNNs",
NeurIPS 2022, arXiv:2202.04579, sections 4 and 5.
"""

from __future__ import annotations

import importlib

import torch
from torch import nn
from torch.nn import functional as F

from ritz.core import MissingExtra, choice, flag, integer, is_torch, positive, real
from ritz.graphs.sheaf_conv import ACTIVATIONS, SheafConv

METHODS = ("euler", "rk4", "dopri5")


class SheafDiffusion(nn.Module):
    """Node classification by diffusion on learned sheaves, for heterophilic graphs and many layers.

    Parameters
    ----------
    in_channels, out_channels : int
        Features and classes.
    hidden_channels : int
        Channels of each stalk dimension.
    d, kind, act, left, right, low_pass, high_pass, edge_weights, orth
        As for `SheafConv`; the encoder is activated likewise.
    num_layers : int
        Steps of diffusion.
    dropout : float in [0, 1)
        After the encoder, before each step, and of what the maps are learned from in all layers but the first.
    input_dropout : float in [0, 1)
        Of the features.
    per_layer_sheaf : bool
        Learn new maps in each layer; False keeps those of the first.
    second_linear : bool
        A second linear map after the encoder.

    Notes
    -----
    The published settings train with Adam at 0.01 to 0.02 and weight decay 5e-4 to 5e-3; parameters named ``map_learner`` and ``weight_learner`` may
    be given one of their own. Any graph can be given at each call.

    References
    ----------
    .. [1] Bodnar et al., NeurIPS 2022, arXiv:2202.04579.

    Examples
    --------
    >>> edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> network = SheafDiffusion(5, out_channels=2, d=2, kind="general").eval()
    >>> network(torch.randn(3, 5), edge_index).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 20,
        out_channels: int = 2,
        *,
        d: int = 3,
        num_layers: int = 4,
        kind: str = "diagonal",
        act: str = "elu",
        dropout: float = 0.7,
        input_dropout: float = 0.0,
        left: bool = True,
        right: bool = True,
        per_layer_sheaf: bool = True,
        low_pass: bool = False,
        high_pass: bool = False,
        edge_weights: bool = True,
        orth: str = "cayley",
        second_linear: bool = False,
    ):
        super().__init__()
        self.per_layer_sheaf = flag(per_layer_sheaf, "per_layer_sheaf")
        shared = {"d": d, "kind": kind, "act": act, "left": left, "right": right, "dropout": dropout}
        shared |= {"low_pass": low_pass, "high_pass": high_pass, "edge_weights": edge_weights, "orth": orth}
        self.convs = nn.ModuleList(
            SheafConv(hidden_channels, map_dropout=dropout if layer else 0.0, learned_sheaf=per_layer_sheaf or layer == 0, **shared)
            for layer in range(integer(num_layers, "num_layers", at_least=1))
        )
        width = self.convs[0].stalk * hidden_channels
        self.encoder = _Encoder(in_channels, width, act=act, dropout=dropout, input_dropout=input_dropout, second_linear=second_linear)
        self.classifier = nn.Linear(width, integer(out_channels, "out_channels", at_least=1))

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, out_channels).

        Parameters
        ----------
        x : Tensor (n, in_channels)
            Features of the nodes.
        edge_index : LongTensor (2, E)
            Both directions of each edge, no self-loops.
        """
        return self.classifier(self.states(x, edge_index)[-1])

    def states(self, x: torch.Tensor, edge_index: torch.Tensor) -> list[torch.Tensor]:
        """Return the features (n, stalk * hidden_channels) after the encoder and after each layer."""
        states, laplacian = [self.encoder(x)], None
        for conv in self.convs:
            if laplacian is None or self.per_layer_sheaf:
                laplacian = conv.laplacian(states[-1], edge_index)
            states.append(conv(states[-1], edge_index, laplacian))
        return states


class SheafODE(nn.Module):
    """Continuous sheaf diffusion, dX/dt = -sigma(Delta(X) (I (x) W1) X W2) from the encoded features at time 0 to `time`.

    Parameters
    ----------
    in_channels, hidden_channels, out_channels
        As for `SheafDiffusion`.
    d, kind, act, dropout, input_dropout, left, right, low_pass, high_pass, edge_weights, orth, second_linear
        As for `SheafDiffusion`; dropout acts on the encoded features only, since the right-hand side must not change from call to call.
    time : float
        Where to stop.
    steps : int
        Equal steps of "euler" and "rk4".
    method : {"euler", "rk4", "dopri5"}
        Explicit steps of order 1 or 4, or the adaptive method of the library torchdiffeq (rtol 1e-3, atol 1e-4).
    moving_sheaf : bool
        Learn the maps anew at each evaluation; False keeps those of time 0.

    Raises
    ------
    MissingExtra
        If "dopri5" is asked for and torchdiffeq is not installed.

    Examples
    --------
    >>> edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> SheafODE(5, out_channels=2, method="rk4", steps=2).eval()(torch.randn(3, 5), edge_index).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 20,
        out_channels: int = 2,
        *,
        d: int = 3,
        kind: str = "diagonal",
        act: str = "elu",
        dropout: float = 0.7,
        input_dropout: float = 0.0,
        left: bool = True,
        right: bool = True,
        low_pass: bool = False,
        high_pass: bool = False,
        edge_weights: bool = True,
        orth: str = "cayley",
        second_linear: bool = False,
        time: float = 1.0,
        steps: int = 4,
        method: str = "euler",
        moving_sheaf: bool = True,
    ):
        super().__init__()
        self.time, self.steps = positive(time, "time"), integer(steps, "steps", at_least=1)
        self.method, self.moving_sheaf = choice(method, "method", METHODS), flag(moving_sheaf, "moving_sheaf")
        if method == "dopri5":
            _torchdiffeq()
        options = {"low_pass": low_pass, "high_pass": high_pass, "edge_weights": edge_weights, "orth": orth}
        self.conv = SheafConv(hidden_channels, d=d, kind=kind, act=act, left=left, right=right, **options)
        self.conv.epsilon.requires_grad_(False)  # the equation has no residual coefficient
        width = self.conv.stalk * hidden_channels
        self.encoder = _Encoder(in_channels, width, act=act, dropout=dropout, input_dropout=input_dropout, second_linear=second_linear)
        self.classifier = nn.Linear(width, integer(out_channels, "out_channels", at_least=1))

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, out_channels); arguments as for `SheafDiffusion.forward`."""
        encoded = self.encoder(x)
        return self.classifier(self._integrated(encoded, edge_index))

    def _integrated(self, start: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        fixed = None if self.moving_sheaf else self.conv.laplacian(start, edge_index)

        def velocity(_time, state: torch.Tensor) -> torch.Tensor:
            laplacian = self.conv.laplacian(state, edge_index) if fixed is None else fixed
            stalks = state.reshape(len(state), self.conv.stalk, -1)
            return -self.conv.diffusion(stalks, laplacian).reshape(len(state), -1)

        if self.method == "dopri5":
            return _torchdiffeq().odeint(velocity, start, start.new_tensor([0.0, self.time]), method="dopri5", rtol=1e-3, atol=1e-4)[-1]
        step = _euler_step if self.method == "euler" else _runge_kutta_step
        for _ in range(self.steps):
            start = step(velocity, start, self.time / self.steps)
        return start


class _Encoder(nn.Module):
    """Dropout, a linear map, the activation, dropout, and perhaps a second linear map."""

    def __init__(self, in_channels: int, width: int, *, act: str, dropout: float, input_dropout: float, second_linear: bool):
        super().__init__()
        self.act = act
        self.dropout, self.input_dropout = real(dropout, "dropout", at_least=0, below=1), real(input_dropout, "input_dropout", at_least=0, below=1)
        self.first = nn.Linear(integer(in_channels, "in_channels", at_least=1), width)
        self.second = nn.Linear(width, width) if flag(second_linear, "second_linear") else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not is_torch(x) or not x.is_floating_point():
            raise TypeError(f"x must be a floating tensor, got {getattr(x, 'dtype', type(x).__name__)}")
        if x.dim() != 2 or x.shape[1] != self.first.in_features:
            raise ValueError(f"x must have shape (nodes, {self.first.in_features}), got {tuple(x.shape)}")
        x = F.dropout(x, self.input_dropout, self.training)
        x = F.dropout(ACTIVATIONS[self.act](self.first(x)), self.dropout, self.training)
        return x if self.second is None else self.second(x)


def _euler_step(velocity, x: torch.Tensor, step: float) -> torch.Tensor:
    return x + step * velocity(0.0, x)


def _runge_kutta_step(velocity, x: torch.Tensor, step: float) -> torch.Tensor:
    first = velocity(0.0, x)
    second = velocity(0.0, x + step / 2 * first)
    third = velocity(0.0, x + step / 2 * second)
    fourth = velocity(0.0, x + step * third)
    return x + step / 6 * (first + 2 * second + 2 * third + fourth)


def _torchdiffeq():
    try:
        return importlib.import_module("torchdiffeq")
    except ModuleNotFoundError as error:
        raise MissingExtra("method 'dopri5' needs the library 'torchdiffeq', which is not installed: pip install torchdiffeq") from error
