"""The public door: arguments are checked once, here, and every refusal names the argument, says what came and what is expected."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real

import numpy as np
import scipy.sparse

from ritz.core.arrays import is_torch, namespace, to_csr, to_numpy


def integer(value: object, name: str, *, at_least: int | None = None, at_most: int | None = None) -> int:
    """Return `value` as an int within bounds (NumPy integers welcome, floats and booleans not).

    Examples
    --------
    >>> integer(3, "rank", at_least=1)
    3
    >>> integer(0, "rank", at_least=1)
    Traceback (most recent call last):
        ...
    ValueError: rank must be an integer of at least 1, got 0
    """
    expected = "an integer" + _bounds(at_least=at_least, at_most=at_most)
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be {expected}, got {_show(value)}")
    if (at_least is not None and value < at_least) or (at_most is not None and value > at_most):
        raise ValueError(f"{name} must be {expected}, got {value}")
    return int(value)


def real(
    value: object,
    name: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a finite float within bounds.

    Examples
    --------
    >>> real(0.9, "beta", at_least=0, below=1)
    0.9
    """
    expected = "a finite number" + _bounds(at_least=at_least, above=above, at_most=at_most, below=below)
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {expected}, got {_show(value)}")
    outside = (
        not math.isfinite(value)
        or (at_least is not None and value < at_least)
        or (above is not None and value <= above)
        or (at_most is not None and value > at_most)
        or (below is not None and value >= below)
    )
    if outside:
        raise ValueError(f"{name} must be {expected}, got {value}")
    return float(value)


def positive(value: object, name: str) -> float:
    """Return `value` as a finite float greater than zero."""
    return real(value, name, above=0)


