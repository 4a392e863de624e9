"""DC-Solver: UniPC at ratio one, what compensation does to the history, and the search."""

import math

import numpy as np
import pytest
import torch
from specimens import Specimen

import ritz.diffusion.dc_solver as module
from ritz.diffusion import (
    ClassifierFreeGuidance,
    Compensation,
    GaussianMixtureDenoiser,
    VPLinear,
    dc_sample,
    multistep,
    search_compensation,
    timesteps,
    unipc_plan,
)
from ritz.diffusion.dc_solver import CompensatedSolver, lagrange_weights

SCHEDULE = VPLinear()
MIXTURE = GaussianMixtureDenoiser([1.0, 1.0], torch.tensor([[0.5, 0.0], [-0.5, 0.3]], dtype=torch.float64), torch.tensor([0.05, 0.1]))
ONE = GaussianMixtureDenoiser([1.0], torch.tensor([[0.5, 0.0]], dtype=torch.float64), torch.tensor([0.05]))
GUIDED = ClassifierFreeGuidance(ONE, MIXTURE, 5.0)


def _starts(n=10, seed=0):
    return SCHEDULE.rho(1.0) * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("corrector", [True, False])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("spacing", ["uniform", "logsnr"])
def test_ratio_one_is_unipc_bit_for_bit(spacing, order, variant, corrector):
    for steps in (3, 8):
        ours = dc_sample(GUIDED, _starts(), SCHEDULE, Compensation(np.ones(steps), spacing, order, variant), corrector=corrector)
        plan = unipc_plan(steps, order=order, variant=variant, corrector=corrector)
        assert torch.equal(ours.x, multistep(GUIDED, _starts(), SCHEDULE.lam(timesteps(SCHEDULE, steps, spacing)), plan).x)


@pytest.mark.parametrize("dc_order", [1, 2, 3])
@pytest.mark.parametrize("ratio", [-0.3, 0.0, 0.5, 1.0, 1.7])
def test_weights_interpolate(ratio, dc_order):
    times = [0.2, 0.35, 0.6, 0.9][: dc_order + 1]
    weights = lagrange_weights(ratio, times)
    assert sum(weights) == pytest.approx(1.0, abs=1e-12)
    at = ratio * times[0] + (1 - ratio) * times[1]
    for degree in range(dc_order + 1):
        assert sum(w * t**degree for w, t in zip(weights, times)) == pytest.approx(at**degree, abs=1e-12)
    if ratio in (0.0, 1.0):
        assert weights == [float(k == 1 - ratio) for k in range(dc_order + 1)]


@pytest.mark.parametrize("dc_order", [1, 2, 3])
def test_a_prediction_polynomial_in_time_is_compensated_exactly(dc_order):
    times = timesteps(SCHEDULE, 6)
    solver = CompensatedSolver(SCHEDULE, times, Compensation(np.ones(6), dc_order=dc_order), [0.4] * 6, True)

    def data(t):
        return torch.full((1, 2), (0.5 + t) ** dc_order, dtype=torch.float64)

    y = _starts(1)
    for i in range(dc_order + 1):
        solver.record(y, data(times[i]))
        solver.correct()
        if i == dc_order:
            solver.predict()
            at = 0.4 * times[i] + 0.6 * times[i - 1]
            assert torch.allclose(solver.values["data"][-1], data(at), rtol=1e-12, atol=0)
        else:
            y = solver.predict()


