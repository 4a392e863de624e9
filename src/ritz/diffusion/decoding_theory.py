"""What parallel decoding costs at best: exact information-theoretic floors, and accuracies of list tasks in closed form.

Kang et al., "ParallelBench: Understanding the Trade-offs of Parallel Decoding in Diffusion LLMs", ICLR 2026, arXiv:2510.04767, sections 3 and 4.
Tokens that are decoded in one step are independent of each other given the ones before. The Kullback-Leibler divergence from the true law of a step's
tokens Y given X is at least their conditional total correlation ``C(Y | X) = sum_i H(y_i | X) - H(Y | X)``, and by the chain rule a schedule of
steps S_1, .., S_T costs exactly ``sum_t C(S_t | X, S_1 .. S_{t-1})`` with an ideal model. All values are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ritz.core import array, choice, integer

ONE_STEP_TASKS = ("copy", "reverse", "sort", "replace_index", "insert_index", "remove_index")
LIST_TASKS = (*ONE_STEP_TASKS, "replace_random", "shuffle")
LONGEST = 8


def total_correlation(joint) -> float:
    """Return ``sum_i H(y_i) - H(y)`` of a joint law given as a table, one axis per variable: zero if and only if they are independent.

    Parameters
    ----------
    joint : array
        Non-negative; divided by its sum.

    Raises
    ------
    TypeError, ValueError
        For what is no table of probabilities.

    Examples
    --------
    >>> round(total_correlation([[0.5, 0.0], [0.0, 0.5]]) / math.log(2), 12)
    1.0
    """
    return conditional_total_correlation(joint, ())


def conditional_total_correlation(joint, given: Sequence[int]) -> float:
    """Return ``sum_i H(y_i | x) - H(y | x)``, where x are the variables of the axes `given`, and y all others.

    Parameters
    ----------
    joint : array
        As in `total_correlation`.
    given : sequence of int
        Axes.

    Raises
    ------
    TypeError, ValueError
        For what is no table of probabilities, or no set of its axes.

    Examples
    --------
    >>> conditional_total_correlation([[0.5, 0.0], [0.0, 0.5]], [0])
    0.0
    """
    entropies = Entropies(joint)
    known = entropies.subset(given, "given")
    return entropies.cost(known, entropies.everything & ~known)


def parallel_kl_bound(joint, partition: Sequence[Sequence[int]], *, given: Sequence[int] = ()) -> float:
    """Return the divergence of what an ideal model decodes in the given steps from the true law: the floor for any model with this schedule.

    Parameters
    ----------
    joint : array
        As in `total_correlation`.
    partition : sequence of sequences of int
        The axes that are decoded in each step; together all axes but the given ones, each once.
    given : sequence of int
        Axes of the prompt.

    Raises
    ------
    TypeError, ValueError
        For what is no table of probabilities, or no partition.

    Examples
    --------
    >>> equal_bits = [[0.5, 0.0], [0.0, 0.5]]
    >>> round(parallel_kl_bound(equal_bits, [[0, 1]]), 4), parallel_kl_bound(equal_bits, [[0], [1]])
    (0.6931, 0.0)
    """
    entropies = Entropies(joint)
    known, total = entropies.subset(given, "given"), 0.0
    for axes in partition:
        step = entropies.subset(axes, "partition")
        if not step or step & known:
            raise ValueError(f"partition must hold non-empty sets of axes, each axis once, got {partition!r:.80}")
        total, known = total + entropies.cost(known, step), known | step
    if known != entropies.everything:
        raise ValueError(f"partition must hold all {entropies.count} axes of joint but the given ones, got {partition!r:.80}")
    return total


def best_partition(joint, steps: int) -> tuple[tuple[tuple[int, ...], ...], float]:
    """Return the ordered partition into `steps` sets with the lowest `parallel_kl_bound`, and that bound; exact, for at most eight variables.

    Raises
    ------
    TypeError, ValueError
        For what is no table of probabilities of at most eight variables, or more steps than variables.

    Notes
    -----
    Dynamic programming over sets of decoded variables: O(steps 3^L).

    Examples
    --------
    >>> best_partition([[0.5, 0.0], [0.0, 0.5]], 2)
    (((0,), (1,)), 0.0)
    """
    entropies = Entropies(joint)
    if entropies.count > LONGEST:
        raise ValueError(f"joint must have at most {LONGEST} axes, got {entropies.count}")
    integer(steps, "steps", at_least=1, at_most=entropies.count)
    best = {0: (0.0, ())}
    for step in range(1, steps + 1):
        reached: dict[int, tuple[float, tuple[int, ...]]] = {}
        for known, (cost, path) in best.items():
            for chosen in _subsets(entropies.everything & ~known):
                after = known | chosen
                if (entropies.count - after.bit_count()) < steps - step or (step == steps and after != entropies.everything):
                    continue
                candidate = cost + entropies.cost(known, chosen)
                if after not in reached or candidate < reached[after][0] - 1e-13:
                    reached[after] = candidate, (*path, chosen)
        best = reached
    cost, path = best[entropies.everything]
    return tuple(entropies.axes(step) for step in path), max(cost, 0.0)


def list_task_accuracy(task: str, n: int, k: int) -> float:
    """Return the probability that an ideal model does a list task right if it decodes k random items per step, drawn by their probabilities.

    Parameters
    ----------
    task : str
        "copy", "reverse", "sort", "replace_index", "insert_index", "remove_index": everything is determined, one step is enough. "shuffle": a
        uniformly random permutation (the identity allowed) of n distinct items. "replace_random": exactly one random item is replaced.
    n : int
        Number of items.
    k : int
        Items per step; k >= n is a single step: n! / n^n for "shuffle", (1 - 1/n)^(n - 1) for "replace_random".

    Raises
    ------
    TypeError, ValueError
        For a bad argument.

    Examples
    --------
    >>> round(list_task_accuracy("shuffle", 6, 2), 4), round(list_task_accuracy("replace_random", 6, 6), 4)
    (0.3125, 0.4019)
    """
    choice(task, "task", LIST_TASKS)
    n, k = integer(n, "n", at_least=1), integer(k, "k", at_least=1)
    if task in ONE_STEP_TASKS:
        return 1.0
    return _shuffle_accuracy(n, k) if task == "shuffle" else _replace_accuracy(n, k)


def _shuffle_accuracy(left: int, k: int) -> float:
    """All items of each step differ: m! / ((m - k)! m^k with m items left."""
    accuracy = 1.0
    while left > 0:
        now = min(k, left)
        accuracy *= math.perm(left, now) / left**now
        left -= now
    return accuracy


def _replace_accuracy(undecided: int, k: int) -> float:
    """Exactly one of this step's items is the new one, and the rest is determined; or none is, and it goes on with those left."""
    now = min(k, undecided)
    once = now / undecided * (1 - 1 / undecided) ** (now - 1)
    if now == undecided:
        return once
    return once + (1 - 1 / undecided) ** now * _replace_accuracy(undecided - now, k)


class Entropies:
    """Entropies of all groups of variables that are asked for; a group of axes is a number with their bits set."""

    def __init__(self, joint):
        table = np.asarray(array(joint, "joint"), dtype=np.float64)
        if table.ndim == 0 or (table < 0).any() or not table.any():
            raise ValueError(f"joint must be a table of probabilities, non-negative and not all zero, got shape {table.shape}")
        self.table, self.count = table / table.sum(), table.ndim
        self.everything = (1 << self.count) - 1
        self._known: dict[int, float] = {0: 0.0}

    def __getitem__(self, group: int) -> float:
        if group not in self._known:
            hidden = tuple(axis for axis in range(self.count) if not group >> axis & 1)
            p = self.table.sum(axis=hidden)
            self._known[group] = float(-np.sum(p * np.log(np.where(p > 0, p, 1.0))))
        return self._known[group]

    def cost(self, known: int, step: int) -> float:
        """``C(step | known)``, never below zero for rounding's sake."""
        single = sum(self[known | 1 << axis] - self[known] for axis in self.axes(step))
        return max(single - (self[known | step] - self[known]), 0.0)

    def subset(self, axes: Sequence[int], name: str) -> int:
        """Check axes, and return their group."""
        if isinstance(axes, str) or not hasattr(axes, "__iter__"):
            raise TypeError(f"{name} must hold sequences of axes, got {axes!r:.60}")
        checked = [integer(axis, name, at_least=0, at_most=self.count - 1) for axis in axes]
        if len(set(checked)) != len(checked):
            raise ValueError(f"{name} must name each axis once, got {checked}")
        return sum(1 << axis for axis in checked)

    def axes(self, group: int) -> tuple[int, ...]:
        """The axes of a group."""
        return tuple(axis for axis in range(self.count) if group >> axis & 1)


def _subsets(group: int):
    """All non-empty subsets of a group, the small ones first."""
    bits = [1 << axis for axis in range(group.bit_length()) if group >> axis & 1]
    for size in range(1, len(bits) + 1):
        yield from (sum(chosen) for chosen in combinations(bits, size))