def choice(value: object, name: str, options: Iterable[str]) -> str:
    """Return `value` if it is one of `options`.

    Examples
    --------
    >>> choice("lanczos", "method", ["dense", "lanczos"])
    'lanczos'
    """
    options = list(options)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(map(repr, options))}, got {_show(value)}")
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def flag(value: object, name: str) -> bool:
    """Return `value` if it is True or False: a string such as "no" would otherwise count as true."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {_show(value)}")
    return bool(value)


def array(
    value: object,
    name: str,
    *,
    ndim: int | Sequence[int] | None = None,
    shape: Sequence[int | None] | None = None,
    allow_complex: bool = False,
    allow_empty: bool = False,
):
    """Return a finite dense array of floating dtype: torch tensors stay torch, anything else becomes NumPy, integers become float64.

    Parameters
    ----------
    value : array-like or torch.Tensor
        What came in.
    name : str
        The argument's name, for the message.
    ndim : int or sequence of int, optional
        Allowed numbers of dimensions.
    shape : sequence of int or None, optional
        Required shape; None leaves that dimension free.
    allow_complex, allow_empty : bool
        Whether complex entries, or no entries, are welcome.

    Raises
    ------
    TypeError
        If it is no array of numbers.
    ValueError
        If it has the wrong shape, is empty, or has NaN or infinite entries.

    Examples
    --------
    >>> array([1, 2], "b", ndim=1)
    array([1., 2.])
    >>> array([1.0, float("nan")], "b")
    Traceback (most recent call last):
        ...
    ValueError: b must be finite, got 1 NaN or infinite entry of 2
    """
    x = value if is_torch(value) else to_numpy(value, name)
    x = _floating(x, name, allow_complex)
    _check_shape(x, name, ndim, shape)
    if not allow_empty and 0 in x.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(x.shape)}")
    _check_finite(x, name)
    return x


def matrix(value: object, name: str, **options):
    """Return a finite dense matrix (`array` with two dimensions)."""
    return array(value, name, ndim=2, **options)


def square_matrix(value: object, name: str, **options):
    """Return a finite dense matrix with as many rows as columns."""
    A = matrix(value, name, **options)
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"{name} must be square, got shape {tuple(A.shape)}")
    return A


def symmetric_matrix(value: object, name: str, *, tolerance: float = 1e-8, **options):
    """Return a finite square matrix that equals its (conjugate) transpose to `tolerance` times its largest entry.

    Examples
    --------
    >>> symmetric_matrix([[1.0, 2.0], [3.0, 1.0]], "A")
    Traceback (most recent call last):
        ...
    ValueError: A must be symmetric: entries differ from the transpose by 1.0, more than 1e-08 times the largest, 3.0
    """
    A = square_matrix(value, name, **options)
    xp = namespace(A)
    adjoint = xp.conj(A).T if xp.isdtype(A.dtype, "complex floating") else A.T
    largest, difference = float(xp.max(xp.abs(A))), float(xp.max(xp.abs(A - adjoint)))
    if difference > tolerance * largest:
        raise ValueError(
            f"{name} must be symmetric: entries differ from the transpose by {difference:.3}, more than {tolerance} times the largest, {largest:.3}"
        )
    return A


def sparse_matrix(value: object, name: str, *, square: bool = False) -> scipy.sparse.csr_array:
    """Return a finite CSR array (float32 and float64 kept, integers and booleans to float64) of a sparse or dense matrix or tensor."""
    if not scipy.sparse.issparse(value) and not is_torch(value):
        value = to_numpy(value, name)
    if len(value.shape) != 2:
        raise ValueError(f"{name} must be a matrix, got {len(value.shape)} dimension(s), shape {tuple(value.shape)}")
    if not is_torch(value) and value.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be a matrix of numbers, got dtype {value.dtype}")
    A = to_csr(value, name)
    entries = _floating(A.data, name, allow_complex=False)
    A = scipy.sparse.csr_array((entries, A.indices, A.indptr), shape=A.shape)
    _check_finite(A.data, name)
    if square and A.shape[0] != A.shape[1]:
        raise ValueError(f"{name} must be square, got shape {A.shape}")
    return A


def same_shape(first, first_name: str, second, second_name: str) -> None:
    """Refuse two arrays whose shapes differ."""
    if tuple(first.shape) != tuple(second.shape):
        raise ValueError(f"{second_name} must have the shape of {first_name}, {tuple(first.shape)}, got {tuple(second.shape)}")


def _floating(x, name: str, allow_complex: bool):
    xp = namespace(x)
    if xp.isdtype(x.dtype, "real floating") or (allow_complex and xp.isdtype(x.dtype, "complex floating")):
        return x
    if xp.isdtype(x.dtype, "complex floating"):
        raise TypeError(f"{name} must be real, got {x.dtype}")
    if xp.isdtype(x.dtype, ("integral", "bool")):
        return xp.astype(x, xp.float64)
    raise TypeError(f"{name} must be an array of numbers, got dtype {x.dtype}")


def _check_shape(x, name: str, ndim: int | Sequence[int] | None, shape: Sequence[int | None] | None) -> None:
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is not None and x.ndim not in allowed:
        raise ValueError(f"{name} must have {' or '.join(map(str, allowed))} dimension(s), got {x.ndim}, shape {tuple(x.shape)}")
    if shape is not None:
        fits = x.ndim == len(shape) and all(wanted in (None, size) for wanted, size in zip(shape, x.shape))
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"{name} must have shape ({wanted}), got {tuple(x.shape)}")


def _check_finite(x, name: str) -> None:
    xp = namespace(x)
    finite = xp.isfinite(x)
    if not bool(xp.all(finite)):
        bad = int(xp.sum(xp.astype(~finite, xp.int64)))
        raise ValueError(f"{name} must be finite, got {bad} NaN or infinite {'entry' if bad == 1 else 'entries'} of {math.prod(x.shape)}")


def _bounds(**limits: float | None) -> str:
    words = {"at_least": "of at least", "above": "above", "at_most": "at most", "below": "below"}
    phrases = [f"{words[name]} {limit}" for name, limit in limits.items() if limit is not None]
    return " " + " and ".join(phrases) if phrases else ""


def _show(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) <= 40 else type(value).__name__
