"""Sensitivities within their time and against a general solver per row; least absolute deviations on a coreset against all rows; Lewis weights.

Not compared: a loop over cvxpy, the peer of the stated target for sensitivities; SciPy's trust-region solver with exact derivatives stands for it.
"""

from collections.abc import Iterator

import numpy as np
import scipy.optimize

from ritz.linalg import lp_regression, lp_sensitivities, sample_rows
from ritz.linalg.leverage_scores import orthonormal_basis
from ritz.linalg.lewis_weights import fixed_point
from ritz.studies import Comparison, benchmark, compare
from ritz.studies.timing import within


def _heavy(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) * (1 + rng.pareto(2, n))[:, None]


@benchmark(threads=2)
def exact_sensitivities() -> Comparison:
    """n = 2000, d = 10, p = 3: all rows within 5 s."""
    A = _heavy(2000, 10)
    lp_sensitivities(A, 3, rows=[0])  # compiled
    return within("all 2000 sensitivities, p = 3", lambda: lp_sensitivities(A, 3), limit=5.0)


@benchmark
def sensitivities_one_by_one() -> Comparison:
    """Twenty of the same rows against a general constrained solver in a loop."""
    A, p, few = _heavy(2000, 10), 3, np.arange(0, 2000, 100)
    Q = orthonormal_basis(A)

    def general():
        return np.array([_general_sensitivity(Q, q, p) for q in Q[few]])

    return compare(
        "20 sensitivities, p = 3",
        lambda: lp_sensitivities(A, p, rows=few),
        general,
        peer_name="scipy trust-constr, one by one",
        target=100.0,
        pairs=3,
        extra={"largest relative difference": float(np.max(np.abs(general() / lp_sensitivities(A, p, rows=few) - 1)))},
    )


def _general_sensitivity(Q: np.ndarray, q: np.ndarray, p: float) -> float:
    found = scipy.optimize.minimize(
        lambda z: np.sum(np.abs(Q @ z) ** p),
        q / (q @ q),
        jac=lambda z: p * Q.T @ (np.sign(Q @ z) * np.abs(Q @ z) ** (p - 1)),
        hess=lambda z: p * (p - 1) * (Q.T * np.abs(Q @ z) ** (p - 2)) @ Q,
        constraints=scipy.optimize.LinearConstraint(q[None], 1.0, 1.0),
        method="trust-constr",
    )
    return 1 / found.fun


@benchmark
def absolute_deviations() -> Iterator[Comparison]:
    """n = 2 10^5, d = 20: HiGHS on all rows, in its fastest form (dual, interior point), against a coreset of 3000 rows found on the way."""
    rng = np.random.default_rng(0)
    A = _heavy(200_000, 20)
    b = A @ np.ones(20) + rng.standard_t(2, len(A))

    def on_a_coreset():
        return lp_regression(A, b, 1, coreset=sample_rows(A, 1, 3000, scores="root_leverage", b=b, rng=0))

    bounds, zeros = np.tile([-1.0, 1.0], (len(A), 1)), np.zeros(20)

    def on_all_rows():
        return scipy.optimize.linprog(-b, A_eq=A.T, b_eq=zeros, bounds=bounds, method="highs-ipm")

    extra = {"excess": on_a_coreset().objective / -on_all_rows().fun - 1}
    name = "HiGHS on all rows (dual form, interior point)"
    yield compare("least absolute deviations", on_a_coreset, on_all_rows, peer_name=name, target=10.0, pairs=2, warmup=0, extra=extra)


@benchmark
def lewis() -> Iterator[Comparison]:
    """Fifteen factorizations, the limit, against what six digits take."""
    A = _heavy(100_000, 20)
    Q = orthonormal_basis(A)
    for p in (1, 1.5, 3, 4):
        passes = next(count for count in range(1, 100) if fixed_point(Q, p, count, 1e-6)[1] <= 1e-6)
        yield compare(
            f"Lewis weights, p = {p}",
            lambda p=p: fixed_point(Q, p, 100, 1e-6),
            lambda: [np.linalg.qr(Q, mode="r") for _ in range(15)],
            peer_name="15 QR factorizations alone",
            pairs=2,
            extra={"factorizations": passes},
        )
