"""Smaller models that stay right: pruning, low rank, quantization, merging."""

from typing import TYPE_CHECKING

from ritz.core.lazy import lazy_exports

if TYPE_CHECKING:
    # What enters a model's layers
    from ritz.compress.blockwise import blockwise as blockwise
    from ritz.compress.calibration import InputStatistics as InputStatistics
    from ritz.compress.calibration import collect_statistics as collect_statistics
    from ritz.compress.calibration import output_errors as output_errors

    # Low-rank compensation of compressed models
    from ritz.compress.eora import activation_scaled_compensation as activation_scaled_compensation
    from ritz.compress.eora import eora as eora
    from ritz.compress.eora import eora_factors as eora_factors
    from ritz.compress.eora import export_lora as export_lora
    from ritz.compress.eora import svd_compensation as svd_compensation

    # Layers that take the place of linear ones
    from ritz.compress.layers import LinearWithLowRankCompensation as LinearWithLowRankCompensation
    from ritz.compress.layers import LowRankLinear as LowRankLinear
    from ritz.compress.layers import dense_weight as dense_weight
    from ritz.compress.layers import flops as flops
    from ritz.compress.layers import replace_modules as replace_modules
    from ritz.compress.layers import stored_numbers as stored_numbers

    # Which weights stay
    from ritz.compress.masks import activation_score as activation_score
    from ritz.compress.masks import magnitude_score as magnitude_score
    from ritz.compress.masks import n_m_mask as n_m_mask
    from ritz.compress.masks import topk_mask as topk_mask

    # Where a model keeps its blocks and linear layers
    from ritz.compress.structure import find_blocks as find_blocks
    from ritz.compress.structure import linear_modules as linear_modules

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
