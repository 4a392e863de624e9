"""Results: small frozen records with a readable repr, and the warning for an iteration that did not converge."""

import dataclasses
import warnings


class ConvergenceWarning(UserWarning):
    """An iterative method stopped before it reached its tolerance; the result says how far it came."""


def warn_not_converged(message: str) -> None:
    """Warn at the caller of the public function that did not converge."""
    warnings.warn(message, ConvergenceWarning, stacklevel=3)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Base of what methods return: a frozen dataclass whose repr shows arrays by shape and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> @dataclasses.dataclass(frozen=True, eq=False, repr=False)
    ... class Solution(Result):
    ...     x: np.ndarray
    ...     converged: bool
    >>> Solution(np.zeros(3), True)
    Solution(x=float64[3], converged=True)
    """

    def __repr__(self) -> str:
        fields = (f"{field.name}={summary(getattr(self, field.name))}" for field in dataclasses.fields(self))
        return f"{type(self).__name__}({', '.join(fields)})"

    def as_dict(self) -> dict[str, object]:
        """The fields by name, not copied."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def summary(value: object) -> str:
    """Show an array-like as ``dtype[shape]``, a list of them by its length, anything else by its repr."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype}[{', '.join(str(size) for size in value.shape)}]" if len(value.shape) else repr(value)
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"{type(value).__name__} of {len(value)}"
    return repr(value)