def test_ratio_zero_takes_the_previous_prediction_and_keeps_it():
    """The later steps and the corrector see the compensated prediction, not the one that the network gave."""
    times = timesteps(SCHEDULE, 5)
    solver = CompensatedSolver(SCHEDULE, times, Compensation(np.ones(5)), [1.0, 1.0, 0.0, 1.0, 1.0], True)
    predictions = [torch.full((1, 2), float(value), dtype=torch.float64) for value in (1, 2, 4, 8)]
    y = _starts(1)
    for data in predictions[:3]:
        y = solver.step(y, data)
    assert torch.equal(solver.values["data"][-1], predictions[1])
    start = solver.states[-1].clone()
    solver.record(y, predictions[3])
    solver.correct()
    corrector = solver.compiled[2][1]
    assert torch.equal(torch.stack(solver.values["data"][-3:]), torch.stack([predictions[1], predictions[1], predictions[3]]))
    history = [predictions[0], predictions[1], predictions[1], predictions[3]]
    assert torch.equal(solver.states[-1], corrector([start, y], history))


@pytest.mark.parametrize("corrector", [True, False])
def test_calls_are_steps(corrector):
    calls = []
    result = dc_sample(
        lambda y, sigma: calls.append(sigma) or MIXTURE(y, sigma),
        _starts(),
        SCHEDULE,
        Compensation([1, 1, 0.5, 1.5, 1, 0]),
        corrector=corrector,
    )
    assert len(calls) == result.nfe == 6


@pytest.fixture(scope="module")
def searched():
    return search_compensation(GUIDED, _starts(), SCHEDULE, steps=5, spacing="logsnr", reference_steps=300, iterations=25)


def test_the_search_never_does_worse_than_ratio_one(searched):
    times = timesteps(SCHEDULE, 5, "logsnr")
    targets = module._states_at(times, *module._ddim_trajectory(GUIDED, _starts(), SCHEDULE, 300), SCHEDULE)
    solver = CompensatedSolver(SCHEDULE, times, searched, searched.ratios, True)
    search = module._Search(GUIDED, solver, targets, 1, 0.1)
    y = _starts()
    for i in range(5):
        solver.record(y, GUIDED(y, math.exp(-solver.lam[i])))
        solver.correct()
        chosen, plain = float(search._loss(searched.ratios[i], i)), float(search._loss(1.0, i))
        assert chosen == pytest.approx(searched.losses[i], rel=1e-9)
        assert chosen <= plain
        assert i >= 2 or searched.ratios[i] == 1
        y = solver.predict()
    assert np.any(searched.ratios != 1)


def test_the_search_is_deterministic_and_remembers_its_settings(searched):
    again = search_compensation(GUIDED, _starts(), SCHEDULE, steps=5, spacing="logsnr", reference_steps=300, iterations=25)
    assert np.array_equal(again.ratios, searched.ratios)
    assert (searched.guidance, searched.spacing, searched.order, searched.variant, searched.steps) == (5.0, "logsnr", 3, "bh1", 5)
    assert np.array_equal(searched.times, timesteps(SCHEDULE, 5, "logsnr"))
    with pytest.raises(ValueError, match="compensation was made for times"):
        dc_sample(GUIDED, _starts(), VPLinear(t_min=0.01), searched)


def test_searched_ratios_serve_other_samples(searched):
    reference = multistep(GUIDED, _starts(64, 1), SCHEDULE.lam(timesteps(SCHEDULE, 400)), unipc_plan(400)).x
    ours, plain = (dc_sample(GUIDED, _starts(64, 1), SCHEDULE, one).x for one in (searched, Compensation(np.ones(5), "logsnr")))
    assert float(((ours - reference) ** 2).mean()) < 0.5 * float(((plain - reference) ** 2).mean())


def test_without_a_corrector_the_search_differentiates_no_denoiser():
    graded = []
    result = search_compensation(
        lambda y, sigma: graded.append(y.requires_grad) or GUIDED(y, sigma),
        _starts(),
        SCHEDULE,
        steps=4,
        corrector=False,
        reference_steps=50,
        iterations=5,
    )
    assert not any(graded)
    assert len(graded) == 50 + 4
    assert result.guidance is None


