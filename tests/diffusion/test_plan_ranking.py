"""The ranking network: it learns an order that depends on the decisions, whatever their number of steps."""

import numpy as np
import torch
from scipy.stats import kendalltau

from ritz.diffusion import VPLinear
from ritz.diffusion.plan_genes import Variation, fixed_solvers
from ritz.diffusion.plan_ranking import DECISIONS, PlanRanking

SCHEDULE = VPLinear()


def _plans(count):
    variation = Variation(np.random.default_rng(0), SCHEDULE, ("noise", "data"), ("network", "zero"))
    plans = fixed_solvers(SCHEDULE, 4, ("noise", "data"), SCHEDULE.t_min)
    return [variation.mutated(plans[i % len(plans)], (1e-3, 1e-3)) for i in range(count)]


def _score(genes):
    """Something that depends on the times, the orders and the predictions."""
    return SCHEDULE.lam(genes.times[1]) + 0.5 * sum(step.order for step in genes.steps) + sum(step.prediction == "data" for step in genes.steps)


def test_it_learns_to_rank_plans_it_has_not_seen():
    plans = _plans(200)
    scores = [_score(genes) for genes in plans]
    torch.manual_seed(0)
    ranking = PlanRanking(SCHEDULE)
    before = kendalltau(ranking.predict(plans[120:]), scores[120:]).statistic
    ranking.fit(plans[:120], scores[:120], 80)
    after = kendalltau(ranking.predict(plans[120:]), scores[120:]).statistic
    assert after > 0.5 > abs(before)


def test_infinite_scores_are_the_worst():
    plans = _plans(40)
    scores = [_score(genes) for genes in plans]
    scores[::4] = [float("inf")] * len(scores[::4])
    torch.manual_seed(0)
    ranking = PlanRanking(SCHEDULE)
    ranking.fit(plans, scores, 60)
    predicted = ranking.predict(plans)
    assert predicted[::4].mean() > np.delete(predicted, slice(None, None, 4)).mean() + 0.1


def test_plans_of_different_lengths_are_scored_alone_as_together():
    plans = _plans(30)
    assert {len(genes.steps) for genes in plans} == {4, 5}
    torch.manual_seed(0)
    ranking = PlanRanking(SCHEDULE)
    assert np.allclose(ranking.predict(plans), np.concatenate([ranking.predict([genes]) for genes in plans]), atol=1e-6)


def test_every_decision_is_encoded():
    plans = _plans(60)
    lam, decisions, lengths = PlanRanking(SCHEDULE).encoded(plans)
    assert decisions.shape == (60, 5, DECISIONS)
    assert lam.shape == (60, 5)
    rows = {tuple(decisions[i, : lengths[i]].flatten().tolist() + lam[i].tolist()) for i in range(60)}
    assert len(rows) == len(set(plans))
