"""The S4D kernel against simulations of the real block system, its initial spectra, its discretizations and what it refuses."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete, dlsim, lsim
from scipy.special import eval_legendre
from specimens import Specimen

from ritz.sequence import S4DKernel, s4d_init
from ritz.sequence.diagonal_recurrence import step
from ritz.sequence.hippo import normal_plus_low_rank
from ritz.sequence.s4d_kernel import DISCRETIZATIONS, INITS, REAL_TRANSFORMS

SPECIMENS = {
    "s4d_init": Specimen(s4d_init, lambda: {"init": "inv", "N": 8}),
    "S4DKernel": Specimen(
        S4DKernel,
        lambda: {
            "channels": 4,
            "d_state": 8,
            "init": "legs",
            "discretization": "bilinear",
            "real_transform": "softplus",
            "B": "hippo",
            "dt_min": 0.01,
            "dt_max": 0.5,
            "n_ssm": 2,
            "bandlimit": 0.5,
        },
        accepts={"n_ssm": ("none",), "bandlimit": ("none",)},
    ),
    "S4DKernel.forward": Specimen(lambda **arguments: S4DKernel(2, 4)(**arguments), lambda: {"L": 5, "rate": 2.0}),
    "S4DKernel.discretize": Specimen(lambda **arguments: S4DKernel(2, 4).discretize(**arguments), lambda: {"rate": 2.0}),
}


def _kernel(*arguments, seed=0, **options):
    torch.manual_seed(seed)
    return S4DKernel(*arguments, **options).double()


def _real_block_systems(kernel):
    """Per channel, the continuous system of the real and imaginary parts, (A, B, C, D), and its step."""
    A, C, dt = kernel.poles().detach().numpy(), torch.view_as_complex(kernel.C.detach()).numpy(), kernel.log_dt.exp().tolist()
    B = np.tile(torch.view_as_complex(kernel.B).detach().numpy(), (kernel.channels // len(kernel.B), 1))
    for a, b, c, step_size in zip(A, B, C, dt):
        block = np.block([[np.diag(a.real), -np.diag(a.imag)], [np.diag(a.imag), np.diag(a.real)]])
        yield (block, np.concatenate([b.real, b.imag])[:, None], 2 * np.concatenate([c.real, -c.imag])[None], np.zeros((1, 1))), step_size


def _matrix_rule(system, dt, discretization):
    A, B, *_ = system
    if discretization == "zoh":
        return cont2discrete(system, dt, "zoh")[:2]
    identity = np.eye(len(A))
    return np.linalg.solve(identity - dt / 2 * A, identity + dt / 2 * A), np.linalg.solve(identity - dt / 2 * A, dt * B)


@pytest.mark.parametrize("L", [1, 2, 63, 64, 65, 1000])
@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
@pytest.mark.parametrize("init", INITS)
def test_the_kernel_is_the_impulse_response_that_scipy_simulates(init, discretization, L):
    kernel = _kernel(2, 8, init=init, discretization=discretization)
    impulse = np.zeros(L)
    impulse[0] = 1
    for (system, dt), ours in zip(_real_block_systems(kernel), kernel(L).detach().numpy()):
        C = system[2]
        Ad, Bd = _matrix_rule(system, dt, discretization)
        _, simulated, _ = dlsim((Ad, Bd, C @ Ad, C @ Bd, dt), impulse)
        np.testing.assert_allclose(ours, simulated[:, 0], rtol=0, atol=1e-10)
        if discretization == "zoh":
            _, held, _ = lsim(system, np.append(impulse, 0), dt * np.arange(L + 1), interp=False)
            np.testing.assert_allclose(ours, np.atleast_1d(held)[1:], rtol=0, atol=1e-10)


@pytest.mark.parametrize("L", [1, 2, 63, 64, 65, 1000])
@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
@pytest.mark.parametrize("init", INITS)
def test_the_kernel_is_the_unrolled_recurrence(init, discretization, L):
    kernel = _kernel(3, 8, init=init, discretization=discretization)
    system, state = kernel.discretize(), torch.zeros(1, 3, 4, dtype=torch.complex128)
    unrolled = torch.empty(3, L, dtype=torch.float64)
    for t in range(L):
        y, state = step(system, torch.full((1, 3), float(t == 0), dtype=torch.float64), state)
        unrolled[:, t] = y[0].detach()
    torch.testing.assert_close(kernel(L).detach(), unrolled, rtol=0, atol=1e-10)


@pytest.mark.parametrize("discretization", DISCRETIZATIONS)
@pytest.mark.parametrize("real_transform", REAL_TRANSFORMS)
def test_gradients_of_all_parameters_by_finite_differences(discretization, real_transform):
    kernel = _kernel(2, 8, discretization=discretization, real_transform=real_transform, B="trainable")
    names, values = zip(*kernel.named_parameters())
    assert set(names) == {"log_dt", "A_real", "A_imag", "B", "C"}

    def length_17(*values):
        return torch.func.functional_call(kernel, dict(zip(names, values)), (17,))

    assert torch.autograd.gradcheck(length_17, tuple(value.detach().requires_grad_() for value in values))


def test_inits_are_the_formulas():
    n, N = np.arange(4), 8
    frequencies = {"lin": np.pi * n, "inv": N / np.pi * (N / (2 * n + 1) - 1), "quad": (1 + 2 * n) ** 2 / np.pi}
    for init, frequency in frequencies.items():
        A, B = s4d_init(init, N)
        np.testing.assert_allclose(A.numpy(), -0.5 + 1j * frequency, rtol=1e-15)
        assert torch.equal(B, torch.ones(4, dtype=torch.complex128))
    np.testing.assert_array_equal(s4d_init("real", N)[0].numpy(), [-1, -2, -3, -4])


@pytest.mark.parametrize("N", [2, 16, 64])
def test_inv_starts_at_its_exact_top_and_falls(N):
    frequencies = s4d_init("inv", N)[0].imag
    assert frequencies[0].item() == N * (N - 1) / math.pi or abs(frequencies[0].item() * math.pi / (N * (N - 1)) - 1) < 1e-15
    assert (frequencies > 0).all()
    assert (frequencies.diff() < 0).all()


def test_inv_is_the_asymptotic_law_of_the_top_of_the_legs_spectrum():
    for N, tolerance in ((64, 0.08), (256, 0.02), (1024, 0.005)):
        legs, inv = s4d_init("legs", N)[0].imag, s4d_init("inv", N)[0].imag
        assert (legs > 0).all()
        assert (legs.diff() > 0).all()
        np.testing.assert_allclose(legs[-3:], inv[:3].flip(0), rtol=tolerance)


def test_half_the_legs_modes_with_half_the_input_have_the_kernels_of_legs_in_the_limit():
    """Weighed by a smooth bump, the first four kernels sqrt(2n+1) exp(-t) P_n(2 exp(-t) - 1) come out of 2 Re V exp(tA) B / 2."""
    t = np.linspace(0, 6, 6001)
    bump = np.exp(-2 * (t - 1.5) ** 2)
    exact = np.array([np.sqrt(2 * n + 1) * np.exp(-t) * eval_legendre(n, 2 * np.exp(-t) - 1) for n in range(4)])

    def error(N):
        A, B = (part.numpy() for part in s4d_init("legs", N))
        V = normal_plus_low_rank("legs", N).V[:4, N // 2 :]
        ours = 2 * (V @ (np.exp(np.outer(A, t)) * (B / 2)[:, None])).real
        return np.abs(np.trapezoid((ours - exact) * bump, t)).max()

    errors = [error(N) for N in (4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] >= 0.1
    assert errors[-1] <= 1e-5


def test_rand_is_reproducible_stable_and_drawn_per_system():
    A, _ = s4d_init("rand", 16, generator=3)
    assert torch.equal(A, s4d_init("rand", 16, generator=3)[0])
    assert not torch.equal(A, s4d_init("rand", 16, generator=4)[0])
    assert (A.real < 0).all()
    assert (A.imag > 0).all()
    poles = _kernel(2, 16, init="rand").poles()
    assert not torch.equal(poles[0], poles[1])


def test_a_slow_kernel_at_twice_the_rate_is_twice_every_other_value():
    kernel = _kernel(3, 4, dt_min=1e-3, dt_max=1.1e-3)
    at_rate_2, resampled = kernel(100, rate=2.0), 2 * kernel(200)[:, ::2]
    assert (at_rate_2 - resampled).abs().max() <= 1e-2 * resampled.abs().max()


def test_exp_keeps_the_poles_in_the_left_half_plane_after_any_update():
    kernel = _kernel(2, 8).float()
    for size in (1.0, 1e2, 1e4):
        for sign in (-1, 1):
            with torch.no_grad():
                kernel.A_real.add_(sign * size * torch.rand_like(kernel.A_real))
            poles = kernel.poles()
            assert (poles.real < 0).all()
            assert torch.isfinite(kernel(100)).all()
    optimizer = torch.optim.SGD(kernel.parameters(), lr=1e3)
    for _ in range(5):
        optimizer.zero_grad()
        kernel(50).square().sum().backward()
        optimizer.step()
        assert (kernel.poles().real < 0).all()


@pytest.mark.parametrize("real_transform", REAL_TRANSFORMS)
def test_real_transforms_start_at_the_same_poles(real_transform):
    kernel = S4DKernel(2, 8, init="legs", real_transform=real_transform)
    torch.testing.assert_close(kernel.poles()[0].to(torch.complex64), s4d_init("legs", 8)[0].to(torch.complex64), rtol=1e-6, atol=0)


def test_without_a_transform_a_pole_may_cross_and_its_kernel_explodes():
    for real_transform, explodes in (("none", True), ("relu", False), ("softplus", False), ("exp", False)):
        kernel = _kernel(1, 4, real_transform=real_transform)
        with torch.no_grad():
            kernel.A_real.fill_(-0.5)
            kernel.log_dt.fill_(math.log(0.1))
        values = kernel(2000).abs()
        assert bool(values[0, -100:].max() > 1e10 * values[0, :100].max()) == explodes


@pytest.mark.parametrize("decay", [(0.5, 0.5), (-0.5, 0.5), (-0.01, -2.0)])
def test_dss_divides_each_row_of_exponentials_by_its_damped_sum(decay):
    L, kernel = 40, _kernel(1, 4, discretization="dss", real_transform="none")
    with torch.no_grad():
        kernel.A_real.copy_(torch.tensor([decay]))
    A, dt, C = kernel.poles().detach()[0], kernel.log_dt.exp().detach(), torch.view_as_complex(kernel.C.detach())[0]
    plain = torch.zeros(L, dtype=torch.float64)
    for a, c in zip(A, C):
        sign, first = (-1, L - 1) if a.real > 0 else (1, 0)
        denominator = a * (torch.exp(sign * L * dt * a) - 1)
        weight = c * (torch.exp(sign * dt * a) - 1) * denominator.conj() / (denominator.abs() ** 2 + 1e-7)
        plain += 2 * (weight * torch.exp((torch.arange(L) - first) * dt * a)).real
    torch.testing.assert_close(kernel(L).detach()[0], plain, rtol=1e-9, atol=1e-12)


def test_dss_rows_sum_to_one_over_the_pole_where_damping_does_not_matter():
    kernel = _kernel(1, 2, init="real", discretization="dss")
    with torch.no_grad():
        kernel.C.copy_(torch.tensor([[[0.5, 0.0]]]))
    assert kernel(3000).sum().item() == pytest.approx(2 * 0.5 / -1.0, rel=1e-5)


def test_dss_stays_finite_where_a_plain_exponential_overflows():
    kernel = _kernel(1, 4, discretization="dss", real_transform="none")
    with torch.no_grad():
        kernel.A_real.fill_(-50.0)
        kernel.log_dt.fill_(0.0)
    assert torch.isfinite(kernel(5000)).all()


def test_dss_has_no_recurrence():
    with pytest.raises(ValueError, match="discretization 'dss' depends on the length"):
        S4DKernel(2, 4, discretization="dss").discretize()


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
def test_only_the_products_of_b_and_c_matter(discretization):
    kernel = _kernel(2, 8, init="legs", B="hippo", discretization=discretization)
    folded = _kernel(2, 8, init="legs", B="ones", discretization=discretization)
    with torch.no_grad():
        folded.log_dt.copy_(kernel.log_dt)
        folded.C.copy_(torch.view_as_real(torch.view_as_complex(kernel.C) * torch.view_as_complex(kernel.B)))
    torch.testing.assert_close(folded(50), kernel(50))


def test_input_weights_are_fixed_or_trained():
    assert S4DKernel(2, 8).B.requires_grad is False
    assert torch.equal(torch.view_as_complex(S4DKernel(2, 8, B="trainable").B), torch.ones(2, 4, dtype=torch.complex64))
    hippo, trained = S4DKernel(2, 8, init="legs", B="hippo").B, S4DKernel(2, 8, init="legs", B="trainable").B
    assert torch.equal(hippo, trained)
    assert trained.requires_grad


def test_channels_share_systems_in_turn():
    kernel = _kernel(6, 8, init="rand", n_ssm=2)
    poles = kernel.poles()
    assert kernel.A_real.shape == (2, 4)
    assert torch.equal(poles[0::2], poles[:1].expand(3, -1))
    assert torch.equal(poles[1::2], poles[1:2].expand(3, -1))
    assert not torch.equal(poles[0], poles[1])
    assert kernel(10).shape == (6, 10)


def test_steps_are_log_uniform_between_their_bounds():
    steps = S4DKernel(4000, 2, dt_min=1e-3, dt_max=0.1).log_dt.detach()
    assert math.log(1e-3) <= steps.min()
    assert steps.max() <= math.log(0.1)
    assert steps.mean() == pytest.approx(math.log(1e-2), abs=0.1)
    assert steps.std() == pytest.approx(math.log(100) / math.sqrt(12), abs=0.05)


def test_c_is_complex_normal_of_variance_one():
    C = torch.view_as_complex(_kernel(500, 64).C.detach())
    assert C.abs().square().mean() == pytest.approx(1, abs=0.03)
    assert C.real.var() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rate", [1.0, 3.0])
def test_a_band_limit_silences_fast_modes_whatever_the_rate(rate):
    limited, full = _kernel(1, 8, bandlimit=0.5), _kernel(1, 8)
    with torch.no_grad():
        for kernel in (limited, full):
            kernel.log_dt.fill_(math.log(0.2))  # modes of 0, 0.1, 0.2 and 0.3 cycles per sample, the last above half the limit
        assert not torch.allclose(limited(20, rate), full(20, rate))
        torch.view_as_complex(full.C)[:, 3] = 0
        torch.testing.assert_close(limited(20, rate), full(20, rate))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_parameters_are_upcast(dtype):
    kernel = S4DKernel(2, 8).to(dtype)
    values = kernel(100)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, kernel.float()(100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_state": 7}, "d_state must be even"),
        ({"d_state": 0}, "d_state must be an integer of at least 2"),
        ({"d_state": -2}, "d_state must be an integer of at least 2"),
        ({"dt_min": 0.1, "dt_max": 0.1}, "dt_max must be a finite number above 0.1"),
        ({"dt_min": 0.2, "dt_max": 0.1}, "dt_max must be a finite number above 0.2"),
        ({"dt_min": 0.0}, "dt_min must be a finite number above 0"),
        ({"n_ssm": 3}, "n_ssm must divide the number of channels, 4"),
        ({"n_ssm": 8}, "n_ssm must be an integer of at least 1 and at most 4"),
        ({"B": "hippo"}, "B must be 'ones' or 'trainable' where init is 'lin'"),
        ({"bandlimit": 0.0}, "bandlimit must be a finite number above 0"),
    ],
)
def test_options_without_meaning_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        S4DKernel(4, **options)


@pytest.mark.parametrize("L", [0, -1])
def test_a_length_below_one_is_refused(L):
    with pytest.raises(ValueError, match="L must be an integer of at least 1"):
        S4DKernel(2, 4)(L)
