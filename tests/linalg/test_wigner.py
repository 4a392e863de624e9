"""Wigner's matrices: rotations act on harmonics, and the matrices are a representation."""

import numpy as np
import pytest
import scipy.spatial.transform
import torch
from specimens import Specimen

from ritz.linalg import real_spherical_harmonics, wigner_d_real

ROTATIONS = scipy.spatial.transform.Rotation.random(4, random_state=0).as_matrix()
EXACT = [np.diag(d).astype(float) for d in ([1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1])]
EXACT += [np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])]

SPECIMENS = {
    "wigner_d_real": Specimen(
        wigner_d_real, lambda: {"l_max": 2, "rotation": ROTATIONS[0].copy(), "convention": "physics"}, accepts={"rotation": ("more dimensions",)}
    )
}


@pytest.mark.parametrize("convention", ["e3nn", "physics"])
@pytest.mark.parametrize("rotation", [*ROTATIONS, *EXACT])
def test_harmonics_at_a_turned_point_are_turned(rotation, convention):
    u = np.random.default_rng(0).standard_normal((7, 3))
    D = wigner_d_real(10, rotation, convention=convention)
    turned = real_spherical_harmonics(10, u @ rotation.T, convention=convention)
    np.testing.assert_allclose(turned, real_spherical_harmonics(10, u, convention=convention) @ D.T, atol=1e-12)
    np.testing.assert_allclose(D @ D.T, np.eye(121), atol=1e-12)


def test_representation_and_degree_one():
    R, S = ROTATIONS[:2]
    np.testing.assert_allclose(wigner_d_real(6, R @ S), wigner_d_real(6, R) @ wigner_d_real(6, S), atol=1e-13)
    np.testing.assert_allclose(wigner_d_real(1, R)[1:, 1:], R, atol=1e-14)
    np.testing.assert_allclose(wigner_d_real(3, R.T), wigner_d_real(3, R).T, atol=1e-14)


def test_nearly_at_the_pole():
    for angle in (1e-300, 1e-12, np.pi - 1e-9):
        R = scipy.spatial.transform.Rotation.from_euler("xyx", [angle, 0.3, 0.0]).as_matrix()
        D = wigner_d_real(5, R)
        u = np.array([[0.3, 0.4, -0.2]])
        np.testing.assert_allclose(real_spherical_harmonics(5, u @ R.T), real_spherical_harmonics(5, u) @ D.T, atol=1e-13)


def test_batches_and_torch():
    D = wigner_d_real(3, torch.from_numpy(ROTATIONS))
    assert D.shape == (4, 16, 16)
    np.testing.assert_allclose(D[2], wigner_d_real(3, ROTATIONS[2]), atol=1e-15)
    assert wigner_d_real(2, torch.from_numpy(ROTATIONS).float()).dtype == torch.float32
    assert wigner_d_real(2, ROTATIONS[:0]).shape == (0, 9, 9)


@pytest.mark.parametrize(
    ("rotation", "message"),
    [
        (2 * np.eye(3), "rotation must hold rotations"),
        (-np.eye(3), "determinant is negative"),
        (np.eye(2), r"rotation must have shape \(..., 3, 3\)"),
    ],
)
def test_what_is_no_rotation_is_refused(rotation, message):
    with pytest.raises(ValueError, match=message):
        wigner_d_real(2, rotation)
