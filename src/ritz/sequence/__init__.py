"""State-space layers, linear recurrences, attention and decoding."""

from typing import TYPE_CHECKING

from ritz.core.lazy import lazy_exports

if TYPE_CHECKING:
    # Recurrences
    from ritz.sequence.selective_scan import selective_scan as selective_scan

    # State-space layers
    from ritz.sequence.s4d import S4D as S4D
    from ritz.sequence.s4d import S4DClassifier as S4DClassifier
    from ritz.sequence.s4d_kernel import S4DKernel as S4DKernel
    from ritz.sequence.s4d_kernel import s4d_init as s4d_init
    from ritz.sequence.vandermonde import vandermonde_kernel as vandermonde_kernel

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
