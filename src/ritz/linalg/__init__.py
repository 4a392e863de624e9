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

    # linear systems: the front doors, Krylov solvers and preconditioners
    from ritz.linalg.solve import Solution as Solution
    from ritz.linalg.solve import solve as solve
    from ritz.linalg.lstsq import lstsq as lstsq
    from ritz.linalg.conjugate_gradients import cg as cg
    from ritz.linalg.gmres import gmres as gmres
    from ritz.linalg.krylov_system import KrylovResult as KrylovResult
    from ritz.linalg.least_squares import lsmr as lsmr
    from ritz.linalg.minres import minres as minres
    from ritz.linalg.algebraic_multigrid import amg as amg
    from ritz.linalg.preconditioners import incomplete_lu as incomplete_lu
    from ritz.linalg.preconditioners import jacobi as jacobi
    from ritz.linalg.preconditioners import ssor as ssor

    # sequences of linear systems: Krylov recycling
    from ritz.linalg.gcrodr import RecycledSolve as RecycledSolve
    from ritz.linalg.gcrodr import RecycleSpace as RecycleSpace
    from ritz.linalg.gcrodr import gcrodr as gcrodr
    from ritz.linalg.similarity_order import low_mode_features as low_mode_features
    from ritz.linalg.similarity_order import similarity_order as similarity_order
    from ritz.linalg.system_sequence import SequenceSolve as SequenceSolve
    from ritz.linalg.system_sequence import solve_sequence as solve_sequence

    # solvers that learn their parameter over a sequence of systems
    from ritz.linalg.chebyshev_bandit import ChebyshevBandit as ChebyshevBandit
    from ritz.linalg.sor import IterativeSolve as IterativeSolve
    from ritz.linalg.sor import optimal_omega as optimal_omega
    from ritz.linalg.sor import sor as sor
    from ritz.linalg.sor import sor_iteration_bound as sor_iteration_bound
    from ritz.linalg.ssor_cg import pcg as pcg
    from ritz.linalg.ssor_cg import ssor_cg as ssor_cg
    from ritz.linalg.ssor_cg import ssor_cg_iteration_bound as ssor_cg_iteration_bound
    from ritz.linalg.ssor_cg import ssor_preconditioner as ssor_preconditioner
    from ritz.linalg.tsallis_bandit import BinnedBandit as BinnedBandit
    from ritz.linalg.tsallis_bandit import TsallisINF as TsallisINF
    from ritz.linalg.tuned_solver import TunedSolve as TunedSolve
    from ritz.linalg.tuned_solver import TunedSolver as TunedSolver

    # solvers with a learned search direction
    from ritz.linalg.deep_conjugate_direction import DirectionSolve as DirectionSolve
    from ritz.linalg.deep_conjugate_direction import dcdm as dcdm
    from ritz.linalg.direction_network import DirectionNetwork as DirectionNetwork
    from ritz.linalg.direction_network import train_direction_network as train_direction_network
    from ritz.linalg.ritz_vectors import ritz_training_vectors as ritz_training_vectors

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

    # products of functions on the sphere
    from ritz.linalg.gaunt_coefficients import gaunt_coefficients as gaunt_coefficients
    from ritz.linalg.gaunt_convolution import GauntConvolution as GauntConvolution
    from ritz.linalg.gaunt_many_body import GauntManyBody as GauntManyBody
    from ritz.linalg.gaunt_product import GauntTensorProduct as GauntTensorProduct
    from ritz.linalg.spherical_harmonics import real_spherical_harmonics as real_spherical_harmonics
    from ritz.linalg.wigner import wigner_d_real as wigner_d_real

    # low-rank approximation, plain and weighted
    from ritz.linalg.low_rank import LowRankFactors as LowRankFactors
    from ritz.linalg.low_rank import krylov_weighted_low_rank as krylov_weighted_low_rank
    from ritz.linalg.low_rank import symmetric_sqrt as symmetric_sqrt
    from ritz.linalg.low_rank import truncated_svd as truncated_svd
    from ritz.linalg.low_rank import weighted_low_rank as weighted_low_rank
    from ritz.linalg.low_rank import weighted_singular_values as weighted_singular_values
    from ritz.linalg.rank_rule import RankRule as RankRule

    # random sketches, and least squares from them
    from ritz.linalg.sketches import countsketch as countsketch
    from ritz.linalg.sketches import gaussian_sketch as gaussian_sketch
    from ritz.linalg.sketches import sparse_sign as sparse_sign
    from ritz.linalg.sketches import srct as srct
    from ritz.linalg.sketches import srht as srht
    from ritz.linalg.tensor_sketch import TensorSRCT as TensorSRCT
    from ritz.linalg.walsh_hadamard import walsh_hadamard as walsh_hadamard
    from ritz.linalg.coordinate_embedding import coordinate_embedding_constant as coordinate_embedding_constant
    from ritz.linalg.sketched_lstsq import SketchedLstsq as SketchedLstsq
    from ritz.linalg.sketched_lstsq import sketched_lstsq as sketched_lstsq

    # which rows matter
    from ritz.linalg.leverage_scores import leverage_scores as leverage_scores
    from ritz.linalg.lewis_weights import lewis_weights as lewis_weights
    from ritz.linalg.lp_sensitivities import lp_sensitivities as lp_sensitivities
    from ritz.linalg.row_sampling import RowSample as RowSample
    from ritz.linalg.row_sampling import sample_rows as sample_rows
    from ritz.linalg.lp_distortion import lp_distortion as lp_distortion
    from ritz.linalg.lp_regression import LpRegression as LpRegression
    from ritz.linalg.lp_regression import lp_regression as lp_regression

    # matrix sensing
    from ritz.linalg.matrix_sensing import MatrixSensing as MatrixSensing
    from ritz.linalg.matrix_sensing import matrix_sensing as matrix_sensing
    from ritz.linalg.matrix_sensing import rebalance as rebalance
    from ritz.linalg.measurements import MeasurementOperator as MeasurementOperator

    # matrix completion
    from ritz.linalg.low_rank_completer import LowRankCompleter as LowRankCompleter
    from ritz.linalg.matrix_completion import MatrixCompletion as MatrixCompletion
    from ritz.linalg.matrix_completion import complete_matrix as complete_matrix

    # matrices side by side
    from ritz.linalg.concatenated_svd import CompressedCollection as CompressedCollection
    from ritz.linalg.concatenated_svd import ConcatenatedSVDClustering as ConcatenatedSVDClustering
    from ritz.linalg.concatenation_bounds import concatenation_error_bound as concatenation_error_bound
    from ritz.linalg.incremental_svd import IncrementalSVD as IncrementalSVD

    # decompositions from random blocks
    from ritz.linalg.randomized_svd import EigenApproximation as EigenApproximation
    from ritz.linalg.randomized_svd import StreamingSVD as StreamingSVD
    from ritz.linalg.randomized_svd import SVDApproximation as SVDApproximation
    from ritz.linalg.randomized_svd import randomized_eigh as randomized_eigh
    from ritz.linalg.randomized_svd import randomized_svd as randomized_svd
    from ritz.linalg.nystrom import nystrom as nystrom

    # estimates from random probes and Krylov spaces
    from ritz.linalg.matrix_functions import MatrixFunctionAction as MatrixFunctionAction
    from ritz.linalg.matrix_functions import matrix_function_action as matrix_function_action
    from ritz.linalg.spectral_estimates import ConditionEstimate as ConditionEstimate
    from ritz.linalg.spectral_estimates import SpectralInterval as SpectralInterval
    from ritz.linalg.spectral_estimates import condition_estimate as condition_estimate
    from ritz.linalg.spectral_estimates import estimate_rank as estimate_rank
    from ritz.linalg.spectral_estimates import spectral_interval as spectral_interval
    from ritz.linalg.trace_estimation import StochasticEstimate as StochasticEstimate
    from ritz.linalg.trace_estimation import diagonal as diagonal
    from ritz.linalg.trace_estimation import hutchinson_trace as hutchinson_trace
    from ritz.linalg.trace_estimation import hutchpp_trace as hutchpp_trace
    from ritz.linalg.trace_estimation import logdet as logdet

    # eigenpairs and singular triplets
    from ritz.linalg.eigen import EigenResult as EigenResult
    from ritz.linalg.eigen import eigsh as eigsh
    from ritz.linalg.singular_values import SVDResult as SVDResult
    from ritz.linalg.singular_values import svds as svds

    # products of sparse matrices
    from ritz.linalg.spgemm import spgemm as spgemm
    from ritz.linalg.spgemm import spgemm_flops as spgemm_flops
    from ritz.linalg.spgemm import spgemm_symbolic as spgemm_symbolic
    from ritz.linalg.spgemm_plan import SpgemmPlan as SpgemmPlan
    from ritz.linalg.spgemm_plan import spgemm_plan as spgemm_plan
    from ritz.linalg.triple_product import triple_product as triple_product

    # products of matrices of a few bits
    from ritz.linalg.bipolar import BipolarTensor as BipolarTensor
    from ritz.linalg.bipolar import bipolar_matmul as bipolar_matmul
    from ritz.linalg.bipolar_linear import BipolarLinear as BipolarLinear
    from ritz.linalg.bipolar_quantization import quantize_bipolar as quantize_bipolar

    # the top eigenvector of a stream of rows
    from ritz.linalg.oja import adaptive_oja as adaptive_oja
    from ritz.linalg.oja import oja as oja
    from ritz.linalg.row_norm_sampling import row_norm_sampler as row_norm_sampler
    from ritz.linalg.streaming_eigenvector import StreamEigen as StreamEigen
    from ritz.linalg.streaming_eigenvector import StreamingTopEigenvector as StreamingTopEigenvector
    from ritz.linalg.streaming_eigenvector import top_eigenvector_stream as top_eigenvector_stream

    # what a matrix product costs
    from ritz.linalg.gemm_measurements import GemmMeasurements as GemmMeasurements
    from ritz.linalg.gemm_measurements import measure_gemms as measure_gemms
    from ritz.linalg.gemm_model import GemmModel as GemmModel
    from ritz.linalg.gemm_model import TileRecommendation as TileRecommendation
    from ritz.linalg.gemm_model import gemm_features as gemm_features
    from ritz.linalg.gemm_model import recommend_tiles as recommend_tiles
    from ritz.linalg.tiled_matmul import tiled_matmul as tiled_matmul

    # vectors of symbols, and JSON as vectors
    from ritz.linalg.json_vectorizer import JSONVectorizer as JSONVectorizer
    from ritz.linalg.orthogonal_families import OrthogonalFamily as OrthogonalFamily
    from ritz.linalg.vector_symbols import bind as bind
    from ritz.linalg.vector_symbols import bundle as bundle
    from ritz.linalg.vector_symbols import sequence as sequence

    # integer sequences: linear recurrences, exact systems over prime fields, continued fractions
    from ritz.linalg.linear_recurrences import LinearRecurrence as LinearRecurrence
    from ritz.linalg.linear_recurrences import berlekamp_massey as berlekamp_massey
    from ritz.linalg.linear_recurrences import characteristic_roots as characteristic_roots
    from ritz.linalg.linear_recurrences import extend_recurrence as extend_recurrence
    from ritz.linalg.linear_recurrences import linear_recurrence as linear_recurrence
    from ritz.linalg.wiedemann import minimal_polynomial as minimal_polynomial
    from ritz.linalg.wiedemann import wiedemann as wiedemann
    from ritz.linalg.continued_fractions import evaluate_continued_fraction as evaluate_continued_fraction
    from ritz.linalg.continued_fractions import signed_continued_fraction as signed_continued_fraction
    from ritz.linalg.continued_fractions import to_simple_continued_fraction as to_simple_continued_fraction
    from ritz.linalg.conjectures import Conjecture as Conjecture
    from ritz.linalg.conjectures import find_conjectures as find_conjectures

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
