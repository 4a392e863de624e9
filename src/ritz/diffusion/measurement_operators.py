"""Linear measurements of samples, each with its exact adjoint: masks, Fourier samples with coils, projections along parallel beams, blurs, matrices.

An operator has ``forward(x)``, which maps samples (batch, *shape) to measurements (batch, *measured), and ``adjoint(y)``, which maps back, with
``<forward(x), y> = <x, adjoint(y)>`` for the real inner product ``Re sum conj(a) b``. Measurements may be complex, samples are real: complex images
have two channels, as networks take them.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Protocol

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from ritz.core import array, integer, sparse_matrix, to_numpy
from ritz.linalg.csr_products import multiply_vectors


class MeasurementOperator(Protocol):
    """A linear map of batches of samples, and its adjoint."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Measure samples (batch, *shape)."""

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Map measurements (batch, *measured) back."""


class Inpainting:
    """Keep the entries where a mask is true: (batch, *shape) to (batch, kept).

    Parameters
    ----------
    mask : bool array (*shape)
        True where a sample is seen.

    Raises
    ------
    TypeError, ValueError
        If the mask is not of booleans or keeps nothing.

    Examples
    --------
    >>> keep = Inpainting(torch.tensor([[True, False], [False, True]]))
    >>> keep.forward(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    tensor([[1., 4.]])
    """

    def __init__(self, mask):
        self.mask = _mask(mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the seen entries (batch, kept)."""
        _check_shape(x, tuple(self.mask.shape), "x")
        return x[:, self.mask.to(x.device)]

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return samples that are zero where nothing was seen."""
        x = y.new_zeros(len(y), *self.mask.shape)
        x[:, self.mask.to(y.device)] = y
        return x


class MaskedFourier:
    """Samples of the orthonormal Fourier transform of images, of each coil in turn: magnetic resonance imaging.

    Parameters
    ----------
    mask : bool array (height, width)
        True at the frequencies that are sampled, zero frequency first (as `torch.fft.fft2` has it).
    sensitivities : complex array (coils, height, width), optional
        What each coil sees of the image; one coil that sees all by default.
    channels : {1, 2}
        1 for real images (batch, 1, height, width), 2 for complex ones, real part first.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on a call if images have another shape.

    Notes
    -----
    Measurements are complex, (batch, coils, samples). For complex images and no sensitivities the rows are orthonormal.

    Examples
    --------
    >>> MaskedFourier(torch.eye(4, dtype=torch.bool)).forward(torch.zeros(1, 2, 4, 4)).shape
    torch.Size([1, 1, 4])
    """

    def __init__(self, mask, sensitivities=None, *, channels: int = 2):
        self.mask = _mask(mask)
        if self.mask.ndim != 2:
            raise ValueError(f"mask must have shape (height, width), got {tuple(self.mask.shape)}")
        self.channels = integer(channels, "channels", at_least=1, at_most=2)
        self.sensitivities = None
        if sensitivities is not None:
            sensitivities = array(sensitivities, "sensitivities", shape=(None, *self.mask.shape), allow_complex=True)
            self.sensitivities = torch.as_tensor(sensitivities).to(torch.complex128)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the samples (batch, coils, samples) of images (batch, channels, height, width)."""
        _check_shape(x, (self.channels, *self.mask.shape), "x")
        image = torch.complex(x[:, :1], x[:, 1:] if self.channels == 2 else torch.zeros_like(x))
        if self.sensitivities is not None:
            image = self.sensitivities.to(image) * image
        return torch.fft.fft2(image, norm="ortho")[:, :, self.mask.to(x.device)]

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return images (batch, channels, height, width)."""
        spectrum = y.new_zeros(*y.shape[:2], *self.mask.shape)
        spectrum[:, :, self.mask.to(y.device)] = y
        image = torch.fft.ifft2(spectrum, norm="ortho")
        if self.sensitivities is not None:
            image = (self.sensitivities.to(y).conj() * image).sum(dim=1, keepdim=True)
        return image.real if self.channels == 1 else torch.cat([image.real, image.imag], dim=1)


class Blur:
    """Convolution of images with a kernel, periodic at the edges.

    Parameters
    ----------
    kernel : array (height, width)
        Odd sides; its center weighs the pixel itself.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on a call if images are smaller than the kernel.

    Examples
    --------
    >>> Blur([[0.0, 0.5, 0.5]]).forward(torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])).round(decimals=3)
    tensor([[[[0.5000, 0.5000, 0.0000, 0.0000]]]])
    """

    def __init__(self, kernel):
        self.kernel = torch.as_tensor(array(kernel, "kernel", ndim=2))
        if not all(size % 2 for size in self.kernel.shape):
            raise ValueError(f"kernel must have odd sides, got {tuple(self.kernel.shape)}")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the blurred images, of x's shape (batch, channels, height, width)."""
        return self._filtered(x, conjugate=False)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return the correlation with the kernel."""
        return self._filtered(y, conjugate=True)

    def _filtered(self, x: torch.Tensor, *, conjugate: bool) -> torch.Tensor:
        sides = tuple(x.shape[-2:])
        if x.ndim != 4 or any(side < size for side, size in zip(sides, self.kernel.shape)):
            raise ValueError(f"x must be images (batch, channels, height, width) no smaller than kernel, got {tuple(x.shape)}")
        padded = x.new_zeros(sides)
        padded[: self.kernel.shape[0], : self.kernel.shape[1]] = self.kernel.to(x)
        padded = padded.roll([-(size // 2) for size in self.kernel.shape], dims=(0, 1))
        response = torch.fft.rfft2(padded)
        return torch.fft.irfft2(torch.fft.rfft2(x) * (response.conj() if conjugate else response), s=sides)


class MatrixMeasurements:
    """Measurements by a matrix, dense or sparse, of flattened samples: (batch, *shape) to (batch, rows).

    Parameters
    ----------
    matrix : array, sparse array or tensor (rows, d)
        d is the product of the shape.
    shape : tuple of int
        Of a sample.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on a call if samples have another shape.

    Examples
    --------
    >>> MatrixMeasurements([[1.0, 1.0, 0.0, 0.0]], (2, 2)).forward(torch.ones(3, 2, 2)).flatten()
    tensor([2., 2., 2.])
    """

    def __init__(self, matrix, shape):
        self.shape = sample_shape(shape, "shape")
        sparse = scipy.sparse.issparse(matrix)
        checked = sparse_matrix(matrix, "matrix") if sparse else torch.as_tensor(array(matrix, "matrix", ndim=2))
        if checked.shape[1] != int(np.prod(self.shape)):
            raise ValueError(f"matrix must have {int(np.prod(self.shape))} columns, the numbers of a sample, got {checked.shape[1]}")
        product, adjoint = (_SparseRows(checked), _SparseRows(checked.T.tocsr())) if sparse else (_DenseRows(checked), _DenseRows(checked.mT))
        self._product, self._adjoint = partial(_LinearMap.apply, product, adjoint), partial(_LinearMap.apply, adjoint, product)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the measurements (batch, rows)."""
        _check_shape(x, self.shape, "x")
        return self._product(x.flatten(1))

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return samples (batch, *shape)."""
        return self._adjoint(y).reshape(len(y), *self.shape)


class ParallelBeam(MatrixMeasurements):
    """Line integrals of square images along parallel beams: computed tomography, (batch, 1, size, size) to (batch, angles x detectors).

    Each pixel's center projects between two detectors and is shared by linear interpolation.

    Parameters
    ----------
    angles : array (n,)
        In radians; at angle 0 beams run along columns.
    size : int
        Pixels of a side. There are as many detectors, one pixel apart, and enough more at both ends that none of the image is missed.

    Raises
    ------
    TypeError, ValueError
        For a bad argument, and on a call if images have another shape.

    Examples
    --------
    >>> beams = ParallelBeam([0.0], 3)
    >>> beams.forward(torch.ones(1, 1, 3, 3)).round(decimals=6)
    tensor([[0., 0., 3., 3., 3., 0., 0.]])
    """

    def __init__(self, angles, size: int):
        self.angles = to_numpy(array(angles, "angles", ndim=1)).astype(np.float64)
        size = integer(size, "size", at_least=1)
        self.detectors = size + 2 * int(np.ceil((np.sqrt(2) - 1) / 2 * size + 1))
        super().__init__(_projections(self.angles, size, self.detectors), (1, size, size))


def measurement_operator(operator, shape: tuple[int, ...]) -> MeasurementOperator:
    """Return an operator as it is, and a matrix, tensor or SciPy LinearOperator as one that measures flattened samples of this shape."""
    if hasattr(operator, "forward") and hasattr(operator, "adjoint"):
        return operator
    if isinstance(operator, scipy.sparse.linalg.LinearOperator):
        return _ScipyMeasurements(operator, shape)
    if isinstance(operator, np.ndarray | torch.Tensor) or scipy.sparse.issparse(operator):
        if operator.ndim != 2 or operator.shape[1] != int(np.prod(shape)):
            raise ValueError(f"operator must have {int(np.prod(shape))} columns, the numbers of a sample, got shape {tuple(operator.shape)}")
        array(operator.data if scipy.sparse.issparse(operator) else operator, "operator", allow_empty=True)
        return MatrixMeasurements(operator, shape)
    raise TypeError(f"operator must have forward and adjoint, or be a matrix, tensor or LinearOperator, got {type(operator).__name__}")


def sample_shape(shape, name: str) -> tuple[int, ...]:
    """Return a shape as a tuple of positive integers, or refuse it."""
    if not isinstance(shape, tuple | list | torch.Size) or not shape:
        raise TypeError(f"{name} must be a tuple of sizes, got {shape!r}")
    return tuple(integer(size, name, at_least=1) for size in shape)


class _ScipyMeasurements:
    """A SciPy LinearOperator on flattened samples; it computes in NumPy."""

    def __init__(self, operator: scipy.sparse.linalg.LinearOperator, shape: tuple[int, ...]):
        if operator.shape[1] != int(np.prod(shape)):
            raise ValueError(f"operator must have {int(np.prod(shape))} columns, the numbers of a sample, got shape {operator.shape}")
        self.operator, self.shape = operator, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.operator.matmat(to_numpy(x.flatten(1)).T).T)).to(x)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.operator.rmatmat(to_numpy(y).T).T)).to(y).reshape(len(y), *self.shape)


def _projections(angles: np.ndarray, size: int, detectors: int) -> scipy.sparse.csr_array:
    """The matrix (angles x detectors, pixels) of linear interpolation."""
    row, column = np.indices((size, size)).reshape(2, -1) - (size - 1) / 2
    position = np.cos(angles)[:, None] * column + np.sin(angles)[:, None] * row + (detectors - 1) / 2
    left = np.floor(position).astype(np.int64)
    part = position - left
    beam = np.arange(len(angles))[:, None] * detectors + left
    pixel = np.broadcast_to(np.arange(size * size), beam.shape)
    entries = (np.concatenate([1 - part, part]).ravel(), (np.concatenate([beam, beam + 1]).ravel(), np.concatenate([pixel, pixel]).ravel()))
    return scipy.sparse.csr_array(entries, shape=(len(angles) * detectors, size * size))


class _LinearMap(torch.autograd.Function):
    """A product with rows whose gradient is the adjoint's product."""

    @staticmethod
    def forward(ctx, product, adjoint, rows: torch.Tensor) -> torch.Tensor:
        ctx.product, ctx.adjoint = product, adjoint
        return product(rows.detach())

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        return None, None, _LinearMap.apply(ctx.adjoint, ctx.product, gradient)


