"""Operators, eigenproblems, sketches and structured matrices."""

from typing import TYPE_CHECKING

from ritz.core.lazy import lazy_exports

if TYPE_CHECKING:
    # Low-rank approximation, plain and weighted
    from ritz.linalg.low_rank import LowRankFactors as LowRankFactors
    from ritz.linalg.low_rank import krylov_weighted_low_rank as krylov_weighted_low_rank
    from ritz.linalg.low_rank import symmetric_sqrt as symmetric_sqrt
    from ritz.linalg.low_rank import truncated_svd as truncated_svd
    from ritz.linalg.low_rank import weighted_low_rank as weighted_low_rank
    from ritz.linalg.low_rank import weighted_singular_values as weighted_singular_values
    from ritz.linalg.rank_rule import RankRule as RankRule

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
