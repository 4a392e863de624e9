"""Plans: what a multistep solver of the probability-flow ODE does at each of its steps.

The solvers of this family differ in a few decisions per step: what they integrate (noise, data, or something learned about the model), to which
order, from which earlier values they estimate the derivatives, and whether they correct a step once its end has been evaluated. A `SolverPlan`
writes the decisions down; `ritz.diffusion.multistep` carries them out.

Sources: Lu et al., DPM-Solver, NeurIPS 2022, arXiv:2206.00927, and DPM-Solver++, arXiv:2211.01095; Zhao et al., UniPC, NeurIPS 2023,
arXiv:2302.04867; Liu et al., ICLR 2024, arXiv:2312.07243, section 4 (the decisions as one table).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ritz.core import choice, flag, integer, real


@dataclass(frozen=True)
class Update:
    """One update of the state: from which node it starts, and which nodes estimate the derivatives there.

    Nodes are counted back from the newest one, -1. The k-th derivative is estimated from the start and ``points[k - 1]``.

    Parameters
    ----------
    order : int
        Number of terms: the value and order - 1 derivatives.
    points : tuple of tuple of int
        For each derivative k = 1..order-1 at least k nodes other than the start.
    start : int
        The node the update starts from: -1, or -2 in a corrector that redoes the last step.
    relaxation : float or {"bh1", "bh2"}
        The first derivative is multiplied by 1 + relaxation h, or by the factor of UniPC's shortcut,
        ``z B(z) / (2 (e^z - 1 - z))`` with B(z) = z ("bh1") or e^z - 1 ("bh2"; with data prediction the midpoint form of DPM-Solver++(2M)).
    estimator : {"taylor", "divided"}
        Taylor: match all points of a derivative as well as a polynomial can. Divided: k! times Newton's divided difference over the start and the
        first k points, each derivative by itself accurate to first order only (DPM-Solver-v3 calls this pseudo order).

    Raises
    ------
    TypeError, ValueError
        If an option is none of the above, or the points do not suffice or repeat.

    Examples
    --------
    >>> Update.over(order=3, points=(-2, -3)).points
    ((-2, -3), (-2, -3))
    """

    order: int
    points: tuple[tuple[int, ...], ...] = ()
    start: int = -1
    relaxation: float | Literal["bh1", "bh2"] = 0.0
    estimator: Literal["taylor", "divided"] = "taylor"

    def __post_init__(self):
        integer(self.order, "order", at_least=1)
        integer(self.start, "start", at_most=-1)
        choice(self.estimator, "estimator", ("taylor", "divided"))
        if isinstance(self.relaxation, str):
            choice(self.relaxation, "relaxation", ("bh1", "bh2"))
        else:
            real(self.relaxation, "relaxation")
        if len(self.points) != self.order - 1:
            raise ValueError(f"points must name the nodes of {self.order - 1} derivatives for order {self.order}, got {len(self.points)}")
        for k, nodes in enumerate(self.points, start=1):
            if len({*nodes, self.start}) != len(nodes) + 1 or len(nodes) < k or max(nodes) > -1:
                raise ValueError(f"points of derivative {k} must be at least {k} distinct negative nodes without the start {self.start}, got {nodes}")

    @classmethod
    def over(cls, order: int, points: Sequence[int], **options) -> Update:
        """An update that estimates all derivatives from the same points."""
        return cls(order, (tuple(points),) * (integer(order, "order", at_least=1) - 1), **options)

    @property
    def reach(self) -> int:
        """How many nodes back it looks."""
        return -min(self.start, *(node for nodes in self.points for node in nodes), -1)

    def redone(self, relaxation: float | str = 0.0) -> Update:
        """The corrector that redoes this update with its end as a further point of every derivative, and one order more."""
        points = tuple((-1, *(node - 1 for node in nodes)) for nodes in self.points)
        widest = max(points, key=len, default=(-1,))
        return Update(self.order + 1, (*points, widest), self.start - 1, relaxation, self.estimator)


@dataclass(frozen=True)
class PlanStep:
    """One step of a plan: predict the next node, evaluate the denoiser there, and perhaps correct with that evaluation.

    Parameters
    ----------
    predictor : Update
        Leads from the newest node to the next.
    corrector : Update, optional
        Redoes the step once the denoiser was evaluated at its end, which is then node -1 (the start is node -2). The evaluation stays as it is,
        and no further call is made.
    prediction : str
        What is integrated: "noise", "data", or a name given to `multistep` through `predictions`.
    implicit : bool
        Evaluate the denoiser again at the corrected state, by one more call, and keep that evaluation instead.

    Raises
    ------
    TypeError, ValueError
        If predictor or corrector are no updates, prediction is no string, or an implicit step has no corrector.
    """

    predictor: Update
    corrector: Update | None = None
    prediction: str = "data"
    implicit: bool = False

    def __post_init__(self):
        if not isinstance(self.predictor, Update):
            raise TypeError(f"predictor must be an Update, got {type(self.predictor).__name__}")
        if self.corrector is not None and not isinstance(self.corrector, Update):
            raise TypeError(f"corrector must be an Update or None, got {type(self.corrector).__name__}")
        if not isinstance(self.prediction, str):
            raise TypeError(f"prediction must be a string, got {type(self.prediction).__name__}")
        if flag(self.implicit, "implicit") and self.corrector is None:
            raise ValueError("implicit steps must have a corrector")


@dataclass(frozen=True)
class SolverPlan:
    """What a solver does at each of its steps.

    Parameters
    ----------
    steps : tuple of PlanStep
        One per step. A step may look back only at nodes that exist; the last one has no corrector, since nothing is evaluated at its end.

    Raises
    ------
    TypeError, ValueError
        If there is no step, or one looks back too far.

    Examples
    --------
    >>> plan = dpm_solver_plan(4, order=3)
    >>> [step.predictor.order for step in plan.steps]
    [1, 2, 2, 1]
    """

    steps: tuple[PlanStep, ...]

    @property
    def calls(self) -> int:
        """How often the denoiser is called: once per step, and once more for implicit ones."""
        return len(self.steps) + sum(step.implicit for step in self.steps)

    def __post_init__(self):
        if not self.steps or not all(isinstance(step, PlanStep) for step in self.steps):
            raise TypeError("steps must be one PlanStep or more")
        for i, step in enumerate(self.steps):
            if step.predictor.reach > i + 1 or (step.corrector and step.corrector.reach > i + 2):
                raise ValueError(f"steps: step {i + 1} looks back at nodes before the first")
        if self.steps[-1].corrector is not None:
            raise ValueError("steps: the last step has a corrector, but nothing is evaluated at its end")


def warm_up_orders(steps: int, order: int, lower_order_final: bool) -> list[int]:
    """The orders of a multistep solver: 1, 2, .. up to `order`, and down again to 1 at the end if `lower_order_final`."""
    return [min(i, order, steps + 1 - i if lower_order_final else order) for i in range(1, steps + 1)]


def dpm_solver_plan(steps: int, *, order: int = 3, prediction: str = "data", lower_order_final: bool = True) -> SolverPlan:
    """Plan of multistep DPM-Solver++ (data prediction) or DPM-Solver (noise prediction), in Taylor form; order 1 is DDIM.

    Order 2 is the variant that `diffusers` calls "heun". At order 3 the third term is the full Taylor one, whereas the released multistep codes take
    half of it (a second divided difference without its factor 2), which lowers their order to 2.

    Parameters
    ----------
    steps : int
        Number of steps, and of denoiser calls.
    order : int
        Order of convergence, 1 to 3; beyond that the low orders of the first steps decide the error.
    prediction : {"data", "noise"}
        What is integrated.
    lower_order_final : bool
        Lower the order at the last steps, for stability with few of them.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> dpm_solver_plan(3, order=1).steps[2].predictor
    Update(order=1, points=(), start=-1, relaxation=0.0, estimator='taylor')
    """
    integer(steps, "steps", at_least=1)
    integer(order, "order", at_least=1, at_most=3)
    choice(prediction, "prediction", ("data", "noise"))
    orders = warm_up_orders(steps, order, flag(lower_order_final, "lower_order_final"))
    return SolverPlan(tuple(PlanStep(Update.over(p, older_nodes(p)), None, prediction) for p in orders))


def unipc_plan(
    steps: int,
    *,
    order: int = 3,
    variant: Literal["bh1", "bh2"] = "bh2",
    prediction: str = "data",
    corrector: bool = True,
    lower_order_final: bool = True,
) -> SolverPlan:
    """Plan of UniPC-p: a predictor of order p, and a corrector of order p + 1 that reuses the same evaluation.

    B(h), the choice between "bh1" and "bh2", only matters in the shortcuts: the predictor of order 2 and the corrector after a first-order step.

    Parameters
    ----------
    steps, order, prediction, lower_order_final
        As in `dpm_solver_plan`.
    variant : {"bh1", "bh2"}
        B(z) = z or e^z - 1.
    corrector : bool
        Without it this is UniP-p.

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> unipc_plan(3, order=2).steps[1].corrector.order
    3
    """
    integer(steps, "steps", at_least=1)
    integer(order, "order", at_least=1, at_most=3)
    choice(variant, "variant", ("bh1", "bh2"))
    choice(prediction, "prediction", ("data", "noise"))
    flag(corrector, "corrector")
    planned = []
    for i, p in enumerate(warm_up_orders(steps, order, flag(lower_order_final, "lower_order_final")), start=1):
        predictor = Update.over(p, older_nodes(p), relaxation=variant if p == 2 else 0.0)
        redo = Update.over(p + 1, corrector_nodes(p + 1), start=-2, relaxation=variant if p == 1 else 0.0)
        planned.append(PlanStep(predictor, redo if corrector and i < steps else None, prediction))
    return SolverPlan(tuple(planned))


def older_nodes(order: int) -> tuple[int, ...]:
    """The nodes beside the newest that a predictor of this order uses."""
    return tuple(range(-2, -order - 1, -1))


def corrector_nodes(order: int) -> tuple[int, ...]:
    """The nodes beside its start -2 that a corrector of this order uses: the new one first, then older ones."""
    return (-1, *range(-3, -order - 1, -1))[: order - 1]
