"""Plans: warm-up, refusal of histories that do not exist."""

import pytest
from specimens import Specimen

from ritz.diffusion import PlanStep, SolverPlan, Update, dpm_solver_plan, unipc_plan


def test_orders_rise_at_the_start_and_fall_at_the_end():
    assert [step.predictor.order for step in dpm_solver_plan(7, order=3).steps] == [1, 2, 3, 3, 3, 2, 1]
    assert [step.predictor.order for step in dpm_solver_plan(5, order=3, lower_order_final=False).steps] == [1, 2, 3, 3, 3]
    assert [step.predictor.order for step in dpm_solver_plan(1, order=3).steps] == [1]


def test_unipc_corrects_to_one_order_more_than_it_predicts_except_at_the_last_step():
    plan = unipc_plan(6, order=3)
    assert [step.corrector.order for step in plan.steps[:-1]] == [2, 3, 4, 4, 3]
    assert plan.steps[-1].corrector is None
    assert plan.steps[3].corrector.points[0] == (-1, -3, -4)
    assert all(step.corrector is None for step in unipc_plan(6, corrector=False).steps)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Update(2, ()), "points"),
        (lambda: Update(3, ((-2,), (-2,))), "points"),
        (lambda: Update(2, ((-1,),)), "points"),
        (lambda: Update(3, ((-2, -2), (-2, -3))), "points"),
        (lambda: Update(2, ((0,),)), "points"),
        (lambda: Update(1, relaxation="bh3"), "relaxation"),
        (lambda: Update(1, estimator="secant"), "estimator"),
        (lambda: SolverPlan((PlanStep(Update.over(2, (-2,))),)), "steps"),
        (lambda: SolverPlan((PlanStep(Update(1), Update.over(2, (-1,), start=-2)),)), "last step has a corrector"),
        (lambda: SolverPlan((PlanStep(Update(1), Update.over(3, (-1, -3), start=-2)), PlanStep(Update(1)))), "before the first"),
    ],
)
def test_impossible_plans_are_refused(make, name):
    with pytest.raises(ValueError, match=name):
        make()


@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda: SolverPlan(()), "steps"), (lambda: PlanStep(3), "predictor"), (lambda: PlanStep(Update(1), 3), "corrector")],
)
def test_what_is_no_plan_is_refused(make, name):
    with pytest.raises(TypeError, match=name):
        make()


def test_plans_are_values():
    assert unipc_plan(5) == unipc_plan(5)
    assert hash(unipc_plan(5)) == hash(unipc_plan(5))
    assert unipc_plan(5) != unipc_plan(5, variant="bh1")


SPECIMENS = {
    "Update": Specimen(Update, lambda: {"order": 2, "points": ((-2,),), "start": -1, "relaxation": 0.0, "estimator": "taylor"}),
    "PlanStep": Specimen(PlanStep, lambda: {"predictor": Update(1), "prediction": "data"}, accepts={"prediction": ("unknown word",)}),
    "SolverPlan": Specimen(SolverPlan, lambda: {"steps": (PlanStep(Update(1)),)}),
    "dpm_solver_plan": Specimen(dpm_solver_plan, lambda: {"steps": 5, "order": 2, "prediction": "data", "lower_order_final": True}),
    "unipc_plan": Specimen(
        unipc_plan,
        lambda: {"steps": 5, "order": 2, "variant": "bh1", "prediction": "data", "corrector": True, "lower_order_final": True},
    ),
}
