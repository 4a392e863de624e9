"""Operators, eigenproblems, sketches and structured matrices."""

from typing import TYPE_CHECKING

from ritz.core.lazy import lazy_exports

if TYPE_CHECKING:
    # structured operators
    from ritz.linalg.operators import OperatorProduct as OperatorProduct
    from ritz.linalg.operators import OperatorSum as OperatorSum
    from ritz.linalg.operators import ScaledOperator as ScaledOperator
    from ritz.linalg.operators import StructuredOperator as StructuredOperator
    from ritz.linalg.structured_operators import BlockDiagonalOperator as BlockDiagonalOperator
    from ritz.linalg.structured_operators import DiagonalOperator as DiagonalOperator
    from ritz.linalg.structured_operators import DiagonalPlusLowRankOperator as DiagonalPlusLowRankOperator
    from ritz.linalg.structured_operators import KroneckerOperator as KroneckerOperator
    from ritz.linalg.structured_operators import LowRankOperator as LowRankOperator

    # linear systems: Krylov solvers and preconditioners
    from ritz.linalg.conjugate_gradients import cg as cg
    from ritz.linalg.gmres import gmres as gmres
    from ritz.linalg.krylov_system import KrylovResult as KrylovResult
    from ritz.linalg.least_squares import lsmr as lsmr
    from ritz.linalg.minres import minres as minres
    from ritz.linalg.preconditioners import incomplete_lu as incomplete_lu
    from ritz.linalg.preconditioners import jacobi as jacobi
    from ritz.linalg.preconditioners import ssor as ssor

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

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
