"""A small network that ranks sampling plans: which of two will do better, learned from plans that were tried.

Liu et al., ICLR 2024, arXiv:2312.07243, section 5, after the predictor of OMS-DPM (Liu et al., ICML 2023, arXiv:2306.08860). The layer widths and the
margin are those of that work's code; the paper does not give them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ritz.diffusion.plan_genes import PlanGenes, StepGenes
from ritz.diffusion.schedules import NoiseSchedule
from ritz.diffusion.unified_sampling import FIRST_STEPS, PREDICTED

ORDERS, SLOPE_POINTS, RELAXATIONS = (1, 2, 3, 4), (1, 2, 3), ("bh1", "bh2")
DECISIONS = len(ORDERS) + len(SLOPE_POINTS) + len(RELAXATIONS) + len(PREDICTED) + len(FIRST_STEPS) + 2
FREQUENCIES, EMBEDDING, HIDDEN = 64, 64, 128
MARGIN, LEARNING_RATE, BATCH = 0.1, 1e-3, 64


class PlanRanking(nn.Module):
    """Maps plans to numbers, smaller for plans that it takes for better: an LSTM over the steps, each a time embedding beside its decisions."""

    def __init__(self, schedule: NoiseSchedule, seed: int = 0):
        super().__init__()
        self.schedule, self.generator = schedule, torch.Generator().manual_seed(seed)
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.decisions = nn.Sequential(nn.Linear(DECISIONS, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.sequence = nn.LSTM(2 * EMBEDDING, HIDDEN, batch_first=True)
        self.score = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1))
        self.register_buffer("frequencies", torch.exp(-math.log(1000.0) * torch.arange(FREQUENCIES) / FREQUENCIES))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)

    def forward(self, lam: torch.Tensor, decisions: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Scores (batch,) of plans with times lam (batch, steps), decisions (batch, steps, DECISIONS) and so many steps each (batch,)."""
        angle = lam[..., None] * self.frequencies
        hidden = torch.cat([self.time(torch.cat([angle.sin(), angle.cos()], dim=-1)), self.decisions(decisions)], dim=-1)
        outputs = self.sequence(hidden)[0]
        return self.score(outputs[torch.arange(len(lam)), lengths - 1])[:, 0]

    def fit(self, plans: Sequence[PlanGenes], scores: Sequence[float], epochs: int) -> None:
        """Learn the order of the scores by the hinge loss over all pairs of a batch, ``max(0, margin - sign(s_j - s_i) (p_j - p_i))``."""
        inputs = self.encoded(plans)
        ranks = torch.from_numpy(np.unique(scores, return_inverse=True)[1])
        for _ in range(epochs):
            batch = torch.randperm(len(ranks), generator=self.generator)[:BATCH]
            signs = torch.sign(ranks[batch][None, :] - ranks[batch][:, None])
            self.optimizer.zero_grad()
            predicted = self(*(part[batch] for part in inputs))
            differences = predicted[None, :] - predicted[:, None]
            loss = torch.relu(MARGIN - signs * differences)[signs != 0].mean()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def predict(self, plans: Sequence[PlanGenes]) -> np.ndarray:
        """Scores (plans,)."""
        return self(*self.encoded(plans)).numpy()

    def encoded(self, plans: Sequence[PlanGenes]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The plans as the network's input; shorter ones are filled up with zeros at the end."""
        lengths = [len(plan.steps) for plan in plans]
        lam, decisions = np.zeros((len(plans), max(lengths))), np.zeros((len(plans), max(lengths), DECISIONS))
        for row, plan in enumerate(plans):
            lam[row, : lengths[row]] = self.schedule.lam(np.array(plan.times[1:]))
            decisions[row, : lengths[row]] = [_encoded_step(step, plan.first_step) for step in plan.steps]
        return torch.from_numpy(lam).float(), torch.from_numpy(decisions).float(), torch.tensor(lengths)


def _encoded_step(genes: StepGenes, first_step: str) -> list[float]:
    number = 0.0 if isinstance(genes.relaxation, str) else genes.relaxation
    chosen = (
        (ORDERS, genes.order),
        (SLOPE_POINTS, genes.slope_points),
        (RELAXATIONS, genes.relaxation),
        (PREDICTED, genes.prediction),
        (FIRST_STEPS, first_step),
    )
    return [*(float(option == value) for options, value in chosen for option in options), float(genes.corrected), 10 * number]