class _DenseRows:
    """Products of a matrix with the rows of tensors, in their dtype and on their device."""

    def __init__(self, matrix: torch.Tensor):
        self._matrix = matrix

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        self._matrix = self._matrix.to(rows)
        return rows @ self._matrix.mT


class _SparseRows:
    """The same for a sparse matrix: its own kernel on the CPU, torch's elsewhere. Each dtype's copy is made once."""

    def __init__(self, matrix: scipy.sparse.csr_array):
        parts = (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32))
        self._matrix = scipy.sparse.csr_array(parts, shape=matrix.shape)
        self._copies: dict[tuple, object] = {}

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        key = (rows.dtype, rows.device)
        if key not in self._copies:
            self._copies[key] = self._copy(*key)
        matrix = self._copies[key]
        if rows.device.type == "cpu":
            return torch.from_numpy(multiply_vectors(matrix, rows.numpy()))
        return (matrix @ rows.mT).mT

    def _copy(self, dtype: torch.dtype, device: torch.device):
        if device.type == "cpu":
            return self._matrix.astype(torch.empty(0, dtype=dtype).numpy().dtype)
        parts = (torch.from_numpy(part) for part in (self._matrix.indptr, self._matrix.indices, self._matrix.data))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            return torch.sparse_csr_tensor(*parts, size=self._matrix.shape, check_invariants=False).to(dtype=dtype, device=device)


def _mask(mask) -> torch.Tensor:
    mask = mask if isinstance(mask, torch.Tensor) else torch.from_numpy(np.array(to_numpy(mask, "mask"))) if _is_boolean(mask) else mask
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        raise TypeError("mask must be an array of booleans, true where something is measured")
    if not mask.ndim or not bool(mask.any()):
        raise ValueError(f"mask must have a true entry, got shape {tuple(mask.shape)}")
    return mask


def _is_boolean(mask) -> bool:
    return np.asarray(mask).dtype == bool


def _check_shape(x: torch.Tensor, shape: tuple[int, ...], name: str) -> None:
    if tuple(x.shape[1:]) != shape:
        raise ValueError(f"{name} must have shape (batch, {', '.join(map(str, shape))}), got {tuple(x.shape)}")
