"""Schedules, denoisers, samplers and bridges."""

from typing import TYPE_CHECKING

from ritz.core.lazy import lazy_exports

if TYPE_CHECKING:
    # Exact denoisers of known data
    from ritz.diffusion.analytic import EmpiricalDenoiser as EmpiricalDenoiser
    from ritz.diffusion.analytic import GaussianMixtureDenoiser as GaussianMixtureDenoiser

    # Networks as denoisers, and their guidance
    from ritz.diffusion.denoisers import ClassifierFreeGuidance as ClassifierFreeGuidance
    from ritz.diffusion.denoisers import ClassifierGuidance as ClassifierGuidance
    from ritz.diffusion.denoisers import DynamicThresholding as DynamicThresholding
    from ritz.diffusion.denoisers import EDMDenoiser as EDMDenoiser
    from ritz.diffusion.denoisers import NetworkDenoiser as NetworkDenoiser

    # Samplers, and the statistics that some need
    from ritz.diffusion.dpm_solver_v3 import dpm_solver_v3_sample as dpm_solver_v3_sample
    from ritz.diffusion.exponential_integrator import multistep as multistep
    from ritz.diffusion.exponential_integrator import phi as phi
    from ritz.diffusion.model_statistics import EMS as EMS
    from ritz.diffusion.model_statistics import compute_ems as compute_ems
    from ritz.diffusion.samples import Samples as Samples

    # Stochastic samplers, and log-densities
    from ritz.diffusion.log_density import log_likelihood as log_likelihood
    from ritz.diffusion.sde import ancestral_sample as ancestral_sample
    from ritz.diffusion.sde import euler_maruyama_sample as euler_maruyama_sample
    from ritz.diffusion.sde import heun_sample as heun_sample

    # Several models at once, and their log-densities on the way
    from ritz.diffusion.superdiff import ItoDensity as ItoDensity
    from ritz.diffusion.superdiff import SuperDiffResult as SuperDiffResult
    from ritz.diffusion.superdiff import ito_log_density as ito_log_density
    from ritz.diffusion.superdiff import superdiff as superdiff

    # Masked discrete diffusion
    from ritz.diffusion.masked import Geometric as Geometric
    from ritz.diffusion.masked import LogLinear as LogLinear
    from ritz.diffusion.masked import MaskedLanguageModel as MaskedLanguageModel
    from ritz.diffusion.masked import TabularMaskedModel as TabularMaskedModel
    from ritz.diffusion.masked_losses import masked_diffusion_loss as masked_diffusion_loss
    from ritz.diffusion.masked_losses import perplexity_bound as perplexity_bound
    from ritz.diffusion.masked_sampling import MaskedSamples as MaskedSamples
    from ritz.diffusion.masked_sampling import expected_nfe as expected_nfe
    from ritz.diffusion.masked_sampling import sample_any_order as sample_any_order
    from ritz.diffusion.masked_sampling import sample_masked as sample_masked
    from ritz.diffusion.radd import RADD as RADD

    # Decoding several tokens at once: strategies, what they cost, tasks that show it
    from ritz.diffusion.decoding_theory import best_partition as best_partition
    from ritz.diffusion.decoding_theory import conditional_total_correlation as conditional_total_correlation
    from ritz.diffusion.decoding_theory import list_task_accuracy as list_task_accuracy
    from ritz.diffusion.decoding_theory import parallel_kl_bound as parallel_kl_bound
    from ritz.diffusion.decoding_theory import total_correlation as total_correlation
    from ritz.diffusion.parallel_decoding import Decoded as Decoded
    from ritz.diffusion.parallel_decoding import decoding_order_correlation as decoding_order_correlation
    from ritz.diffusion.parallel_decoding import parallel_decode as parallel_decode
    from ritz.diffusion.parallelbench import generate_task as generate_task
    from ritz.diffusion.parallelbench import run_benchmark as run_benchmark
    from ritz.diffusion.parallelbench import score as score
    from ritz.diffusion.parallelbench import tasks as tasks
    from ritz.diffusion.unmask_strategies import Factor as Factor
    from ritz.diffusion.unmask_strategies import FixedPartition as FixedPartition
    from ritz.diffusion.unmask_strategies import LeftToRight as LeftToRight
    from ritz.diffusion.unmask_strategies import RandomK as RandomK
    from ritz.diffusion.unmask_strategies import RemaskLowest as RemaskLowest
    from ritz.diffusion.unmask_strategies import RunningConfidence as RunningConfidence
    from ritz.diffusion.unmask_strategies import Threshold as Threshold
    from ritz.diffusion.unmask_strategies import TopK as TopK

    # Weighted particles, and changing what a model samples from
    from ritz.diffusion.feynman_kac import WeightedSamples as WeightedSamples
    from ritz.diffusion.feynman_kac import anneal as anneal
    from ritz.diffusion.feynman_kac import fkc_sample as fkc_sample
    from ritz.diffusion.feynman_kac import geometric_average as geometric_average
    from ritz.diffusion.feynman_kac import product as product
    from ritz.diffusion.feynman_kac import tilt as tilt
    from ritz.diffusion.particles import WeightedParticles as WeightedParticles

    # Samplers as schedulers of `diffusers`
    from ritz.diffusion.multi_model_schedulers import FKCScheduler as FKCScheduler
    from ritz.diffusion.multi_model_schedulers import SuperDiffScheduler as SuperDiffScheduler
    from ritz.diffusion.schedulers import DPMSolverV3Scheduler as DPMSolverV3Scheduler

    # Noise schedules and grids of times
    from ritz.diffusion.schedules import EDM as EDM
    from ritz.diffusion.schedules import VE as VE
    from ritz.diffusion.schedules import Discrete as Discrete
    from ritz.diffusion.schedules import Flow as Flow
    from ritz.diffusion.schedules import NoiseSchedule as NoiseSchedule
    from ritz.diffusion.schedules import VPCosine as VPCosine
    from ritz.diffusion.schedules import VPLinear as VPLinear
    from ritz.diffusion.schedules import timesteps as timesteps

    # Plans of multistep solvers
    from ritz.diffusion.solver_plan import PlanStep as PlanStep
    from ritz.diffusion.solver_plan import SolverPlan as SolverPlan
    from ritz.diffusion.solver_plan import Update as Update
    from ritz.diffusion.solver_plan import dpm_solver_plan as dpm_solver_plan
    from ritz.diffusion.solver_plan import unipc_plan as unipc_plan

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
