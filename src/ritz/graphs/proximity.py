"""Proximities of the nodes of a graph: walk, forest, communicability, heat and PageRank matrices, and their logarithms, on one scale.

Ivashkin and Chebotarev, "Do logarithmic proximity measures outperform plain ones in graph clustering?", NET 2016, arXiv:1605.01046, section 2;
Chebotarev, "The walk distances in graphs", Discrete Applied Mathematics 160 (2012), arXiv:1103.2059; Avrachenkov, Chebotarev and Rubanov, "Kernels on
graphs as proximity measures", WAW 2017.

With degrees D, Laplacian L = D - A, walk matrix P = D^-1 A and spectral radius rho of A, eight of the nine kinds are exponentials or inverses of
symmetric M-matrices made of A, L or I - D^-1/2 A D^-1/2, up to powers of the degrees on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from ritz.core import array, choice, flag, like, real
from ritz.graphs.adjacency import as_adjacency
from ritz.graphs.laplacian import laplacian, laplacian_pseudoinverse
from ritz.graphs.m_matrix_functions import MMatrixExponential, m_matrix_inverse

LARGEST_EXPONENT = 709.0


@dataclass(frozen=True)
class _Kind:
    """How a kind is made: diag(d^left) f diag(d^right), with f the exponential exp(-t G) or the resolvent (a I + t G)^-1."""

    function: str
    laplacian: str | None
    left: float = 0.0
    right: float = 0.0


_KINDS = {
    "walk": _Kind("resolvent", None),  # G = -A, a = 1
    "forest": _Kind("resolvent", "comb"),  # a = 1
    "communicability": _Kind("exponential", None),  # G = rho I - A
    "heat": _Kind("exponential", "comb"),
    "normalized_heat": _Kind("exponential", "sym"),
    "ppr": _Kind("resolvent", "sym", -0.5, 0.5),  # a = 1 - t
    "modified_ppr": _Kind("resolvent", "sym", -0.5, -0.5),  # a = 1 - t
    "heat_ppr": _Kind("exponential", "sym", -0.5, 0.5),
}
KINDS = (*_KINDS, "commute")
BOUNDED = ("walk", "ppr", "modified_ppr")


def proximity(adjacency, kind: str, t=None, *, log: bool = False, scale: str = "unit"):
    """Return the matrix of proximities of the nodes of an undirected graph.

    Parameters
    ----------
    adjacency : graph with n nodes
        Undirected, weights not negative; anything that `as_adjacency` reads.
    kind : str
        ========================  =====================================  ====================
        kind                      K                                      t on the raw scale
        ========================  =====================================  ====================
        ``"walk"``                (I - t A)^-1 (Katz)                    0 < t < 1 / rho
        ``"forest"``              (I + t L)^-1                           t > 0
        ``"communicability"``     exp(t A)                               t > 0
        ``"heat"``                exp(-t L)                              t > 0
        ``"normalized_heat"``     exp(-t D^-1/2 L D^-1/2)                t > 0
        ``"ppr"``                 (I - t P)^-1, not symmetric            0 < t < 1
        ``"modified_ppr"``        (I - t P)^-1 D^-1                      0 < t < 1
        ``"heat_ppr"``            exp(-t (I - P)), not symmetric         t > 0
        ``"commute"``             L^+, the pseudo-inverse                none
        ========================  =====================================  ====================
    t : float or sequence of float
        The parameter; a sequence of k gives all matrices, the exponentials from one eigendecomposition. None for "commute", and for it alone.
    log : bool
        Whether to return the natural logarithm of each entry. All must be positive, so the graph must be connected; refused for "commute".
    scale : {"unit", "raw"}
        On the unit scale t is an x in (0, 1), and stands for x / rho ("walk"), x (the "ppr" kinds) or x / (2 (1 - x)) (the others).

    Returns
    -------
    ndarray or torch.Tensor (n, n), or (k, n, n) for a sequence
        float64; a torch tensor if `adjacency` is one.

    Raises
    ------
    ValueError
        For t outside its open interval; a graph that is directed, has negative weights, or is disconnected where ``log`` or "commute" is asked for;
        a graph without edges ("walk"), with isolated nodes ("modified_ppr"); where an exponential overflows (communicability for t rho > 709; its
        logarithm does not) or a logarithm does not exist because a proximity underflows (far nodes, tiny t).

    Notes
    -----
    Entries of unconnected nodes are exactly 0, all others accurate relative to themselves, however small (see `ritz.graphs.m_matrix_functions`).
    An isolated node is treated as one that the walk does not leave: P has 1 on its diagonal there.
    Cost: n^3 flops for each t, and for the exponentials one eigendecomposition, O(n^3), for all t; a t that leaves some entry of exp below 1e-6 of
    the largest eigenvalue costs some thirty times n^3.

    References
    ----------
    .. [1] Ivashkin and Chebotarev, NET 2016, arXiv:1605.01046.

    Examples
    --------
    >>> path = [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    >>> proximity(path, "forest", 1.0, scale="raw").round(3)
    array([[0.625, 0.25 , 0.125],
           [0.25 , 0.5  , 0.25 ],
           [0.125, 0.25 , 0.625]])
    >>> proximity(path, "walk", [0.2, 0.4], log=True).shape
    (2, 3, 3)
    """
    choice(kind, "kind", KINDS)
    flag(log, "log")
    choice(scale, "scale", ["unit", "raw"])
    if kind == "commute":
        return like(_commute(adjacency, t, log), adjacency)
    if t is None:
        raise ValueError(f"t must be given for kind '{kind}'; only 'commute' has none")
    family = ProximityFamily(as_adjacency(adjacency, directed=False, connected=log).matrix, kind)
    times = [family.time(value, scale) for value in _values(t)]
    matrices = [family.matrix(time, log=log) for time in times]
    return like(np.stack(matrices) if np.ndim(t) else matrices[0], adjacency)


class ProximityFamily:
    """All proximities of one kind, "commute" apart, of one graph (canonical, undirected; connected if logarithms are asked for)."""

    def __init__(self, A: scipy.sparse.csr_array, kind: str):
        self.kind = kind
        self._kind = _KINDS[kind]
        self._degrees = A.sum(axis=1)
        if kind == "modified_ppr" and not self._degrees.all():
            raise ValueError(f"adjacency must have no isolated node for kind 'modified_ppr', got {np.count_nonzero(self._degrees == 0)}")
        if kind == "walk" and not A.nnz:
            raise ValueError("adjacency must have an edge for kind 'walk', got none")
        self.rho = 1.0  # of the matrix that t multiplies
        if kind == "walk":
            self._G, self.rho = -A.toarray(), float(np.linalg.eigvalsh(A.toarray())[-1])
        elif kind == "communicability":
            self._exponential, self.rho = MMatrixExponential.below_spectral_radius(A.toarray())
        elif self._kind.function == "exponential":
            self._exponential = MMatrixExponential(laplacian(A, self._kind.laplacian).toarray())
        else:
            self._G = laplacian(A, self._kind.laplacian).toarray()

    def time(self, t: float, scale: str) -> float:
        """Return t on the raw scale, or say which open interval it must lie in."""
        if scale == "unit":
            x = real(t, "t", above=0, below=1)
            return x / self.rho if self.kind in BOUNDED else 0.5 * x / (1 - x)
        t = real(t, "t", above=0)
        if self.kind in BOUNDED and t * self.rho >= 1:
            bound = "1/rho = " if self.kind == "walk" else ""
            raise ValueError(f"t must lie in the open interval from 0 to {bound}{1 / self.rho:.6g} for kind '{self.kind}', got {t:g}")
        return t

    def matrix(self, t: float, *, log: bool) -> np.ndarray:
        """Return K(t), or its elementwise logarithm, for t on the raw scale."""
        K = self._core(t)
        if log:
            return self._logarithm(K, t)
        if self.kind == "communicability":
            if t * self.rho > LARGEST_EXPONENT:
                raise ValueError(f"t must be at most 709 / rho = {LARGEST_EXPONENT / self.rho:.6g} for exp(t A) not to overflow; log=True does not")
            K *= np.exp(t * self.rho)
        for axis, power in ((1, self._kind.left), (0, self._kind.right)):
            if power:
                K *= np.expand_dims(self._reached_degrees**power, axis)
        return K

    @property
    def _reached_degrees(self) -> np.ndarray:
        return np.where(self._degrees > 0, self._degrees, 1.0)

    def _core(self, t: float) -> np.ndarray:
        """f(G); for communicability that is exp(t A) over exp(t rho)."""
        if self._kind.function == "exponential":
            return self._exponential.at(t)
        M = t * self._G
        M.flat[:: len(M) + 1] += 1 - t if self._kind.laplacian == "sym" else 1.0
        try:
            return m_matrix_inverse(M)
        except np.linalg.LinAlgError:
            raise ValueError(f"t must be farther from the end of its interval: proximities of kind '{self.kind}' are singular at {t:g}") from None

    def _logarithm(self, K: np.ndarray, t: float) -> np.ndarray:
        if not K.all():
            raise ValueError(f"t must be larger for a logarithm: some proximities of kind '{self.kind}' underflow to 0 at {t:g}")
        H = np.log(K, out=K)
        if self.kind == "communicability":
            H += t * self.rho
        for axis, power in ((1, self._kind.left), (0, self._kind.right)):
            if power:
                H += np.expand_dims(power * np.log(self._reached_degrees), axis)
        return H


def _values(t) -> Iterator[float]:
    return iter(array(t, "t", ndim=1).tolist()) if np.ndim(t) else iter([t])


def _commute(adjacency, t, log: bool) -> np.ndarray:
    if t is not None:
        raise ValueError(f"t must be None for kind 'commute', which has no parameter, got {t!r}")
    if log:
        raise ValueError("log must be False for kind 'commute', whose proximities are not positive")
    return laplacian_pseudoinverse(as_adjacency(adjacency, directed=False, connected=True))
