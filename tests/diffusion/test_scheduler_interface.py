"""What every scheduler of ours must do in `diffusers`, after the tests that diffusers has for its own; a new one is a line of `CASES`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import pytest
import torch

from ritz.diffusion import EMS, Discrete, DPMSolverV3Scheduler, Flow, GaussianMixtureDenoiser
from ritz.diffusion.scheduler_interface import PREDICTION_TYPES, SolverScheduler, training_schedule

diffusers = pytest.importorskip("diffusers")

STEPS = 6
EXACT = GaussianMixtureDenoiser(torch.ones(2), [[0.5, -0.2], [-0.5, 0.4]], [0.1, 0.2])
NOISE = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Case:
    """A kind of scheduler with options, and what it must be given before `set_timesteps` can be called without it."""

    kind: type[SolverScheduler]
    options: dict = field(default_factory=dict)
    prepare: Callable[[SolverScheduler], None] = lambda scheduler: None

    def make(self, **options) -> SolverScheduler:
        return self.prepared(self.kind(**self.options | options))

    def prepared(self, scheduler: SolverScheduler) -> SolverScheduler:
        self.prepare(scheduler)
        return scheduler

    def __str__(self):
        return "-".join([self.kind.__name__, *map(str, self.options.values())])


def _with_statistics(scheduler: DPMSolverV3Scheduler) -> None:
    schedule = scheduler.schedule
    scheduler.ems = EMS.degenerate("data", np.linspace(schedule.lam(schedule.t_max), schedule.lam(schedule.t_min), 401))


CASES = [
    Case(DPMSolverV3Scheduler, {}, _with_statistics),
    Case(DPMSolverV3Scheduler, {"spacing": "uniform", "solver_order": 2}, _with_statistics),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
each_kind = pytest.mark.parametrize("case", {case.kind: case for case in CASES}.values(), ids=str)


def exact_network(scheduler: SolverScheduler):
    """A network trained as the scheduler's configuration says, which knows the data distribution."""
    schedule, kind = scheduler.schedule, scheduler.config.prediction_type

    def network(x, timestep):
        t = scheduler._from_timesteps(timestep.double())
        alpha, sigma = schedule.alpha(t).reshape(-1, 1), schedule.sigma(t).reshape(-1, 1)
        data = EXACT(x.double() / alpha, (sigma / alpha).expand(len(x), 1)[:, 0])
        noise = (x - alpha * data) / sigma
        output = {"epsilon": noise, "sample": data, "v_prediction": alpha * noise - sigma * data, "flow_prediction": noise - data}[kind]
        return output.to(x.dtype)

    return network


def drive(scheduler: SolverScheduler, network, steps: int = STEPS, sample: torch.Tensor = NOISE) -> torch.Tensor:
    """The loop of every pipeline."""
    scheduler.set_timesteps(steps)
    sample = sample * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        output = network(scheduler.scale_model_input(sample, timestep), timestep)
        sample = scheduler.step(output, timestep, sample).prev_sample
    return sample


@every_case
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_samples_come_from_the_data(case, prediction_type):
    """With many steps of an exact network the samples have the mean and the covariance of the data."""
    scheduler = case.make(prediction_type=prediction_type)
    noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    samples = drive(scheduler, exact_network(scheduler), 30, noise)
    true = EXACT.sample(100000, 0).float()
    assert torch.allclose(samples.mean(0), true.mean(0), atol=0.05)
    assert torch.allclose(samples.T.cov(), true.T.cov(), atol=0.05)


@every_case
def test_the_kinds_of_network_output_are_one_to_the_solver(case):
    first, *others = (case.make(prediction_type=kind) for kind in ("epsilon", "sample", "v_prediction"))
    expected = drive(first, exact_network(first))
    for other in others:
        assert torch.allclose(drive(other, exact_network(other)), expected, rtol=1e-3, atol=1e-4)


