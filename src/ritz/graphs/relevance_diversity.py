"""Relevance and diversity of a seller's features for a buyer, from the variances along the buyer's principal directions.

Amiri, Berdoz and Raskar, "Fundamentals of Task-Agnostic Data Valuation", AAAI 2023, arXiv:2208.12354, section 4; the featural side of the graph
valuation of arXiv:2408.12659.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ritz.core import choice, integer, matrix, real, to_numpy

ZERO = 1e-12  # variances below this, relative to the largest of the side, are rounding


class FeatureComponents(NamedTuple):
    """What `relevance_diversity` compares along each kept principal direction of the buyer, arrays (kept,).

    Attributes
    ----------
    buyer_variances, seller_variances : ndarray
        lambda_i and its counterpart at the seller.
    relevances, diversities : ndarray
        min / max and |difference| / max of the two; 1 and 0 where both are 0.
    """

    buyer_variances: np.ndarray
    seller_variances: np.ndarray
    relevances: np.ndarray
    diversities: np.ndarray


class RelevanceDiversity(NamedTuple):
    """Relevance and diversity in [0, 1], geometric means over the components; 0 if one of the factors is."""

    relevance: float
    diversity: float
    components: FeatureComponents


def relevance_diversity(X_buyer, X_seller, n_components: int = 10, *, threshold: float = 0.0, seller_norm: str = "norm") -> RelevanceDiversity:
    """Compare a seller's features with a buyer's along the buyer's leading principal directions u_i.

    Parameters
    ----------
    X_buyer, X_seller : arrays (n_buyer, F), (n_seller, F)
        Rows are nodes, at least two; the columns have the same order and units on both sides. Centered here.
    n_components : int
        The number d <= F of directions.
    threshold : float
        Directions along which the buyer's variance is below this are left out.
    seller_norm : {"norm", "quadratic"}
        The seller's variance along u_i: ||C_seller u_i|| or u_i^T C_seller u_i.

    Returns
    -------
    RelevanceDiversity
        (relevance, diversity, components). Equal features have relevance 1 and diversity 0. Cost O(n F^2 + F^3).

    Raises
    ------
    ValueError
        If the numbers of columns differ, n_components exceeds them, or no direction reaches the threshold.

    References
    ----------
    .. [1] Amiri, Berdoz and Raskar, AAAI 2023, arXiv:2208.12354.

    Examples
    --------
    >>> X = np.diag([3.0, 2.0, 1.0])
    >>> relevance, diversity, _ = relevance_diversity(X, X, 2)
    >>> round(relevance, 6), round(diversity, 6)
    (1.0, 0.0)
    """
    buyer, seller = features(X_buyer, "X_buyer"), features(X_seller, "X_seller")
    if buyer.shape[1] != seller.shape[1]:
        raise ValueError(f"X_seller must have the {buyer.shape[1]} columns of X_buyer, got {seller.shape[1]}")
    integer(n_components, "n_components", at_least=1, at_most=buyer.shape[1])
    threshold = real(threshold, "threshold", at_least=0)
    choice(seller_norm, "seller_norm", ["norm", "quadratic"])
    variances, directions = principal_directions(buyer, n_components)
    return compare_variances(variances, seller_variances(seller, directions, seller_norm), threshold)


def features(X, name: str) -> np.ndarray:
    """Return a finite feature matrix with at least two rows, as a float64 NumPy array."""
    X = to_numpy(matrix(X, name)).astype(np.float64)
    if len(X) < 2:
        raise ValueError(f"{name} must have at least two rows, got {len(X)}")
    return X


def principal_directions(X: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues (count,) of the covariance of X and their eigenvectors as rows (count, F)."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(X, rowvar=False)))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    return np.where(values > ZERO * values[0], values, 0.0), vectors.T


def seller_variances(X: np.ndarray, directions: np.ndarray, seller_norm: str) -> np.ndarray:
    """Return the variance (d,) that X has along directions (d, F)."""
    C = np.atleast_2d(np.cov(X, rowvar=False))
    products = directions @ C
    variances = np.linalg.norm(products, axis=1) if seller_norm == "norm" else np.einsum("df,df->d", products, directions)
    return np.where(variances > ZERO * np.trace(C), variances, 0.0)


def compare_variances(buyer: np.ndarray, seller: np.ndarray, threshold: float) -> RelevanceDiversity:
    """Return the geometric means of min / max and |difference| / max over the directions along which the buyer's variance reaches the threshold."""
    kept = buyer >= threshold
    if not kept.any():
        raise ValueError(f"threshold must be at most the buyer's largest variance, {buyer.max():g}, got {threshold:g}")
    buyer, seller = buyer[kept], seller[kept]
    largest = np.maximum(buyer, seller)
    scale = np.where(largest > 0, largest, 1.0)
    relevances = np.where(largest > 0, np.minimum(buyer, seller) / scale, 1.0)
    diversities = np.abs(buyer - seller) / scale
    return RelevanceDiversity(_geometric_mean(relevances), _geometric_mean(diversities), FeatureComponents(buyer, seller, relevances, diversities))


def _geometric_mean(factors: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(factors)))) if factors.all() else 0.0
