"""The convolution kernel of S4D: a diagonal state-space model per channel, its initialization and its discretization.

Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal State Space Models", NeurIPS 2022, arXiv:2206.11893, sections 3-4.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ritz.core import choice, integer, positive, real, torch_generator
from ritz.sequence.diagonal_recurrence import DiagonalSystem
from ritz.sequence.discretization import bilinear, expm1, zero_order_hold
from ritz.sequence.hippo import normal_plus_low_rank
from ritz.sequence.vandermonde import mode_sum

INITS = ("lin", "inv", "legs", "quad", "real", "rand")
DISCRETIZATIONS = ("zoh", "bilinear", "dss")
REAL_TRANSFORMS = ("exp", "relu", "softplus", "none")
INPUT_WEIGHTS = ("ones", "hippo", "trainable")
LOG_DECAY_LIMIT = 80.0  # exp(-80) and exp(80) are still ordinary numbers in single precision, and far beyond any useful decay


def s4d_init(init: str, N: int, *, generator: torch.Generator | int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the initial poles A and input weights B of a diagonal state-space model.

    Parameters
    ----------
    init : {"lin", "inv", "legs", "quad", "real", "rand"}
        With n = 0..N/2-1:

        - "lin": A_n = -1/2 + i pi n, the frequencies of a Fourier basis;
        - "inv": A_n = -1/2 + i (N/pi) (N/(2n+1) - 1), the asymptotic law of the LegS spectrum, from high to low;
        - "legs": the eigenvalues with positive imaginary part of the normal part of HiPPO-LegS, from low to high;
        - "quad": A_n = -1/2 + i (1+2n)^2 / pi;
        - "real": A_n = -(n+1);
        - "rand": A_n = -exp(g) + i exp(h) with g, h standard normal.
    N : int
        State size, even and at least 2: N/2 complex modes whose conjugates are implied.
    generator : torch.Generator, int or None
        Source of randomness for "rand".

    Returns
    -------
    A, B : torch.Tensor, shape (N/2,)
        complex128. B is one, and V^* B of HiPPO-LegS for "legs".

    Raises
    ------
    TypeError, ValueError
        If init is none of these, or N is odd or less than 2.

    Notes
    -----
    As N grows, the system (A, B/2) of "legs" has the transfer function and the kernel of HiPPO-LegS itself (a theorem of the paper); like the paper's
    experiments, this function leaves out the factor 1/2, which C absorbs.
    Cost O(N), and O(N^3) for "legs".

    References
    ----------
    Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal State Space Models", NeurIPS 2022, arXiv:2206.11893, section 4.

    Examples
    --------
    >>> A, B = s4d_init("lin", 6)
    >>> A.imag / math.pi
    tensor([0., 1., 2.], dtype=torch.float64)
    """
    choice(init, "init", INITS)
    modes = _modes(N, "N")
    if init == "legs":
        eigenvalues, _, B, _ = normal_plus_low_rank("legs", N)
        return torch.from_numpy(eigenvalues[modes:]), torch.from_numpy(B[modes:])
    if init == "rand":
        generator = torch_generator(generator)
        decay, frequency = torch.randn(2, modes, dtype=torch.float64, generator=generator).exp()
        return torch.complex(-decay, frequency), torch.ones(modes, dtype=torch.complex128)
    n = np.arange(modes)
    decay = n + 1.0 if init == "real" else np.full(modes, 0.5)
    frequency = {"lin": np.pi * n, "inv": N / np.pi * (N / (2 * n + 1) - 1), "quad": (1 + 2 * n) ** 2 / np.pi, "real": 0 * n}[init]
    return torch.from_numpy(-decay + 1j * frequency), torch.ones(modes, dtype=torch.complex128)


