"""S4D: a long-convolution layer whose kernel is a diagonal state-space model, and a classifier made of it.

Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal State Space Models", NeurIPS 2022, arXiv:2206.11893, sections 3-5.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ritz.core import flag, integer, real
from ritz.sequence.convolution import causal_convolution, two_sided_convolution
from ritz.sequence.diagonal_recurrence import run, step
from ritz.sequence.layout import complex_state, sequence, sequence_item
from ritz.sequence.parameter_groups import parameter_groups
from ritz.sequence.s4d_kernel import S4DKernel


class S4D(nn.Module):
    """The S4D layer: y = GLU(W dropout(GELU(K * u + D u))), K an `S4DKernel` of one channel per feature. Residual and norm belong around it.

    Parameters
    ----------
    d_model : int
        Number of features D.
    d_state : int
        State size N per feature, even.
    dropout : float
        Probability of dropping an activation, in [0, 1).
    bidirectional : bool
        Add a second kernel that looks at the future: its lag-j value weighs the input j + 1 steps ahead.
    init, discretization, real_transform, B, dt_min, dt_max, n_ssm, bandlimit
        Options of `S4DKernel`.

    Raises
    ------
    TypeError, ValueError
        If an option is not as described here or in `S4DKernel`.

    Notes
    -----
    `forward` convolves by FFT in O(L log L); its outputs are causal up to rounding. Given a state, `forward` runs the recurrence chunk by chunk,
    and `step` one sample at a time; those are causal to the last bit. All three agree.
    Half-precision input or parameters are convolved in float32.
    Recommended training: AdamW with learning rate 1e-2 and the groups of `param_groups`.

    References
    ----------
    Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal State Space Models", NeurIPS 2022, arXiv:2206.11893, section 5.

    Examples
    --------
    >>> layer = S4D(4, d_state=16)
    >>> x = torch.randn(2, 100, 4)
    >>> y = layer(x)
    >>> y.shape
    torch.Size([2, 100, 4])
    >>> first, state = layer(x[:, :70], layer.default_state(2))
    >>> second, state = layer(x[:, 70:], state)
    >>> torch.allclose(torch.cat([first, second], dim=1), y, atol=1e-5)
    True
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        dropout: float = 0.0,
        bidirectional: bool = False,
        init: str = "lin",
        discretization: str = "zoh",
        real_transform: str = "exp",
        B: str = "ones",
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        n_ssm: int | None = None,
        bandlimit: float | None = None,
    ):
        super().__init__()
        self.d_model = integer(d_model, "d_model", at_least=1)
        kernels = [
            S4DKernel(
                self.d_model,
                d_state,
                init=init,
                discretization=discretization,
                real_transform=real_transform,
                B=B,
                dt_min=dt_min,
                dt_max=dt_max,
                n_ssm=n_ssm,
                bandlimit=bandlimit,
            )
            for _ in range(2 if flag(bidirectional, "bidirectional") else 1)
        ]
        self.kernel = kernels[0]
        self.reverse_kernel = kernels[1] if bidirectional else None
        self.D = nn.Parameter(torch.randn(self.d_model))
        self.dropout = nn.Dropout(real(dropout, "dropout", at_least=0, below=1))
        self.output = nn.Linear(self.d_model, 2 * self.d_model)

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Map a sequence to one of the same shape.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, length, d_model)
            Real floating; not checked for NaN.
        state : torch.Tensor, shape (batch, d_model, d_state / 2), optional
            Where an earlier piece of the sequence ended; begin with `default_state`.

        Returns
        -------
        y : torch.Tensor, shape (batch, length, d_model)
            In the dtype of x.
        state : torch.Tensor
            Only if a state was given: the state after the last sample.
        """
        u = self._upcast(sequence(x, self.d_model)).transpose(1, 2).contiguous()
        if state is None:
            return self._mix(self._convolve(u).transpose(1, 2).contiguous(), x)
        y, state = run(self._recurrence(), u, self._checked_state(state, len(x)))
        return self._mix((y + self.D.to(u.dtype).unsqueeze(-1) * u).transpose(1, 2), x), state

    def step(self, x_t: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map one sample (batch, d_model) and a state to the output (batch, d_model) and the next state, in O(d_model d_state) per sequence."""
        u = self._upcast(sequence_item(x_t, self.d_model))
        y, state = step(self._recurrence(), u, self._checked_state(state, len(x_t)))
        return self._mix(y + self.D.to(u.dtype) * u, x_t), state

    def default_state(self, batch_size: int) -> torch.Tensor:
        """Return the state before the first sample: complex zeros (batch_size, d_model, d_state / 2) on the parameters' device."""
        shape = (integer(batch_size, "batch_size", at_least=1), self.d_model, self.kernel.d_state // 2)
        return torch.zeros(shape, dtype=torch.promote_types(self.D.dtype, torch.complex64), device=self.D.device)

    def param_groups(self, weight_decay: float = 0.01, ssm_lr: float = 1e-3) -> list[dict[str, object]]:
        """Return groups for a torch optimizer: log dt, A and B with learning rate `ssm_lr` and no decay; all else with `weight_decay`."""
        return parameter_groups(self, weight_decay, ssm_lr)

    def _convolve(self, u: torch.Tensor) -> torch.Tensor:
        """K * u + D u over the last axis; D u is lag 0 of the kernel."""
        kernel = self.kernel(u.shape[-1]).to(u.dtype)
        kernel = torch.cat([kernel[:, :1] + self.D.to(u.dtype).unsqueeze(-1), kernel[:, 1:]], dim=-1)
        if self.reverse_kernel is None:
            return causal_convolution(u, kernel)
        return two_sided_convolution(u, kernel, self.reverse_kernel(u.shape[-1]).to(u.dtype))

    def _mix(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        activations = self.dropout(functional.gelu(y)).to(self.output.weight.dtype)
        return functional.glu(self.output(activations), dim=-1).to(x.dtype)

    def _recurrence(self):
        if self.reverse_kernel is not None:
            raise ValueError("bidirectional layers see the future: they have no state and no step")
        return self.kernel.discretize()

    def _upcast(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.promote_types(self.D.dtype, torch.float32))

    def _checked_state(self, state: torch.Tensor, batch_size: int) -> torch.Tensor:
        expected = (batch_size, self.d_model, self.kernel.d_state // 2)
        return complex_state(state, expected).to(torch.promote_types(self.D.dtype, torch.complex64))


class S4DClassifier(nn.Module):
    """Sequence classifier: linear encoder, residual S4D blocks with layer norm, mean over time, linear decoder.

    Parameters
    ----------
    d_input, d_output : int
        Features per sample, and classes (or targets).
    d_model : int
        Width.
    n_layers : int
        Number of blocks.
    prenorm : bool
        Normalize what enters a block rather than the sum that leaves it.
    dropout : float
        Inside each layer and on its output, in [0, 1).
    d_state, bidirectional, init, discretization, real_transform, B, dt_min, dt_max, n_ssm, bandlimit
        Options of `S4D` and `S4DKernel`.

    Raises
    ------
    TypeError, ValueError
        If an option is not as described here, in `S4D` or in `S4DKernel`.

    References
    ----------
    Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal State Space Models", NeurIPS 2022, arXiv:2206.11893, section 5.

    Examples
    --------
    >>> model = S4DClassifier(1, 10, d_model=16, n_layers=2, d_state=16)
    >>> optimizer = torch.optim.AdamW(model.param_groups(), lr=1e-2)
    >>> model(torch.randn(3, 256, 1)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        d_input: int,
        d_output: int,
        d_model: int = 128,
        n_layers: int = 4,
        *,
        prenorm: bool = False,
        dropout: float = 0.0,
        d_state: int = 64,
        bidirectional: bool = False,
        init: str = "lin",
        discretization: str = "zoh",
        real_transform: str = "exp",
        B: str = "ones",
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        n_ssm: int | None = None,
        bandlimit: float | None = None,
    ):
        super().__init__()
        self.d_input, d_output = integer(d_input, "d_input", at_least=1), integer(d_output, "d_output", at_least=1)
        d_model, n_layers = integer(d_model, "d_model", at_least=1), integer(n_layers, "n_layers", at_least=1)
        self.prenorm = flag(prenorm, "prenorm")
        self.layers = nn.ModuleList(
            S4D(
                d_model,
                d_state,
                dropout=dropout,
                bidirectional=bidirectional,
                init=init,
                discretization=discretization,
                real_transform=real_transform,
                B=B,
                dt_min=dt_min,
                dt_max=dt_max,
                n_ssm=n_ssm,
                bandlimit=bandlimit,
            )
            for _ in range(n_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(n_layers))
        self.dropout = nn.Dropout(dropout)
        self.encoder, self.decoder = nn.Linear(self.d_input, d_model), nn.Linear(d_model, d_output)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map sequences (batch, length, d_input) to scores (batch, d_output)."""
        x = self.encoder(sequence(x, self.d_input).to(self.encoder.weight.dtype))
        for layer, norm in zip(self.layers, self.norms):
            x = x + self.dropout(layer(norm(x))) if self.prenorm else norm(x + self.dropout(layer(x)))
        return self.decoder(x.mean(dim=1))

    def param_groups(self, weight_decay: float = 0.01, ssm_lr: float = 1e-3) -> list[dict[str, object]]:
        """Return groups for a torch optimizer: log dt, A and B with learning rate `ssm_lr` and no decay; all else with `weight_decay`."""
        return parameter_groups(self, weight_decay, ssm_lr)
