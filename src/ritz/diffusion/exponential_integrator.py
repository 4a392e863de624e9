"""One step, one loop for the solvers of the probability-flow ODE that integrate its linear part exactly.

In the frame y = x / alpha with rho = sigma / alpha and lam = -log rho the ODE is ``dy/dlam = D(y, lam) - y = -rho eps(y, lam)``. Integrated against
the noise prediction F = eps or the data prediction F = D, with h = lam_t - lam_s > 0 and the functions phi_k below,

    noise:  y_t = y_s - rho_t sum_{k>=0} h^{k+1} phi_{k+1}(h) F^(k)(lam_s)
    data:   y_t = (rho_t / rho_s) y_s + sum_{k>=0} h^{k+1} phi_{k+1}(-h) F^(k)(lam_s)

where k = 0 alone is DDIM in both. How the derivatives F^(k) are estimated from values at earlier nodes is said step by step by a `SolverPlan`, and
carried out by `multistep`. All is linear in the values, so a step is compiled to one coefficient per value, in double precision.

Sources: Lu et al., DPM-Solver, NeurIPS 2022, arXiv:2206.00927, and DPM-Solver++, arXiv:2211.01095; Zhao et al., UniPC, NeurIPS 2023,
arXiv:2302.04867.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch

from ritz.core import array, flag, integer, real
from ritz.diffusion.denoisers import Denoiser, check_callable
from ritz.diffusion.samples import Samples
from ritz.diffusion.solver_plan import PlanStep, SolverPlan, Update

Coefficient = float | torch.Tensor
"""A factor of all coordinates, or one per coordinate, shape (*shape,)."""


def phi(k: int, z: float) -> float:
    """The k-th function of exponential integrators, ``phi_k(z) = int_0^1 e^{(1-u) z} u^{k-1} / (k-1)! du``, k >= 1.

    ``phi_1(z) = (e^z - 1) / z`` and ``phi_{k+1}(z) = (phi_k(z) - 1/k!) / z``; the recursion cancels near z = 0, where the series is summed.

    Raises
    ------
    TypeError, ValueError
        Unless k is a positive integer and z a finite number.

    Examples
    --------
    >>> round(phi(2, 1.0), 6), phi(3, 0.0) == 1 / 6
    (0.718282, True)
    """
    integer(k, "k", at_least=1)
    real(z, "z")
    if abs(z) < _SERIES_BELOW:
        return sum(z**j / math.factorial(j + k) for j in range(18))
    value = math.expm1(z) / z
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / z
    return value


_SERIES_BELOW = 1.0


class IntegratedPrediction(Protocol):
    """What a solver integrates: a function F of state and denoiser, and the integrals of the ODE's exact part against its Taylor polynomial.

    `sign` is that of z = sign h in the named relaxations.
    """

    sign: int

    def value(self, y: torch.Tensor, data: torch.Tensor, lam: float) -> torch.Tensor:
        """F at a node, from the state and the denoiser's estimate there."""

    def integrals(self, lam_s: float, lam_t: float, order: int) -> tuple[Coefficient, list[Coefficient], Coefficient]:
        """A, E_k and d of the update ``y_t = A y_s + sum_k E_k G^(k)(lam_s) + d``."""

    def relative(self, lam: float, lam_s: float) -> tuple[Coefficient, Coefficient]:
        """P and q of ``G(lam) = P F(lam) + q``, the function that is smooth seen from the start of the update."""


class _PlainPrediction:
    def relative(self, lam: float, lam_s: float) -> tuple[Coefficient, Coefficient]:
        return 1.0, 0.0


class NoisePrediction(_PlainPrediction):
    """F = eps, the noise prediction."""

    sign = 1

    def value(self, y: torch.Tensor, data: torch.Tensor, lam: float) -> torch.Tensor:
        return (y - data) * math.exp(lam)

    def integrals(self, lam_s: float, lam_t: float, order: int) -> tuple[Coefficient, list[Coefficient], Coefficient]:
        h = lam_t - lam_s
        return 1.0, [-math.exp(-lam_t) * h ** (k + 1) * phi(k + 1, h) for k in range(order)], 0.0


