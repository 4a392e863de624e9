"""The least p-norm over a hyperplane: against a general solver, and its certificate."""

import numpy as np
import pytest
import scipy.optimize

from ritz.linalg.least_p_norm import least_p_norms

RNG = np.random.default_rng(0)
Q = np.linalg.qr(RNG.standard_normal((120, 4)) * (1 + RNG.pareto(1.5, 120))[:, None])[0]


@pytest.mark.parametrize("p", [1, 1.1, 1.5, 2, 3, 4, 7.5, 30])
def test_it_is_the_minimum_with_a_closed_gap(p):
    normals = np.vstack([Q[:5], RNG.standard_normal((2, 4))])
    found = least_p_norms(Q, normals, p, 1e-9, 1000)
    assert np.all(found.gaps <= 1e-7 if p == 1 else found.gaps <= 1e-9)
    np.testing.assert_allclose(np.sum(normals * found.z, axis=1), 1, atol=1e-10)
    np.testing.assert_allclose(found.log_norms, np.log(np.linalg.norm(Q @ found.z.T, ord=None if p == 2 else p, axis=0)), atol=1e-10)
    for q, z, log_norm in zip(normals, found.z, found.log_norms):
        free = np.linalg.svd(q[None])[2][1:].T  # directions within the hyperplane
        peer = scipy.optimize.minimize(lambda y: np.log(np.linalg.norm(Q @ (z + free @ y), p)), np.zeros(3), method="Nelder-Mead")  # noqa: B023
        assert peer.fun >= log_norm - 1e-7


@pytest.mark.parametrize("p", [1.5, 4])
@pytest.mark.parametrize("scale", [1e-120, 1e120])
def test_the_scale_of_the_normal_does_not_matter(p, scale):
    plain, scaled = (least_p_norms(Q, factor * Q[:3], p, 1e-8, 1000) for factor in (1.0, scale))
    np.testing.assert_allclose(scaled.log_norms, plain.log_norms - np.log(scale), atol=1e-7)


def test_too_few_steps_leave_a_gap():
    found = least_p_norms(Q, Q[:3], 6, 1e-12, 1)
    assert np.all(found.iterations == 1)
    assert np.all(found.gaps > 1e-12)
