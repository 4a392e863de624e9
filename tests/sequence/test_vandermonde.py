"""The blocked Vandermonde kernel equals the plain sum over modes, in value, gradient and at every length; its memory grows as sqrt(L)."""

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.sequence import vandermonde_kernel
from ritz.sequence.vandermonde import powers


def _modes(*shape, dtype=torch.complex128):
    rng = np.random.default_rng(shape[-1])
    C = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    poles = -rng.uniform(1e-3, 0.3, shape) + 1j * rng.uniform(-3, 3, shape)
    return torch.from_numpy(C).to(dtype), torch.from_numpy(poles).to(dtype)


def _plain(C, dtA, L):
    return 2 * (C.unsqueeze(-1) * torch.exp(dtA.unsqueeze(-1) * torch.arange(L))).sum(-2).real


SPECIMENS = {
    "vandermonde_kernel": Specimen(
        vandermonde_kernel,
        lambda: dict(zip(("C", "dtA"), _modes(3, 4)), L=17),
        accepts={"C": ("more dimensions",), "dtA": ("more dimensions",)},
    ),
}


@pytest.mark.parametrize("L", [1, 2, 3, 63, 64, 65, 1000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex128, 1e-10), (torch.complex64, 1e-4)])
def test_it_is_the_sum_over_modes(L, dtype, tolerance):
    C, dtA = _modes(3, 8, dtype=dtype)
    plain = _plain(C.to(torch.complex128), dtA.to(torch.complex128), L)
    kernel = vandermonde_kernel(C, dtA, L)
    assert kernel.dtype == dtype.to_real()
    assert (kernel - plain).abs().max() <= tolerance * plain.abs().max()


def test_gradient_by_finite_differences_at_eight_modes_and_length_17():
    C, dtA = (mode.requires_grad_() for mode in _modes(2, 8))
    assert torch.autograd.gradcheck(lambda C, dtA: vandermonde_kernel(C, dtA, 17), (C, dtA))


@pytest.mark.parametrize("L", [1, 2, 63, 65, 1000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex128, 1e-10), (torch.complex64, 1e-4)])
def test_gradients_are_those_of_the_sum_over_modes(L, dtype, tolerance):
    weight = torch.from_numpy(np.random.default_rng(L).standard_normal((3, L)))
    fast, plain = (tuple(mode.to(kind).requires_grad_() for mode in _modes(3, 8)) for kind in (dtype, torch.complex128))
    (vandermonde_kernel(*fast, L) * weight).sum().backward()
    (_plain(*plain, L) * weight).sum().backward()
    for ours, exact in zip(fast, plain):
        assert ours.grad.dtype == dtype
        assert (ours.grad - exact.grad).abs().max() <= tolerance * exact.grad.abs().max().clamp(min=1)


def test_leading_shapes_broadcast_and_gradients_fold_back():
    C, dtA = _modes(5, 3, 4)[0].requires_grad_(), _modes(3, 4)[1].requires_grad_()
    torch.testing.assert_close(vandermonde_kernel(C, dtA, 9), _plain(C, dtA, 9))
    assert torch.autograd.gradcheck(lambda C, dtA: vandermonde_kernel(C, dtA, 9), (C, dtA))


def test_real_arguments_are_real_exponentials():
    kernel = vandermonde_kernel(torch.tensor([1.0, 2.0]), torch.tensor([0.0, -1.0]), 3)
    torch.testing.assert_close(kernel, 2 * (1 + 2 * torch.exp(-torch.arange(3.0))))


def test_single_precision_keeps_the_phase_of_fast_modes_far_out():
    dtA = torch.tensor([-1e-6 + 130.0j], dtype=torch.complex64)
    exact = _plain(torch.ones(1, dtype=torch.complex128), dtA.to(torch.complex128), 16384)
    ours = vandermonde_kernel(torch.ones(1, dtype=torch.complex64), dtA, 16384)
    assert (ours - exact).abs().max() <= 1e-5


def test_powers_are_exponentials_of_multiples():
    z = torch.tensor([-0.1 + 2j, 0j], dtype=torch.complex128)
    for count in (1, 2, 5, 8):
        torch.testing.assert_close(powers(z, count), torch.exp(z.unsqueeze(-1) * torch.arange(count)), rtol=1e-13, atol=0)


def test_shapes_that_do_not_broadcast_are_refused_by_name():
    with pytest.raises(ValueError, match=r"dtA must have a shape that broadcasts with that of C, \(3, 4\)"):
        vandermonde_kernel(_modes(3, 4)[0], _modes(2, 4)[1], 5)
    with pytest.raises(TypeError, match="C must be a torch tensor"):
        vandermonde_kernel(np.ones(3), _modes(3)[1], 5)
    with pytest.raises(ValueError, match="L must be an integer of at least 1, got 0"):
        vandermonde_kernel(*_modes(3), 0)