class DataPrediction(_PlainPrediction):
    """F = D, the data prediction."""

    sign = -1

    def value(self, y: torch.Tensor, data: torch.Tensor, lam: float) -> torch.Tensor:
        return data

    def integrals(self, lam_s: float, lam_t: float, order: int) -> tuple[Coefficient, list[Coefficient], Coefficient]:
        h = lam_t - lam_s
        return math.exp(-h), [h ** (k + 1) * phi(k + 1, -h) for k in range(order)], 0.0


PLAIN_PREDICTIONS: Mapping[str, IntegratedPrediction] = {"noise": NoisePrediction(), "data": DataPrediction()}


@dataclass(frozen=True)
class LinearUpdate:
    """A compiled update ``y_t = decay y_s + sum_j weights[j] F_j + offset``, start and weights by nodes counted back from the newest."""

    start: int
    decay: Coefficient
    weights: dict[int, Coefficient]
    offset: Coefficient = 0.0

    def to(self, like: torch.Tensor) -> LinearUpdate:
        """The same update with its tensors in the dtype and on the device of `like`."""

        def move(value: Coefficient) -> Coefficient:
            return value.to(like) if isinstance(value, torch.Tensor) else value

        return LinearUpdate(self.start, move(self.decay), {j: move(w) for j, w in self.weights.items()}, move(self.offset))

    def __call__(self, states: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> torch.Tensor:
        y = states[self.start] * self.decay
        for node, weight in self.weights.items():
            y = y.addcmul_(values[node], weight) if isinstance(weight, torch.Tensor) else y.add_(values[node], alpha=weight)
        return y if isinstance(self.offset, float) and self.offset == 0 else y.add_(self.offset)


def compile_update(update: Update, lam: Sequence[float], target: float, prediction: IntegratedPrediction) -> LinearUpdate:
    """Turn an update to `target` into coefficients; `lam` holds the nodes up to the newest."""
    start = lam[update.start]
    decay, factors, offset = prediction.integrals(start, target, update.order)
    slopes = _difference_weights(update, lam, target - start, prediction.sign)
    weights, offset = {}, offset
    for node in sorted({update.start, *(node for row in slopes for node in row)}, reverse=True):
        coefficient = sum((row.get(node, 0.0) * factor for row, factor in zip(slopes, factors)), 0.0)
        scale, shift = prediction.relative(lam[node], start)
        weights[node] = coefficient * scale
        offset = offset + coefficient * shift
    return LinearUpdate(update.start, decay, weights, offset)


def compile_plan(
    plan: SolverPlan, lam: Sequence[float], predictions: Mapping[str, IntegratedPrediction] = PLAIN_PREDICTIONS
) -> list[tuple[LinearUpdate, LinearUpdate | None]]:
    """Predictor and corrector of each step as coefficients, in double precision."""
    compiled = []
    for i, step in enumerate(plan.steps):
        prediction, target = predictions[step.prediction], lam[i + 1]
        corrector = step.corrector and compile_update(step.corrector, lam[: i + 2], target, prediction)
        compiled.append((compile_update(step.predictor, lam[: i + 1], target, prediction), corrector))
    return compiled


class MultistepSolver:
    """A plan on its way: holds the states and values that later steps look back at, and takes one step per denoiser call.

    This is the loop body of `multistep` and of the schedulers: whoever owns the loop calls the denoiser and hands in what it said.

    Attributes
    ----------
    states : list of Tensor
        The states of the nodes so far, corrected where the plan says so.
    values : dict of str to list of Tensor
        For each prediction the plan uses, its values at the same nodes.
    """

    def __init__(
        self,
        plan: SolverPlan,
        lam: Sequence[float],
        predictions: Mapping[str, IntegratedPrediction] = PLAIN_PREDICTIONS,
        compiled: list[tuple[LinearUpdate, LinearUpdate | None]] | None = None,
    ):
        self.plan, self.lam, self.predictions = plan, lam, predictions
        self.compiled = compile_plan(plan, lam, predictions) if compiled is None else compiled
        self.used = {name: max(_reach(step) for step in plan.steps if step.prediction == name) for name in {s.prediction for s in plan.steps}}
        self.states: list[torch.Tensor] = []
        self.values: dict[str, list[torch.Tensor]] = {name: [] for name in self.used}
        self.position = 0

    def step(self, y: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
        """Take the denoiser's estimate `data` at the state `y` of the newest node, correct that state, and return the next node's."""
        self.record(y, data)
        self.correct()
        return self.predict()

    def record(self, y: torch.Tensor, data: torch.Tensor) -> None:
        """Enter a node with what the denoiser said there."""
        self.states.append(y)
        for name, values in self.values.items():
            values.append(self.predictions[name].value(y, data, self.lam[self.position]))
        self._forget()

    def correct(self) -> None:
        """Redo the step that led to the newest node, if the plan says so; the denoiser's estimate stays."""
        if self.position and (corrector := self.compiled[self.position - 1][1]):
            name = self.plan.steps[self.position - 1].prediction
            self.states[-1] = corrector.to(self.states[-1])(self.states, self.values[name])

    def predict(self) -> torch.Tensor:
        """Return the state at the next node."""
        predictor, name = self.compiled[self.position][0], self.plan.steps[self.position].prediction
        self.position += 1
        return predictor.to(self.states[-1])(self.states, self.values[name])

    def _forget(self) -> None:
        keep = max(self.used.values())
        del self.states[:-keep]
        for values in self.values.values():
            del values[:-keep]


def multistep(
    denoiser: Denoiser,
    y: torch.Tensor,
    lam: Sequence[float] | np.ndarray,
    plan: SolverPlan,
    *,
    predictions: Mapping[str, IntegratedPrediction] | None = None,
    keep_trajectory: bool = False,
) -> Samples:
    """Integrate the probability-flow ODE over the nodes `lam` as `plan` says, with one denoiser call per step.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``, called with the noise level of the node as a float.
    y : Tensor (batch, *shape)
        The state at the first node, in the frame y = x / alpha: noise of deviation exp(-lam[0]) around the data.
    lam : array (steps + 1,)
        Rising half-log-SNRs of the nodes: ``schedule.lam(timesteps(schedule, steps))``.
    plan : SolverPlan
        What to do at each step.
    predictions : mapping, optional
        Further things to integrate, by the name the plan uses; "noise" and "data" are there.
    keep_trajectory : bool
        Return the states at all nodes too (before their correction: where the denoiser was called).

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        For a bad argument, or if the denoiser returns another shape or something not finite (the message names the step).

    Examples
    --------
    >>> from ritz.diffusion import EDM, GaussianMixtureDenoiser, timesteps, unipc_plan
    >>> schedule, denoiser = EDM(), GaussianMixtureDenoiser([1.0], [[1.0, -1.0]], [1e-6])
    >>> lam = schedule.lam(timesteps(schedule, 10))
    >>> result = multistep(denoiser, torch.full((1, 2), 80.0), lam, unipc_plan(10))
    >>> result.x.round(decimals=2), result.nfe
    (tensor([[ 1., -1.]]), 10)
    """
    check_callable(denoiser, "denoiser")
    y = check_start(y, "y")
    lam = array(lam, "lam", ndim=1)
    nodes = [float(value) for value in lam]
    if any(b <= a for a, b in pairwise(nodes)):
        raise ValueError("lam must rise strictly from node to node: samplers go from noise to data")
    if not isinstance(plan, SolverPlan):
        raise TypeError(f"plan must be a SolverPlan, got {type(plan).__name__}")
    if len(nodes) != len(plan.steps) + 1:
        raise ValueError(f"lam must hold {len(plan.steps) + 1} nodes, one more than the plan has steps, got {len(nodes)}")
    known = PLAIN_PREDICTIONS | dict(predictions or {})
    unknown = {step.prediction for step in plan.steps} - known.keys()
    if unknown:
        raise ValueError(f"predictions must hold what the plan integrates: {', '.join(sorted(unknown))} is missing")
    return run_solver(denoiser, y, MultistepSolver(plan, nodes, known), keep_trajectory=flag(keep_trajectory, "keep_trajectory"))


def run_solver(denoiser: Denoiser, y: torch.Tensor, solver: MultistepSolver, *, keep_trajectory: bool = False) -> Samples:
    """Drive a fresh solver to its end: one denoiser call at each of its nodes but the last."""
    trajectory = [y]
    for i, lam in enumerate(solver.lam[:-1]):
        sigma = math.exp(-lam)
        data = denoiser(y, sigma)
        check_answer(data, y, f"step {i + 1}", sigma)
        y = solver.step(y, data)
        if keep_trajectory:
            trajectory.append(y)
    return Samples(y, len(solver.lam) - 1, torch.stack(trajectory) if keep_trajectory else None)


def check_answer(data: torch.Tensor, y: torch.Tensor, where: str, sigma: float) -> None:
    """Refuse a denoiser's answer that would spoil all later steps."""
    if data.shape != y.shape:
        raise ValueError(f"denoiser must return the shape of its input, {tuple(y.shape)}, got {tuple(data.shape)} at {where}")
    if not bool(torch.isfinite(data).all()):
        raise ValueError(f"denoiser returned values that are not finite at {where} (sigma = {sigma:.4g})")


def check_start(y: object, name: str) -> torch.Tensor:
    """Return a starting state (batch, *shape) of floating dtype, or refuse it."""
    if not isinstance(y, torch.Tensor) or not y.is_floating_point():
        kind = f"a tensor of {y.dtype}" if isinstance(y, torch.Tensor) else type(y).__name__
        raise TypeError(f"{name} must be a floating-point tensor (batch, *shape), got {kind}")
    y = array(y, name)
    if y.ndim < 2:
        raise ValueError(f"{name} must have shape (batch, *shape), got {tuple(y.shape)}")
    return y


def _reach(step: PlanStep) -> int:
    return max(step.predictor.reach, step.corrector.reach if step.corrector else 1)


def _difference_weights(update: Update, lam: Sequence[float], h: float, sign: int) -> list[dict[int, float]]:
    """For each derivative k = 0..order-1 the weights of the values at the nodes."""
    start = update.start
    rows = [{start: 1.0}]
    for k, nodes in enumerate(update.points, start=1):
        offsets = [lam[node] - lam[start] for node in nodes]
        weights = _taylor_weights(k, offsets) if update.estimator == "taylor" else _divided_weights(k, offsets)
        relaxed = _relaxation(update.relaxation, h, sign) if k == 1 else 1.0
        row = {node: relaxed * float(weight) for node, weight in zip(nodes, weights)}
        rows.append(row | {start: -sum(row.values())})
    return rows


def _taylor_weights(k: int, offsets: Sequence[float]) -> np.ndarray:
    """a with ``sum_j a_j offset_j^i / i! = [i == k]`` for i = 1..len(offsets), so that ``sum_j a_j (F_j - F_s)`` estimates F^(k)."""
    scale = max(map(abs, offsets))
    powers = np.array([[(offset / scale) ** i / math.factorial(i) for offset in offsets] for i in range(1, len(offsets) + 1)])
    return np.linalg.solve(powers, np.eye(len(offsets))[k - 1]) / scale**k


def _divided_weights(k: int, offsets: Sequence[float]) -> np.ndarray:
    """Weights of ``F_j - F_s`` in k! times the divided difference over the start and the first k offsets."""
    nodes = [0.0, *offsets[:k]]
    products = [math.prod(a - b for b in nodes if b != a) for a in nodes[1:]]
    return np.array([math.factorial(k) / product for product in products] + [0.0] * (len(offsets) - k))


def _relaxation(relaxation: float | str, h: float, sign: int) -> float:
    if not isinstance(relaxation, str):
        return 1 + relaxation * h
    z = sign * h
    return 0.5 * (z if relaxation == "bh1" else math.expm1(z)) / (z * phi(2, z))
