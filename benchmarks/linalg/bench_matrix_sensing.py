"""Matrix sensing: one measurement by a dense Gaussian operator against memory bandwidth, and rebalanced against plain descent to one error."""

import warnings

import numpy as np

from ritz.core import ConvergenceWarning
from ritz.linalg import MeasurementOperator, matrix_sensing
from ritz.studies import benchmark, compare
from ritz.studies.timing import triad


@benchmark(threads=2)
def measurement_against_memory_bandwidth():
    """One product with all measurement matrices as rows reads each once; the triad moves as many bytes."""
    operator = MeasurementOperator.gaussian(10_000, (64, 64), rng=0)
    Z, moved = np.random.default_rng(1).standard_normal((64, 64)), 10_000 * 64 * 64 * 8
    return compare(
        "10,000 Gaussian measurements of 64 x 64",
        lambda: operator(Z),
        triad(moved),
        peer_name="triad of as many bytes",
        target=0.6,
        extra={"GB": moved / 1e9},
    )


@benchmark
def steps_to_one_error():
    """From a start of size 0.01 to an error of 1e-8; plain descent is stopped at ten times the steps, where it is not there yet."""
    U = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 3)))[0]
    target = (U * [1.0, 0.8, 0.6]) @ U.T
    operator = MeasurementOperator.identity((50, 50))
    y = operator(target)
    options = {"init_scale": 0.01, "tol": 1e-8 / float(np.linalg.norm(y)), "rng": 0}
    steps = matrix_sensing(operator, y, (50, 50), 6, **options).iterations

    def plain():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return matrix_sensing(operator, y, (50, 50), 6, method="asymmetric", maxiter=10 * steps, **options)

    left = float(np.sqrt(2 * plain().loss_history[-1]))
    return compare(
        "to an error of 1e-8",
        lambda: matrix_sensing(operator, y, (50, 50), 6, **options),
        plain,
        peer_name="two factors not rebalanced, ten times the steps",
        extra={"steps": steps, "error of the peer": left},
    )
