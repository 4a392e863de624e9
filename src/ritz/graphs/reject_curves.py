"""Reject curves: how well distances tell pairs within clusters from pairs between them.

Ivashkin and Chebotarev, NET 2016, arXiv:1605.01046, section 4.
"""

from __future__ import annotations

import numpy as np

from ritz.core import array, like, symmetric_matrix, to_numpy


def reject_curve(D, y):
    """Return the reject curve of a distance: of the pairs no farther apart than a threshold, the shares of those within and between clusters.

    The curve of a distance that tells them apart rises to (1, 0) before it leaves; one that tells nothing is the diagonal.

    Parameters
    ----------
    D : array (n, n)
        Symmetric distances.
    y : array (n,)
        The cluster of each node: at least two clusters, at least one with two nodes.

    Returns
    -------
    intra_fraction, inter_fraction : arrays (thresholds + 1,)
        From 0 to 1, one point for each different distance after the origin. Cost O(n^2 log n).

    Examples
    --------
    >>> intra, inter = reject_curve([[0.0, 1, 3], [1, 0, 2], [3, 2, 0]], [0, 0, 1])
    >>> intra, inter
    (array([0., 1., 1., 1.]), array([0. , 0. , 0.5, 1. ]))
    """
    distances = to_numpy(symmetric_matrix(D, "D"))
    labels = to_numpy(array(y, "y", ndim=1))
    if len(labels) != len(distances):
        raise ValueError(f"y must have a cluster for each of the {len(distances)} nodes of D, got {len(labels)}")
    first, second = np.triu_indices(len(distances), k=1)
    within = labels[first] == labels[second]
    if not within.any() or within.all():
        raise ValueError("y must have at least two clusters of the nodes of D, one of them with at least two nodes")
    thresholds, place = np.unique(distances[first, second], return_inverse=True)
    curves = (np.bincount(place[chosen], minlength=len(thresholds)).cumsum() / chosen.sum() for chosen in (within, ~within))
    return tuple(like(np.concatenate([[0.0], curve]), D) for curve in curves)
