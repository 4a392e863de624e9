"""Operators, eigenproblems, sketches and structured matrices."""

from typing import TYPE_CHECKING

from ritz.core.lazy import lazy_exports

if TYPE_CHECKING:
    # structured operators
    from ritz.linalg.operators import OperatorProduct as OperatorProduct
    from ritz.linalg.operators import StructuredOperator as StructuredOperator

    # Monarch matrices
    from ritz.linalg.monarch import MonarchFactorization as MonarchFactorization
    from ritz.linalg.monarch import MonarchOperator as MonarchOperator
    from ritz.linalg.monarch import TransposedMonarch as TransposedMonarch
    from ritz.linalg.monarch import compose as compose
    from ritz.linalg.monarch import monarch_factorize as monarch_factorize
    from ritz.linalg.monarch import monarch_project as monarch_project
    from ritz.linalg.monarch_layers import MonarchLinear as MonarchLinear
    from ritz.linalg.monarch_layers import ReverseSparsification as ReverseSparsification
    from ritz.linalg.monarch_layers import densify as densify
    from ritz.linalg.monarch_layers import monarchize as monarchize

    # low-rank approximation, plain and weighted
    from ritz.linalg.low_rank import LowRankFactors as LowRankFactors
    from ritz.linalg.low_rank import krylov_weighted_low_rank as krylov_weighted_low_rank
    from ritz.linalg.low_rank import symmetric_sqrt as symmetric_sqrt
    from ritz.linalg.low_rank import truncated_svd as truncated_svd
    from ritz.linalg.low_rank import weighted_low_rank as weighted_low_rank
    from ritz.linalg.low_rank import weighted_singular_values as weighted_singular_values
    from ritz.linalg.rank_rule import RankRule as RankRule

    # eigenpairs and singular triplets
    from ritz.linalg.eigen import EigenResult as EigenResult
    from ritz.linalg.eigen import eigsh as eigsh
    from ritz.linalg.singular_values import SVDResult as SVDResult
    from ritz.linalg.singular_values import svds as svds

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
