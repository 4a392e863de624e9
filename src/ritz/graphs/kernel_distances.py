"""From proximities to distances and back.

Ivashkin and Chebotarev, NET 2016, arXiv:1605.01046, section 2. The distance is half the squared Euclidean distance of vectors whose inner products
are the proximities: what makes the distance of 2 L^+ the resistance, and that of log forest or log walk proximities additive over cutpoints.
"""

from __future__ import annotations

from ritz.core import array, flag, namespace, square_matrix, symmetric_matrix


def proximity_distance(K, *, sqrt: bool = False):
    """Return the distances that proximities induce, d_ij = (k_ii + k_jj - k_ij - k_ji) / 2.

    Parameters
    ----------
    K : array (n, n)
        Proximities, or their logarithms.
    sqrt : bool
        Whether to return the square root, negative d counting as 0: the distance in use for communicability and its logarithm.

    Returns
    -------
    array (n, n)
        Symmetric with zero diagonal. Without `sqrt` an entry can be negative where K is not positive semidefinite. Cost n^2.

    Examples
    --------
    >>> proximity_distance([[2.0, 1.0], [1.0, 4.0]])
    array([[0., 2.],
           [2., 0.]])
    """
    K = square_matrix(K, "K")
    flag(sqrt, "sqrt")
    xp = namespace(K)
    own = xp.linalg.diagonal(K)
    d = (own[:, None] + own[None, :] - K - K.T) / 2
    return xp.sqrt(xp.where(d > 0, d, xp.zeros_like(d))) if sqrt else d


def distance_to_kernel(D):
    """Return the centered kernel that induces given distances, K = -J D J with J = I - 1 1^T / n: the inverse of `proximity_distance`.

    The distances are halves of squared Euclidean ones, hence no factor 1/2: classical scaling's -J D2 J / 2 with D2 = 2 D.

    Parameters
    ----------
    D : array (n, n)
        Symmetric distances with zero diagonal.

    Returns
    -------
    array (n, n)
        Rows and columns sum to 0. Of the resistance distance it is 2 L^+. Cost n^2.

    Examples
    --------
    >>> distance_to_kernel([[0.0, 2.0], [2.0, 0.0]])
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    D = symmetric_matrix(array(D, "D", ndim=2), "D")
    xp = namespace(D)
    if xp.any(xp.linalg.diagonal(D) != 0):
        raise ValueError("D must have a zero diagonal: it holds distances")
    rows, columns = xp.mean(D, axis=1), xp.mean(D, axis=0)
    return rows[:, None] + columns[None, :] - D - xp.mean(D)
