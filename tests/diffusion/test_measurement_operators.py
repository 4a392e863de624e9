"""Measurements of samples: adjoints, formulas, refusals."""

import math

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from specimens import Specimen

from ritz.diffusion import Blur, Inpainting, MaskedFourier, MatrixMeasurements, ParallelBeam
from ritz.diffusion.measurement_operators import measurement_operator

DOUBLE = torch.float64


def _normal(*shape: int, seed: int = 0, dtype=DOUBLE) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


MASK = _normal(6, 8, seed=1) > 0.3
MATRIX = _normal(5, 12, seed=2)
OPERATORS = {
    "inpainting": (Inpainting(MASK), (6, 8)),
    "fourier, real": (MaskedFourier(MASK, channels=1), (1, 6, 8)),
    "fourier, complex": (MaskedFourier(MASK), (2, 6, 8)),
    "fourier, coils": (MaskedFourier(MASK, _normal(3, 6, 8, seed=3, dtype=torch.complex128)), (2, 6, 8)),
    "fourier, coils, real": (MaskedFourier(MASK, _normal(3, 6, 8, seed=3, dtype=torch.complex128), channels=1), (1, 6, 8)),
    "parallel beam": (ParallelBeam(np.linspace(0, math.pi, 5, endpoint=False), 9), (1, 9, 9)),
    "blur": (Blur(_normal(3, 5, seed=4)), (2, 6, 7)),
    "matrix": (MatrixMeasurements(MATRIX, (3, 4)), (3, 4)),
    "sparse matrix": (measurement_operator(scipy.sparse.csr_array(MATRIX.numpy()), (3, 4)), (3, 4)),
    "scipy operator": (measurement_operator(scipy.sparse.linalg.aslinearoperator(MATRIX.numpy()), (3, 4)), (3, 4)),
}
SPECIMENS = {
    "Inpainting": Specimen(lambda x: Inpainting(MASK).forward(x), lambda: {"x": _normal(2, 6, 8)}, spare=frozenset({"x"})),
    "MaskedFourier": Specimen(
        lambda sensitivities, channels: MaskedFourier(MASK, sensitivities, channels=channels),
        lambda: {"sensitivities": _normal(3, 6, 8, dtype=torch.complex128), "channels": 2},
        spare=frozenset({"sensitivities"}),
    ),
    "Blur": Specimen(Blur, lambda: {"kernel": np.ones((3, 3))}),
    "MatrixMeasurements": Specimen(lambda matrix: MatrixMeasurements(matrix, (3, 4)), lambda: {"matrix": MATRIX}),
    "ParallelBeam": Specimen(ParallelBeam, lambda: {"angles": np.array([0.0, 1.0]), "size": 4}),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoints(name):
    operator, shape = OPERATORS[name]
    x = _normal(3, *shape)
    measured = operator.forward(x)
    y = _normal(*measured.shape, seed=5, dtype=measured.dtype)
    left = (measured.conj() * y).real.flatten(1).sum(1)
    right = (x * operator.adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", OPERATORS)
def test_single_precision_stays_single(name):
    operator, shape = OPERATORS[name]
    measured = operator.forward(_normal(2, *shape).float())
    assert measured.real.dtype == operator.adjoint(measured).dtype == torch.float32


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - {"scipy operator"}))
def test_gradients_pass_through(name):
    operator, shape = OPERATORS[name]
    x = _normal(2, *shape).requires_grad_()
    measured = operator.forward(x)
    weights = _normal(*measured.shape, seed=5, dtype=measured.dtype)
    (measured.conj() * weights).real.sum().backward()
    torch.testing.assert_close(x.grad, operator.adjoint(weights), rtol=1e-10, atol=1e-10)


def test_a_blur_is_the_periodic_convolution():
    kernel, x = _normal(3, 3), _normal(1, 1, 5, 6)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
    expected = torch.nn.functional.conv2d(padded, kernel.flip(0, 1)[None, None])
    torch.testing.assert_close(Blur(kernel).forward(x), expected, rtol=1e-12, atol=1e-12)


def test_projections_keep_the_mass_and_its_center():
    x = _normal(2, 1, 16, 16).abs()
    angles = np.array([0.0, 0.4, math.pi / 2, 2.5])
    beams = ParallelBeam(angles, 16)
    measured = beams.forward(x).reshape(2, 4, -1)
    torch.testing.assert_close(measured.sum(2), x.sum((1, 2, 3))[:, None].expand(2, 4))
    row, column = torch.meshgrid(*[torch.arange(16, dtype=DOUBLE) - 7.5] * 2, indexing="ij")
    centers = torch.stack([(x[:, 0] * (math.cos(a) * column + math.sin(a) * row)).sum((1, 2)) for a in angles], dim=1)
    position = torch.arange(beams.detectors, dtype=DOUBLE) - (beams.detectors - 1) / 2
    torch.testing.assert_close((measured * position).sum(2), centers, rtol=1e-9, atol=1e-9)


def test_fourier_samples_of_one_coil():
    operator, x = MaskedFourier(MASK), _normal(2, 2, 6, 8)
    expected = torch.fft.fft2(torch.complex(x[:, 0], x[:, 1]), norm="ortho")[:, MASK]
    torch.testing.assert_close(operator.forward(x)[:, 0], expected)
    torch.testing.assert_close(operator.forward(operator.adjoint(operator.forward(x))), operator.forward(x))


@pytest.mark.parametrize(
    ("make", "error", "name"),
    [
        (lambda: Inpainting(np.ones(3)), TypeError, "mask"),
        (lambda: Inpainting([False, False]), ValueError, "mask must have a true entry"),
        (lambda: MaskedFourier(torch.tensor([True])), ValueError, "mask"),
        (lambda: MaskedFourier(MASK, torch.ones(2, 3, 3)), ValueError, "sensitivities"),
        (lambda: Blur(np.ones((2, 3))), ValueError, "kernel must have odd sides"),
        (lambda: Blur(np.ones((3, 3))).forward(torch.zeros(1, 1, 2, 2)), ValueError, "x must be images"),
        (lambda: MatrixMeasurements(MATRIX, (3, 3)), ValueError, "matrix must have 9 columns"),
        (lambda: MatrixMeasurements(MATRIX, 12), TypeError, "shape"),
        (lambda: Inpainting(MASK).forward(torch.zeros(1, 2, 2)), ValueError, "x must have shape"),
        (lambda: measurement_operator("A", (3, 4)), TypeError, "operator"),
        (lambda: measurement_operator(MATRIX, (3, 3)), ValueError, "operator must have 9 columns"),
        (lambda: measurement_operator(scipy.sparse.linalg.aslinearoperator(MATRIX.numpy()), (9,)), ValueError, "operator"),
        (lambda: measurement_operator(MATRIX * math.nan, (3, 4)), ValueError, "operator must be finite"),
    ],
)
def test_refusals(make, error, name):
    with pytest.raises(error, match=name):
        make()
