"""Discretization of diagonal systems: against matrix rules of SciPy, at A = 0, and their derivatives there."""

import cmath

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete

from ritz.sequence.discretization import bilinear, expm1, relative_growth, zero_order_hold

POLES = torch.tensor([-0.5 + 3j, -2.0 + 0j, -0.1 + 40j], dtype=torch.complex128)
WEIGHTS = torch.tensor([1.0 + 0j, 2 - 1j, 0.5j], dtype=torch.complex128)
DT = torch.tensor(0.05, dtype=torch.float64)


def test_zero_order_hold_is_that_of_scipy():
    log_Ab, Bb = zero_order_hold(POLES, WEIGHTS, DT)
    for pole, weight, log_a, b in zip(POLES.tolist(), WEIGHTS.tolist(), log_Ab.tolist(), Bb.tolist()):
        A = np.array([[pole.real, -pole.imag], [pole.imag, pole.real]])
        Ad, Bd, *_ = cont2discrete((A, np.array([[weight.real], [weight.imag]]), np.eye(2), np.zeros((2, 1))), float(DT), "zoh")
        np.testing.assert_allclose(cmath.exp(log_a), complex(Ad[0, 0], Ad[1, 0]), rtol=1e-13)
        np.testing.assert_allclose(b, complex(*Bd[:, 0]), rtol=1e-12)


def test_bilinear_is_tustins_rule():
    log_Ab, Bb = bilinear(POLES, WEIGHTS, DT)
    half = DT * POLES / 2
    torch.testing.assert_close(log_Ab.exp(), (1 + half) / (1 - half), rtol=1e-13, atol=0)
    torch.testing.assert_close(Bb, DT * WEIGHTS / (1 - half), rtol=1e-13, atol=0)


def test_bilinear_survives_the_pole_that_it_maps_to_zero():
    log_Ab, Bb = bilinear(torch.tensor([-2.0 + 0j]), torch.ones(1, dtype=torch.complex64), torch.tensor(1.0))
    assert torch.isfinite(torch.view_as_real(log_Ab)).all()
    assert log_Ab.exp().abs() < 1e-30
    assert Bb == 0.5


@pytest.mark.parametrize("rule", [zero_order_hold, bilinear])
def test_a_pole_at_zero_integrates(rule):
    log_Ab, Bb = rule(torch.zeros(1, dtype=torch.complex128), torch.ones(1, dtype=torch.complex128), DT)
    assert log_Ab == 0
    assert Bb.item() == pytest.approx(0.05, rel=1e-15)


@pytest.mark.parametrize("rule", [zero_order_hold, bilinear])
@pytest.mark.parametrize("pole", [0j, 1e-9 + 0j, -0.05 + 0.02j, -0.5 + 30j])
def test_the_rules_are_differentiable_also_at_zero(rule, pole):
    A, B = torch.tensor([pole], requires_grad=True, dtype=torch.complex128), torch.ones(1, dtype=torch.complex128)
    assert torch.autograd.gradcheck(lambda A, dt: torch.view_as_real(torch.stack(rule(A, B, dt))), (A, DT.clone().requires_grad_()))


def test_growth_keeps_its_digits_on_both_sides_of_the_series():
    for size in (1e-300, 1e-12, 0.00999, 0.01001, 3.0):
        z = size * cmath.exp(0.7j)
        series, term = 0, 1
        for k in range(1, 60):
            series, term = series + term, term * z / (k + 1)
        assert relative_growth(torch.tensor(z, dtype=torch.complex128)).item() == pytest.approx(series, rel=1e-14)


def test_expm1_does_not_cancel():
    z = 1e-9 * cmath.exp(1j)
    assert expm1(torch.tensor(z, dtype=torch.complex128)).item() == pytest.approx(z + z * z / 2, rel=1e-14)
    assert expm1(torch.tensor(1e-9, dtype=torch.float64)).item() == pytest.approx(1e-9 + 5e-19, rel=1e-14)