@every_case
def test_same_input_same_output_and_set_timesteps_forgets(case):
    scheduler = case.make()
    network = exact_network(scheduler)
    first = drive(scheduler, network)
    assert torch.equal(drive(scheduler, network), first)
    assert torch.equal(drive(case.make(), network), first)


@every_case
def test_an_unfinished_walk_is_forgotten(case):
    scheduler = case.make()
    network = exact_network(scheduler)
    expected = drive(scheduler, network)
    scheduler.set_timesteps(STEPS + 2)
    for timestep in scheduler.timesteps[: 2 * scheduler.order]:
        scheduler.step(NOISE, timestep, NOISE)
    assert torch.equal(drive(scheduler, network), expected)


@every_case
@pytest.mark.parametrize("steps", [4, STEPS, 10])
def test_timesteps_fall_from_noise_to_data(case, steps):
    scheduler = case.make()
    scheduler.set_timesteps(steps)
    starts = scheduler.timesteps[:: scheduler.order]
    assert len(scheduler.timesteps) == steps * scheduler.order
    assert scheduler.num_inference_steps == steps
    assert bool((torch.diff(starts) < 0).all())
    assert float(starts[0]) <= scheduler.config.num_train_timesteps - 1 + 1e-3
    assert float(scheduler.timesteps.min()) >= -1e-3


@each_kind
def test_timesteps_go_to_the_device_asked_for(case):
    scheduler = case.make()
    scheduler.set_timesteps(STEPS, device="meta")
    assert scheduler.timesteps.device.type == "meta"
    scheduler.set_timesteps(STEPS, device=torch.device("cpu"))
    assert scheduler.timesteps.device.type == "cpu"


@each_kind
@pytest.mark.gpu
def test_steps_are_taken_where_the_sample_is(case):
    scheduler = case.make()
    network = exact_network(scheduler)
    expected = drive(scheduler, network)
    found = drive(scheduler, lambda x, timestep: network(x.cpu(), timestep.cpu()).cuda(), sample=NOISE.cuda())
    assert found.is_cuda
    assert torch.allclose(found.cpu(), expected, atol=1e-4)


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_samples_keep_their_type(case, dtype):
    scheduler = case.make()
    samples = drive(scheduler, exact_network(scheduler), sample=NOISE.to(dtype))
    assert samples.dtype == dtype
    expected = drive(scheduler, exact_network(scheduler), sample=NOISE.to(dtype).double())
    assert torch.allclose(samples.double(), expected, atol={torch.float16: 2e-2, torch.bfloat16: 0.2, torch.float32: 1e-4, torch.float64: 0}[dtype])


@each_kind
def test_step_returns_an_output_or_a_tuple(case):
    scheduler = case.make()
    scheduler.set_timesteps(STEPS)
    output = scheduler.step(NOISE, scheduler.timesteps[0], NOISE)
    scheduler.set_timesteps(STEPS)
    (sample,) = scheduler.step(NOISE, scheduler.timesteps[0], NOISE, return_dict=False)
    assert torch.equal(output.prev_sample, sample)
    assert torch.equal(scheduler.scale_model_input(NOISE, scheduler.timesteps[0]), NOISE)


@every_case
def test_an_input_is_not_changed(case):
    scheduler = case.make()
    scheduler.set_timesteps(STEPS)
    sample, output = NOISE.clone(), NOISE.flip(0)
    for timestep in scheduler.timesteps:
        scheduler.step(output, timestep, sample)
    assert torch.equal(sample, NOISE)
    assert torch.equal(output, NOISE.flip(0))


@every_case
@pytest.mark.parametrize("first", [0, 2, STEPS - 1])
def test_noise_that_was_added_is_taken_away_again(case, first):
    """Of one point the denoiser is constant, which every solver integrates exactly: what is left is the noise of the last node."""
    scheduler = case.make(prediction_type="sample")
    scheduler.set_timesteps(STEPS)
    clean = torch.full_like(NOISE, 0.7)
    timesteps = scheduler.timesteps[first * scheduler.order :]
    sample = scheduler.add_noise(clean, NOISE, timesteps[:1].expand(len(NOISE)))
    for timestep in timesteps:
        sample = scheduler.step(clean, timestep, sample).prev_sample
    assert torch.allclose(sample, scheduler._alphas[-1] * clean + scheduler._sigmas[-1] * NOISE, atol=1e-3)


