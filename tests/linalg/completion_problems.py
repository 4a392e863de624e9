"""Low-rank matrices with some of their entries observed."""

import numpy as np
import scipy.sparse


def low_rank(m, n, k, *, condition=2.0, seed=0):
    """An incoherent matrix of rank k with entries of unit size and this condition number."""
    rng = np.random.default_rng([seed, 1])  # another stream than that of the method's start
    U, V = (np.linalg.qr(rng.standard_normal((size, k)))[0] for size in (m, n))
    s = np.geomspace(condition, 1, k)
    return (U * (s * np.sqrt(m * n) / np.linalg.norm(s))) @ V.T


def observe(M, count, *, seed=0):
    """So many entries of M at random places, as a CSR array."""
    places = np.random.default_rng(seed).choice(M.size, int(count), replace=False)
    rows, columns = np.divmod(places, M.shape[1])
    return scipy.sparse.csr_array((M[rows, columns], (rows, columns)), shape=M.shape)


def hidden_error(found, M, observed):
    """Relative error on the entries that were not observed."""
    hidden = np.ones(M.shape, bool)
    hidden[observed.nonzero()] = False
    return np.linalg.norm((found.dense() - M)[hidden]) / np.linalg.norm(M[hidden])
