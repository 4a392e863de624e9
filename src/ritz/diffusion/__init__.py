"""Schedules, denoisers, samplers and bridges."""

from typing import TYPE_CHECKING

from ritz.core.lazy import lazy_exports

if TYPE_CHECKING:
    # Exact denoisers of known data
    from ritz.diffusion.analytic import EmpiricalDenoiser as EmpiricalDenoiser
    from ritz.diffusion.analytic import GaussianMixtureDenoiser as GaussianMixtureDenoiser

    # Bridges and interpolants between two distributions
    from ritz.diffusion.interpolant_mixture import GaussianMixtureInterpolant as GaussianMixtureInterpolant
    from ritz.diffusion.interpolant_samplers import TransportedSamples as TransportedSamples
    from ritz.diffusion.interpolant_samplers import interpolant_flow as interpolant_flow
    from ritz.diffusion.interpolant_samplers import interpolant_sde as interpolant_sde
    from ritz.diffusion.interpolants import Interpolant as Interpolant
    from ritz.diffusion.interpolants import InterpolantNoise as InterpolantNoise
    from ritz.diffusion.interpolants import InterpolantPath as InterpolantPath
    from ritz.diffusion.interpolants import ScoreFromDenoiser as ScoreFromDenoiser
    from ritz.diffusion.interpolants import VelocityFromParts as VelocityFromParts
    from ritz.diffusion.interpolants import interpolant_losses as interpolant_losses
    from ritz.diffusion.light_schrodinger_bridge import LightSchrodingerBridge as LightSchrodingerBridge
    from ritz.diffusion.schrodinger_interpolant import SchrodingerInterpolant as SchrodingerInterpolant
    from ritz.diffusion.schrodinger_interpolant import schrodinger_bridge_interpolant as schrodinger_bridge_interpolant

    # Linear inverse problems
    from ritz.diffusion.decomposed_diffusion_sampler import DataConsistency as DataConsistency
    from ritz.diffusion.decomposed_diffusion_sampler import conjugate_gradient as conjugate_gradient
    from ritz.diffusion.decomposed_diffusion_sampler import data_consistent_sample as data_consistent_sample
    from ritz.diffusion.decomposed_diffusion_sampler import dds_sample as dds_sample
    from ritz.diffusion.decomposed_diffusion_sampler import dds_tv3d_sample as dds_tv3d_sample
    from ritz.diffusion.decomposed_diffusion_scheduler import DDSScheduler as DDSScheduler
    from ritz.diffusion.measurement_operators import Blur as Blur
    from ritz.diffusion.measurement_operators import Inpainting as Inpainting
    from ritz.diffusion.measurement_operators import MaskedFourier as MaskedFourier
    from ritz.diffusion.measurement_operators import MatrixMeasurements as MatrixMeasurements
    from ritz.diffusion.measurement_operators import ParallelBeam as ParallelBeam

    # Markov chains whose states are denoised
    from ritz.diffusion.denoising_mcmc import ChainSamples as ChainSamples
    from ritz.diffusion.denoising_mcmc import ChainState as ChainState
    from ritz.diffusion.denoising_mcmc import DenoisingLangevinGibbs as DenoisingLangevinGibbs
    from ritz.diffusion.denoising_mcmc import MetropolisLangevin as MetropolisLangevin
    from ritz.diffusion.denoising_mcmc import dmcmc_transition as dmcmc_transition
    from ritz.diffusion.denoising_mcmc import langevin_move as langevin_move
    from ritz.diffusion.noise_posterior import AnalyticNoisePosterior as AnalyticNoisePosterior
    from ritz.diffusion.noise_posterior import NoiseClassifier as NoiseClassifier
    from ritz.diffusion.noise_posterior import NoiseClassifierTraining as NoiseClassifierTraining
    from ritz.diffusion.noise_posterior import noise_level_grid as noise_level_grid
    from ritz.diffusion.noise_posterior import train_noise_classifier as train_noise_classifier
    from ritz.diffusion.reverse_integrator import ReverseIntegrator as ReverseIntegrator

    # Rare samples
    from ritz.diffusion.minority_guidance import MinorityClassifier as MinorityClassifier
    from ritz.diffusion.minority_guidance import MinorityGuidance as MinorityGuidance
    from ritz.diffusion.minority_guidance import MinorityScoreTransformer as MinorityScoreTransformer
    from ritz.diffusion.minority_guidance import MinorityTraining as MinorityTraining
    from ritz.diffusion.minority_guidance import minority_labels as minority_labels
    from ritz.diffusion.minority_guidance import minority_score as minority_score
    from ritz.diffusion.minority_guidance import train_minority_classifier as train_minority_classifier

    # Poisson flows
    from ritz.diffusion.poisson_flow import PoissonFlow as PoissonFlow
    from ritz.diffusion.poisson_flow import pfgmpp_field as pfgmpp_field
    from ritz.diffusion.poisson_flow import pfgmpp_loss as pfgmpp_loss
    from ritz.diffusion.poisson_flow import pfgmpp_sample as pfgmpp_sample
    from ritz.diffusion.poisson_flow_scheduler import PFGMPPHeunScheduler as PFGMPPHeunScheduler

    # Networks as denoisers, and their guidance
    from ritz.diffusion.denoisers import ClassifierFreeGuidance as ClassifierFreeGuidance
    from ritz.diffusion.denoisers import ClassifierGuidance as ClassifierGuidance
    from ritz.diffusion.denoisers import DynamicThresholding as DynamicThresholding
    from ritz.diffusion.denoisers import EDMDenoiser as EDMDenoiser
    from ritz.diffusion.denoisers import NetworkDenoiser as NetworkDenoiser

    # Samplers, and the statistics or ratios that some need
    from ritz.diffusion.compensation import CascadePolynomial as CascadePolynomial
    from ritz.diffusion.compensation import Compensation as Compensation
    from ritz.diffusion.compensation import fit_cascade as fit_cascade
    from ritz.diffusion.dc_solver import dc_sample as dc_sample
    from ritz.diffusion.dc_solver import search_compensation as search_compensation
    from ritz.diffusion.deis import deis_coefficients as deis_coefficients
    from ritz.diffusion.deis import deis_sample as deis_sample
    from ritz.diffusion.dpm_solver_v3 import dpm_solver_v3_sample as dpm_solver_v3_sample
    from ritz.diffusion.exponential_integrator import multistep as multistep
    from ritz.diffusion.exponential_integrator import phi as phi
    from ritz.diffusion.model_statistics import EMS as EMS
    from ritz.diffusion.model_statistics import compute_ems as compute_ems
    from ritz.diffusion.samples import Samples as Samples

    # Stochastic samplers, and log-densities
    from ritz.diffusion.log_density import log_likelihood as log_likelihood
    from ritz.diffusion.sde import ancestral_sample as ancestral_sample
    from ritz.diffusion.sde import dpm_solver_pp_sample as dpm_solver_pp_sample
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

    # Plans with times, and the search for the best one
    from ritz.diffusion.solver_search import SearchResult as SearchResult
    from ritz.diffusion.solver_search import SolverSearch as SolverSearch
    from ritz.diffusion.unified_sampling import SamplingPlan as SamplingPlan
    from ritz.diffusion.unified_sampling import plan_nfe as plan_nfe
    from ritz.diffusion.unified_sampling import usf_sample as usf_sample

    # Samplers as schedulers of `diffusers`
    from ritz.diffusion.schedulers import DCSolverScheduler as DCSolverScheduler
    from ritz.diffusion.schedulers import DEISScheduler as DEISScheduler
    from ritz.diffusion.multi_model_schedulers import FKCScheduler as FKCScheduler
    from ritz.diffusion.multi_model_schedulers import SuperDiffScheduler as SuperDiffScheduler
    from ritz.diffusion.schedulers import DPMSolverV3Scheduler as DPMSolverV3Scheduler
    from ritz.diffusion.schedulers import USFScheduler as USFScheduler

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