@every_case
def test_a_start_in_the_middle_is_found_by_its_timestep_or_set_by_the_pipeline(case):
    results = []
    for told in (False, True):
        scheduler = case.make()
        scheduler.set_timesteps(STEPS)
        first = 3 * scheduler.order
        if told:
            scheduler.set_begin_index(first)
            assert scheduler.begin_index == first
        sample = NOISE
        for timestep in scheduler.timesteps[first:]:
            sample = scheduler.step(exact_network(scheduler)(sample, timestep), timestep, sample).prev_sample
        assert scheduler.step_index == len(scheduler.timesteps)
        results.append(sample)
    assert torch.equal(*results)
    assert torch.isfinite(sample).all()
    with pytest.raises(ValueError, match="step was called"):
        scheduler.step(sample, scheduler.timesteps[-1], sample)


@each_kind
def test_noise_is_added_as_the_schedule_says(case):
    scheduler, clean, timesteps = case.make(), torch.ones(2, 3), torch.tensor([250, 700])
    alpha = torch.from_numpy(scheduler.schedule.alphas_cumprod[[250, 700]]).sqrt().float()
    expected = alpha + 2 * (1 - alpha**2).sqrt()
    assert torch.allclose(scheduler.add_noise(clean, 2 * torch.ones(2, 3), timesteps), expected[:, None].expand(2, 3), rtol=1e-5)
    straight = case.make(prediction_type="flow_prediction", flow_shift=3.0).add_noise(clean, 2 * torch.ones(2, 3), timesteps)
    assert torch.allclose(straight, (1 + timesteps / 1000)[:, None].expand(2, 3), rtol=1e-5)


@every_case
def test_the_configuration_survives_saving(case, tmp_path):
    scheduler = case.make(beta_schedule="scaled_linear", num_train_timesteps=500)
    scheduler.save_pretrained(tmp_path)
    again = case.prepared(case.kind.from_pretrained(tmp_path))
    assert all(again.config[name] == value for name, value in scheduler.config.items() if not name.startswith("_"))
    network = exact_network(scheduler)
    assert torch.equal(drive(again, network), drive(scheduler, network))


@each_kind
@pytest.mark.parametrize(
    "other", ["DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"]
)
def test_a_configuration_of_diffusers_is_understood_and_given_back(case, other):
    theirs = getattr(diffusers, other)(beta_schedule="scaled_linear", prediction_type="v_prediction", num_train_timesteps=800)
    scheduler = case.prepared(case.kind.from_config(theirs.config))
    assert scheduler.config.prediction_type == "v_prediction"
    assert len(scheduler) == 800
    assert np.allclose(scheduler.schedule.alphas_cumprod, theirs.alphas_cumprod.numpy(), rtol=1e-4)
    assert torch.isfinite(drive(scheduler, exact_network(scheduler))).all()
    back = type(theirs).from_config(scheduler.config)
    assert back.config.beta_schedule == "scaled_linear"
    assert other in [kind.__name__ for kind in scheduler.compatibles]


def test_a_configuration_goes_from_each_of_ours_to_each_other():
    for one, other in permutations({case.kind: case for case in CASES}.values(), 2):
        scheduler = other.kind.from_config(one.make(beta_end=0.015, prediction_type="v_prediction").config)
        assert scheduler.config.beta_end == 0.015
        assert scheduler.config.prediction_type == "v_prediction"