def test_a_reference_may_be_given():
    times = timesteps(SCHEDULE, 200, "quadratic")
    states = multistep(GUIDED, _starts(), SCHEDULE.lam(times), unipc_plan(200), keep_trajectory=True).trajectory
    options = {"steps": 4, "spacing": "logsnr", "iterations": 10}
    given = search_compensation(GUIDED, _starts(), SCHEDULE, reference=(times, states), **options)
    made = search_compensation(GUIDED, _starts(), SCHEDULE, reference_steps=999, **options)
    assert np.allclose(given.ratios, made.ratios, atol=0.05)


def test_the_reference_is_interpolated_as_a_ddim_step_does():
    """Of one point the trajectories are linear in rho."""
    times = timesteps(SCHEDULE, 20, "uniform")
    lines = torch.from_numpy(SCHEDULE.rho(times))[:, None, None] * _starts(3) / SCHEDULE.rho(1.0)
    wanted = timesteps(SCHEDULE, 7, "logsnr")
    found = module._states_at(wanted, times, lines, SCHEDULE)
    assert torch.allclose(found, torch.from_numpy(SCHEDULE.rho(wanted))[:, None, None] * _starts(3) / SCHEDULE.rho(1.0), rtol=1e-12)


def test_single_precision_is_kept(searched):
    assert dc_sample(GUIDED, _starts().float(), SCHEDULE, searched).x.dtype == torch.float32
    found = search_compensation(GUIDED, _starts().float(), SCHEDULE, steps=4, reference_steps=50, iterations=3)
    assert np.all(np.isfinite(found.ratios))


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"steps": 2}, ValueError, "steps"),
        ({"dc_order": 0}, ValueError, "dc_order"),
        ({"dc_order": 4}, ValueError, "dc_order"),
        ({"order": 4}, ValueError, "order"),
        ({"iterations": 0}, ValueError, "iterations"),
        ({"lr": 0.0}, ValueError, "lr"),
        ({"reference_steps": 3}, ValueError, "reference_steps"),
        ({"reference": (np.linspace(0.9, 1e-3, 5), torch.zeros(5, 10, 2))}, ValueError, "reference must fall"),
        ({"reference": (np.linspace(1, 1e-2, 5), torch.zeros(5, 10, 2))}, ValueError, "reference must fall"),
        ({"reference": (np.linspace(1, 1e-3, 5), torch.zeros(4, 10, 2))}, ValueError, "reference states"),
        ({"reference": 5}, TypeError, "reference"),
        ({"denoiser": lambda y, sigma: y / (y - y) if sigma < 0.3 else MIXTURE(y, sigma)}, ValueError, "not finite at step"),
        ({"lr": 1e200}, ValueError, "not finite at step"),
    ],
)
def test_refusals(change, error, name):
    with pytest.raises(error, match=name):
        search_compensation(**{"denoiser": MIXTURE, "x_T": _starts(), "schedule": SCHEDULE, "steps": 5, "reference_steps": 20} | change)


def test_a_compensation_is_wanted():
    with pytest.raises(TypeError, match="compensation"):
        dc_sample(MIXTURE, _starts(), SCHEDULE, [1.0, 1.0])


SPECIMENS = {
    "dc_sample": Specimen(
        lambda **arguments: dc_sample(lambda y, sigma: y / (1 + sigma**2), schedule=SCHEDULE, compensation=Compensation([1, 1, 0.9]), **arguments),
        lambda: {"x_T": torch.ones(2, 3, dtype=torch.float64), "corrector": True},
        accepts={"x_T": ("more dimensions",)},
    ),
    "search_compensation": Specimen(
        lambda **arguments: search_compensation(lambda y, sigma: y / (1 + sigma**2), schedule=SCHEDULE, **arguments),
        lambda: {
            "x_T": torch.ones(2, 3, dtype=torch.float64),
            "steps": 3,
            "order": 2,
            "variant": "bh2",
            "dc_order": 2,
            "corrector": True,
            "spacing": "logsnr",
            "reference_steps": 8,
            "iterations": 2,
            "lr": 0.1,
        },
        accepts={"x_T": ("more dimensions",)},
    ),
}