class S4DKernel(nn.Module):
    """Convolution kernels K_l = 2 Re sum_n C_n Bb_n Ab_n^l of independent diagonal state-space models x' = A x + B u, y = 2 Re C x, one per channel.

    Parameters
    ----------
    channels : int
        Number of kernels.
    d_state : int
        State size N per channel, even: N/2 complex modes.
    init : {"lin", "inv", "legs", "quad", "real", "rand"}
        Poles at the start, see `s4d_init`; "rand" draws each of the `n_ssm` systems separately. All poles are trained, real and imaginary parts.
    discretization : {"zoh", "bilinear", "dss"}
        Zero-order hold, Tustin's rule, or the normalization over the whole length of DSS-softmax: C_n (e^{dtA} - 1) / (A (e^{L dtA} - 1)) e^{l dtA},
        for which no recurrence exists, since it depends on L.
    real_transform : {"exp", "relu", "softplus", "none"}
        How a trained number a gives Re A = -transform(a). "exp" and "softplus" keep Re A < 0; with "none" kernels may explode.
    B : {"ones", "hippo", "trainable"}
        Input weights: fixed at one; fixed at V^* B of HiPPO-LegS, for init "legs" only; or trained from the start that `s4d_init` gives.
        Only the products B_n C_n matter to what a kernel can be.
    dt_min, dt_max : float
        Bounds of the steps at the start, log-uniform per channel, 0 < dt_min < dt_max. 1/dt is a time scale in samples.
    n_ssm : int, optional
        Number of different (A, B), shared by channels in turn; must divide `channels`. Default: one per channel.
    bandlimit : float, optional
        Silence modes whose frequency dt |Im A| / (2 pi), in cycles per sample at rate 1 whatever the rate asked for, reaches bandlimit / 2:
        1 is the Nyquist frequency.

    Attributes
    ----------
    log_dt, A_real, A_imag, B, C : torch.nn.Parameter or buffer
        log dt (channels,); a and Im A (n_ssm, N/2); B (n_ssm, N/2, 2) and C (channels, N/2, 2) as real and imaginary parts.

    Raises
    ------
    TypeError, ValueError
        If an option is none of the above, d_state is odd, dt_min >= dt_max, or n_ssm does not divide channels.

    Notes
    -----
    Parameters are drawn from torch's global generator. The discretization is computed in double precision whatever the parameters' dtype.
    Calling the module costs O(d_state L) multiply-adds per channel in memory O(d_state sqrt(L) + L).
    The authors' code leaves out the factor 2 for DSS; here it is there, as for the others (C absorbs it).

    References
    ----------
    Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal State Space Models", NeurIPS 2022, arXiv:2206.11893, sections 3-4.

    Examples
    --------
    >>> kernel = S4DKernel(3, d_state=8, init="inv")
    >>> kernel(100).shape
    torch.Size([3, 100])
    """

    def __init__(
        self,
        channels: int,
        d_state: int = 64,
        *,
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
        self.channels = integer(channels, "channels", at_least=1)
        self.d_state = 2 * _modes(d_state, "d_state")
        self.discretization = choice(discretization, "discretization", DISCRETIZATIONS)
        self.real_transform = choice(real_transform, "real_transform", REAL_TRANSFORMS)
        self.bandlimit = None if bandlimit is None else positive(bandlimit, "bandlimit")
        copies = _copies(n_ssm, self.channels)
        A, initial_B = _initial_systems(choice(init, "init", INITS), self.d_state, copies, choice(B, "B", INPUT_WEIGHTS))
        low, high = math.log(positive(dt_min, "dt_min")), math.log(real(dt_max, "dt_max", above=dt_min))
        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(self.channels))
        self.A_real = nn.Parameter(_inverse_transform(-A.real, self.real_transform).float())
        self.A_imag = nn.Parameter(A.imag.float())
        initial_B = torch.view_as_real(initial_B).float()
        if B == "trainable":
            self.B = nn.Parameter(initial_B)
        else:
            self.register_buffer("B", initial_B)
        self.C = nn.Parameter(torch.randn(self.channels, self.d_state // 2, 2) * math.sqrt(0.5))

    def forward(self, L: int, rate: float = 1.0) -> torch.Tensor:
        """Return the kernels of length L, (channels, L), in the parameters' dtype (at least float32).

        Parameters
        ----------
        L : int
            Length, at least 1.
        rate : float
            Steps are multiplied by it: 2 gives the kernel for a signal sampled half as often.
        """
        L, rate = integer(L, "L", at_least=1), positive(rate, "rate")
        dtype = torch.promote_types(self.C.dtype, torch.float32)
        if self.discretization == "dss":
            return self._softmax_kernel(L, rate, dtype)
        log_Ab, Bb, C = self.discretize(rate)
        return mode_sum(C * Bb, log_Ab, L, dtype)

    def discretize(self, rate: float = 1.0) -> DiagonalSystem:
        """Return log Ab, Bb and C, complex128 of shape (channels, d_state / 2), of the recurrence x_k = Ab x_{k-1} + Bb u_k, y_k = 2 Re sum C x_k.

        Raises
        ------
        ValueError
            If the discretization is "dss", which has none.
        """
        if self.discretization == "dss":
            raise ValueError("discretization 'dss' depends on the length of the sequence: it has no recurrence, and so no state")
        A, B, C, dt = self._continuous_system(positive(rate, "rate"))
        log_Ab, Bb = (zero_order_hold if self.discretization == "zoh" else bilinear)(A, B, dt)
        return DiagonalSystem(log_Ab, Bb, C)

    def poles(self) -> torch.Tensor:
        """Return A, complex128 of shape (channels, d_state / 2)."""
        decay = _transform(self.A_real.double(), self.real_transform)
        return self._per_channel(torch.complex(-decay, self.A_imag.double()))

    def ssm_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that want a small learning rate and no weight decay: log dt, A and a trained B."""
        return [self.log_dt, self.A_real, self.A_imag] + ([self.B] if isinstance(self.B, nn.Parameter) else [])

    def _continuous_system(self, rate: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """A, B, C (channels, modes) and dt (channels, 1)."""
        A, dt = self.poles(), self.log_dt.double().exp().unsqueeze(-1)
        B, C = self._per_channel(torch.view_as_complex(self.B.double())), torch.view_as_complex(self.C.double())
        if self.bandlimit is not None:
            C = torch.where(dt * A.imag.abs() / (2 * math.pi) < self.bandlimit / 2, C, 0)
        return A, B, C, rate * dt

    def _per_channel(self, systems: torch.Tensor) -> torch.Tensor:
        return systems.repeat(self.channels // systems.shape[0], 1)

    def _softmax_kernel(self, L: int, rate: float, dtype: torch.dtype) -> torch.Tensor:
        """The row-normalized kernel of DSS. Modes with Re A > 0 are counted from the far end, so that their exponentials fall from lag L-1 to 0."""
        A, B, C, dt = self._continuous_system(rate)
        growing = A.real > 0
        falling = torch.where(growing, -dt * A, dt * A)
        weights = B * C * expm1(falling) * _damped_reciprocal(A * expm1(L * falling))
        kernel = mode_sum(torch.where(growing, 0, weights), falling, L, dtype)
        if bool(growing.any()):
            kernel = kernel + mode_sum(torch.where(growing, weights, 0), falling, L, dtype).flip(-1)
        return kernel


def _modes(d_state: int, name: str) -> int:
    d_state = integer(d_state, name, at_least=2)
    if d_state % 2:
        raise ValueError(f"{name} must be even, since modes come in conjugate pairs, got {d_state}")
    return d_state // 2


def _copies(n_ssm: int | None, channels: int) -> int:
    copies = channels if n_ssm is None else integer(n_ssm, "n_ssm", at_least=1, at_most=channels)
    if channels % copies:
        raise ValueError(f"n_ssm must divide the number of channels, {channels}, got {copies}")
    return copies


def _initial_systems(init: str, d_state: int, copies: int, input_weights: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of each copy, complex128 (copies, modes); the global generator seeds the random ones."""
    if input_weights == "hippo" and init != "legs":
        raise ValueError(f"B must be 'ones' or 'trainable' where init is '{init}': 'hippo' are the input weights of init 'legs'")
    if init == "rand":
        seed = int(torch.randint(2**62, ()))
        generator = torch_generator(seed)
        systems = [s4d_init(init, d_state, generator=generator) for _ in range(copies)]
        A, B = (torch.stack(parts) for parts in zip(*systems))
    else:
        A, B = (part.repeat(copies, 1) for part in s4d_init(init, d_state))
    return A, torch.ones_like(B) if input_weights == "ones" else B


def _transform(a: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == "exp":
        return a.clamp(-LOG_DECAY_LIMIT, LOG_DECAY_LIMIT).exp()
    return {"relu": nn.functional.relu, "softplus": nn.functional.softplus, "none": lambda a: a}[kind](a)


def _inverse_transform(decay: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == "exp":
        return decay.log()
    return decay + torch.log(-torch.expm1(-decay)) if kind == "softplus" else decay


def _damped_reciprocal(x: torch.Tensor) -> torch.Tensor:
    """1 / x, held finite near zero as in DSS."""
    return x.conj() / (x.real**2 + x.imag**2 + 1e-7)