@each_kind
def test_refusals(case):
    scheduler = case.make()
    with pytest.raises(ValueError, match="set_timesteps must be called"):
        scheduler.step(NOISE, 0, NOISE)
    with pytest.raises(ValueError, match="num_inference_steps"):
        scheduler.set_timesteps(0)
    with pytest.raises(ValueError, match="begin_index"):
        scheduler.set_begin_index(-1)
    scheduler.set_timesteps(STEPS)
    with pytest.raises(ValueError, match="model_output"):
        scheduler.step(NOISE[:3], scheduler.timesteps[0], NOISE)
    for options, name in (({"spacing": "cosine"}, "spacing"), ({"beta_schedule": "cubic"}, "beta_schedule"), ({"flow_shift": 0.0}, "flow_shift")):
        with pytest.raises(ValueError, match=name):
            case.make(**options)


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_betas_are_those_of_diffusers(beta_schedule):
    other = diffusers.DPMSolverMultistepScheduler(beta_schedule=beta_schedule)
    ours = training_schedule(1000, 0.0001, 0.02, beta_schedule, None, "epsilon", 1.0)
    assert np.allclose(np.log(ours.alphas_cumprod), np.log(other.alphas_cumprod.double().numpy()), rtol=1e-4, atol=1e-6)


def test_trained_betas_and_straight_paths():
    betas = np.linspace(1e-3, 0.05, 50)
    schedule = training_schedule(50, 0.0001, 0.02, "linear", betas.tolist(), "epsilon", 1.0)
    assert isinstance(schedule, Discrete)
    assert np.allclose(schedule.alphas_cumprod, np.cumprod(1 - betas))
    assert training_schedule(50, 0.0001, 0.02, "linear", None, "flow_prediction", 3.0) == Flow(shift=3.0)


@pytest.fixture(scope="module")
def components():
    """Networks of pipelines in the smallest sizes."""
    torch.manual_seed(0)
    blocks = {"block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 8}
    return {
        "unet": diffusers.UNet2DModel(down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False, **blocks),
        "text_unet": diffusers.UNet2DConditionModel(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=2,
            **blocks,
        ),
        "transformer": diffusers.DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=4, num_layers=1, norm_num_groups=4, sample_size=8
        ),
        "vae": diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, sample_size=8),
    }


def _text_pipeline(kind, components, scheduler):
    absent = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    return kind(vae=components["vae"], unet=components["text_unet"], scheduler=scheduler, requires_safety_checker=False, **absent)


PROMPT = {"prompt_embeds": torch.ones(1, 5, 8), "negative_prompt_embeds": -torch.ones(1, 5, 8)}
PIPELINES = {
    "unconditional": lambda c, scheduler: (diffusers.DDPMPipeline(c["unet"], scheduler), {"batch_size": 2}),
    "classes": lambda c, scheduler: (diffusers.DiTPipeline(c["transformer"], c["vae"], scheduler), {"class_labels": [3, 7]}),
    "text": lambda c, scheduler: (_text_pipeline(diffusers.StableDiffusionPipeline, c, scheduler), PROMPT),
    "image to image": lambda c, scheduler: (
        _text_pipeline(diffusers.StableDiffusionImg2ImgPipeline, c, scheduler),
        PROMPT | {"image": torch.full((1, 3, 8, 8), 0.5), "strength": 0.7},
    ),
}


@every_case
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_it_runs_in_a_pipeline(case, pipeline, components):
    """Twenty steps, near the images that a scheduler of diffusers makes of the same noise."""
    images = []
    scheduler = case.make()
    for used in (scheduler, diffusers.DPMSolverMultistepScheduler(final_sigmas_type="sigma_min", steps_offset=1)):
        pipe, arguments = PIPELINES[pipeline](components, used)
        pipe.set_progress_bar_config(disable=True)
        images.append(pipe(**arguments, num_inference_steps=20, generator=torch.Generator().manual_seed(0), output_type="np").images)
    assert images[0].shape == images[1].shape
    assert np.abs(images[0] - images[1]).mean() < 0.05
