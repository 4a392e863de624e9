"""The search: deterministic, never worse than the solvers of fixed form, of one number of calls, and not stopped by a plan that diverges."""

import numpy as np
import pytest
import torch
from specimens import Specimen

import ritz.diffusion.solver_search as module
from ritz.diffusion import (
    GaussianMixtureDenoiser,
    SamplingPlan,
    SearchResult,
    SolverSearch,
    VPLinear,
    compute_ems,
    dpm_solver_plan,
    multistep,
    timesteps,
    usf_sample,
)

SCHEDULE = VPLinear()
MIXTURE = GaussianMixtureDenoiser([1.0, 1.0, 1.0], torch.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], dtype=torch.float64), [0.02, 0.05, 0.03])
STARTS = SCHEDULE.rho(1.0) * torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _search(**options):
    return SolverSearch(MIXTURE, STARTS, SCHEDULE, **{"nfe": 4, "evaluations": 100} | options)


@pytest.fixture(scope="module", autouse=True)
def _short_training():
    """The network learns for an eighth of the time: what is tested here is not how well it ranks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FIRST_EPOCHS", 15)
        patch.setattr(module, "LATER_EPOCHS", 3)
        yield


@pytest.fixture(scope="module", params=[True, False], ids=["predictor", "plain"])
def found(request):
    return _search(predictor=request.param).run()


def test_it_is_deterministic_given_the_seed(found):
    predictor = found.predictor_kendall_tau is not None
    again = _search(predictor=predictor).run()
    assert again.evaluated == found.evaluated
    assert np.array_equal(again.scores, found.scores)
    assert _search(predictor=predictor, seed=1).run().evaluated[48:] != found.evaluated[48:]


def test_the_best_score_never_rises(found):
    assert len(found.history) == len(found.scores) == len(found.evaluated) == 100
    assert np.all(np.diff(found.history) <= 0)
    assert found.history[-1] == found.score == found.scores.min()
    assert found.evaluated[int(np.argmin(found.scores))] == found.best


def test_every_plan_has_the_number_of_calls_asked_for_and_is_new(found):
    assert {plan.calls for plan in found.evaluated} == {4}
    assert len({(plan.times, plan.steps, plan.first_step) for plan in found.evaluated}) == 100
    assert found.seeds == 48
    assert found.best_fixed in found.evaluated[:48]


def test_scores_are_distances_to_a_fine_solution(found):
    fine = multistep(MIXTURE, STARTS, SCHEDULE.lam(timesteps(SCHEDULE, 2000)), dpm_solver_plan(2000)).x
    for plan in (found.best, found.best_fixed):
        distance = (usf_sample(MIXTURE, STARTS, SCHEDULE, plan).x - fine).norm(dim=1).mean()
        assert float(distance) == pytest.approx(found.scores[found.evaluated.index(plan)], rel=1e-3)


def test_more_evaluations_find_better_plans():
    assert _search(evaluations=160, predictor=False).run().score < _search(evaluations=48).run().score


def test_only_a_predictor_reports_its_rank_correlation(request, found):
    if "predictor" in request.node.name.split("[")[1]:
        assert -1 <= found.predictor_kendall_tau <= 1
    else:
        assert found.predictor_kendall_tau is None


def test_an_objective_of_your_own():
    result = _search(objective=lambda x: float(x.norm()), evaluations=50, predictor=False).run()
    assert result.score == pytest.approx(float(usf_sample(MIXTURE, STARTS, SCHEDULE, result.best).x.norm()))


def test_plans_that_diverge_score_infinity_and_do_not_stop_the_search():
    def fragile(y, sigma):
        return MIXTURE(y, sigma) / (0.0 if 0.4 < sigma < 0.9 else 1.0)

    result = SolverSearch(fragile, STARTS, SCHEDULE, nfe=4, evaluations=60, objective=lambda x: float(x.norm()), predictor=False).run()
    assert np.isinf(result.scores).any()
    assert np.isfinite(result.score)
    assert len(result.scores) == 60


def test_an_objective_that_is_not_a_number_is_the_worst():
    result = _search(objective=lambda x: float("nan"), evaluations=50, predictor=False).run()
    assert np.all(np.isinf(result.scores))


def test_a_denoiser_of_another_shape_stops_the_search():
    with pytest.raises(ValueError, match="denoiser must return the shape"):
        SolverSearch(lambda y, sigma: y[:1], STARTS, SCHEDULE, nfe=4, objective=lambda x: 0.0).run()


def test_statistics_and_a_mean_open_more_plans():
    ems = compute_ems(MIXTURE, SCHEDULE, (2,), grid_size=400, samples=8, generator=0, dtype=torch.float64)
    result = _search(ems=ems, mean_x0=torch.zeros(2), evaluations=100, predictor=False).run()
    assert result.seeds == 72
    assert any(step.prediction == "ems" for plan in result.evaluated for step in plan.steps)
    assert {plan.first_step for plan in result.evaluated} == {"network", "zero", "mean"}
    assert {plan.calls for plan in result.evaluated} == {4}


def test_the_last_time_may_be_searched():
    result = _search(t_end_range=(1e-3, 5e-3), evaluations=100, predictor=False).run()
    ends = {plan.times[-1] for plan in result.evaluated}
    assert len(ends) > 5
    assert 1e-3 <= min(ends) < max(ends) <= 5e-3


def test_few_evaluations_try_the_first_of_the_fixed_solvers():
    result = _search(evaluations=5).run()
    assert result.seeds == len(result.scores) == 5


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"nfe": 1}, ValueError, "nfe"),
        ({"evaluations": 0}, ValueError, "evaluations"),
        ({"population": 1}, ValueError, "population"),
        ({"objective": "fid"}, TypeError, "objective"),
        ({"ems": "file"}, TypeError, "ems"),
        ({"mean_x0": torch.zeros(3)}, ValueError, "mean_x0"),
        ({"t_end_range": (0.5, 0.1)}, ValueError, "t_end_range"),
        ({"t_end_range": 0.1}, TypeError, "t_end_range"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_refusals(change, error, name):
    with pytest.raises(error, match=name):
        _search(**change)


PLAN = SamplingPlan.on((1.0, 0.5, 0.1), dpm_solver_plan(2))
SPECIMENS = {
    "SolverSearch": Specimen(
        lambda **arguments: SolverSearch(MIXTURE, schedule=SCHEDULE, **arguments),
        lambda: {"x_T": STARTS.clone(), "nfe": 4, "evaluations": 80, "population": 15, "predictor": False, "mean_x0": torch.zeros(2), "seed": 0},
        accepts={"x_T": ("more dimensions",), "mean_x0": ("none",)},
        spare=frozenset({"mean_x0"}),
    ),
    "SearchResult": Specimen(lambda **_: SearchResult(PLAN, 0.1, np.array([0.1]), (PLAN,), np.array([0.1]), 1), dict),
}
