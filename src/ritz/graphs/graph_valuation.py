"""What a seller's attributed graph is worth to a buyer, measured without a task and without either seeing the other's graph.

Falahati and Amiri, "Disentangled Structural and Featural Representation for Task-Agnostic Graph Valuation" (2024), arXiv:2408.12659: a structural
disparity from graphs that both parties align with one public proxy graph ("blind message passing"), and the relevance and diversity of the features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from ritz.core import Result, choice, flag, integer, matrix, optional_import, random_generator, real, to_numpy
from ritz.graphs.adjacency import Adjacency, as_adjacency
from ritz.graphs.gaussian_graph_distance import signal_factor, squared_distance
from ritz.graphs.graph_alignment import METHODS, aligned_order, padded, relabelled
from ritz.graphs.laplacian import inverse_power
from ritz.graphs.matched_samples import matched_samples
from ritz.graphs.relevance_diversity import compare_variances, features, principal_directions, seller_variances

PROXIES = ("erdos_renyi", "barabasi_albert")
PROXY_DEGREE = 6
SAMPLES = 8
STARTS = 10


@dataclass(frozen=True, eq=False, repr=False)
class BuyerMessage(Result):
    """What the buyer compares sellers with. Sellers need `query` alone; the rest stays with the buyer, or goes to a broker who evaluates.

    Attributes
    ----------
    query : ndarray (d, F)
        The principal directions of the buyer's features.
    variances : ndarray (d,)
        The variances along them.
    structure : ndarray (samples, N, N)
        A factor X of the pseudo-inverse Laplacian X X^T of the graph aligned with the proxy; one, or one for each sampled subgraph.
    """

    query: np.ndarray
    variances: np.ndarray
    structure: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class SellerMessage(Result):
    """What a seller answers: `variances` (d,) along the directions asked for, and `structure` (samples, N, N) as in `BuyerMessage`."""

    variances: np.ndarray
    structure: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Valuation(Result):
    """A seller's data for a buyer: similar data have low disparity and high relevance, new data high disparity or high diversity.

    Attributes
    ----------
    structural_disparity : float
        The (squared) Wasserstein distance of the aligned graphs' smooth signals, at least 0; the mean over sampled subgraphs if there are several.
    relevance, diversity : float
        In [0, 1], see `relevance_diversity`.
    structural_spread : float or None
        The standard deviation of the disparity over sampled subgraphs; None where whole graphs are compared.
    """

    structural_disparity: float
    relevance: float
    diversity: float
    structural_spread: float | None = None


class GraphValuer:
    """The protocol by which a buyer learns structural disparity, relevance and diversity of sellers' graphs.

    All parties make a valuer with the same options, the seed among them, so that all have the same public proxy graph. The buyer makes a message and
    shows its ``query``; each seller answers by a message; whoever has both values them.

    Parameters
    ----------
    proxy_size : int
        The number N >= 2 of nodes of the proxy, at least as many as any party's graph (or as a sampled subgraph) has.
    proxy : {"erdos_renyi", "barabasi_albert"} or graph with N nodes
        The reference that graphs are aligned with: random with mean degree about six, drawn from `seed`, or any public graph.
    n_components : int
        The number d of principal directions of the buyer's features.
    hops : int
        Rounds of X <- D^-1/2 A D^-1/2 X before features are compared. 0 keeps structure and features apart: the disparity depends on graphs alone,
        relevance and diversity on features alone.
    method : {"signature", "faq", "sinkhorn"}
        How graphs are aligned with the proxy, see `align_to_reference`. The two others suit a proxy that is like the parties' graphs.
    squared : bool
        False takes the square root of the disparity.
    regularization, threshold, seller_norm
        As for `gaussian_graph_distance` and `relevance_diversity`.
    sample_subgraphs : int or None
        For graphs too large for O(N^3): compare eight subgraphs of so many nodes, at most N, breadth-first neighborhoods of nodes of the same
        standing by degree.
    seed : int
        Of the proxy and of random alignments.

    Notes
    -----
    The paper's abstract fixes the parts, not their details: the generator of the proxy, the matching, the square of the disparity and whether
    features are propagated are this implementation's choices, hence options. Relevance and diversity follow Amiri et al. (2023).

    Privacy: a message holds no feature of a node and no node's name, and its size does not depend on how many nodes there are. It is not a secret:
    the structure determines the graph up to the order of its nodes.

    The disparity is dominated by how sparse the graphs are (tr L^+) and does not tell families of graphs apart. It grows with changes of one graph as
    long as the other nodes keep their signatures; where all nodes are much alike (small worlds, meshes) a few changes turn the alignment, and the
    disparity is as large for them as for many.

    Cost: O(N^3) for each message and each value.

    References
    ----------
    .. [1] Falahati and Amiri, "Disentangled Structural and Featural Representation for Task-Agnostic Graph Valuation", 2024, arXiv:2408.12659.
    .. [2] Amiri, Berdoz and Raskar, "Fundamentals of Task-Agnostic Data Valuation", AAAI 2023, arXiv:2208.12354.

    Examples
    --------
    >>> import networkx as nx
    >>> X = np.random.default_rng(0).standard_normal((30, 5))
    >>> valuer = GraphValuer(40, n_components=3)
    >>> ours = valuer.buyer_message(nx.cycle_graph(30), X)
    >>> theirs = valuer.seller_message(nx.path_graph(30), X, ours.query)
    >>> round(valuer.value(ours, theirs).relevance, 6)
    1.0
    """

    def __init__(
        self,
        proxy_size: int,
        *,
        proxy="erdos_renyi",
        n_components: int = 10,
        hops: int = 0,
        method: str = "signature",
        squared: bool = True,
        regularization: float = 0.0,
        threshold: float = 0.0,
        seller_norm: str = "norm",
        sample_subgraphs: int | None = None,
        seed: int = 0,
    ):
        self.proxy_size = integer(proxy_size, "proxy_size", at_least=2)
        self.seed = integer(seed, "seed", at_least=0)
        self.proxy = _proxy_graph(proxy, self.proxy_size, self.seed)
        self.n_components = integer(n_components, "n_components", at_least=1)
        self.hops = integer(hops, "hops", at_least=0)
        self.method = choice(method, "method", METHODS)
        self.squared = flag(squared, "squared")
        self.regularization = real(regularization, "regularization", at_least=0)
        self.threshold = real(threshold, "threshold", at_least=0)
        self.seller_norm = choice(seller_norm, "seller_norm", ["norm", "quadratic"])
        self.sample_subgraphs = None if sample_subgraphs is None else integer(sample_subgraphs, "sample_subgraphs", at_least=2, at_most=proxy_size)

    def buyer_message(self, adjacency, X) -> BuyerMessage:
        """Summarize the buyer's data.

        Parameters
        ----------
        adjacency : graph with n nodes
            Undirected; n <= proxy_size unless subgraphs are sampled.
        X : array (n, F)
            Features, F >= n_components.

        Raises
        ------
        ValueError, TypeError
            If the graph or the features are not as described.
        """
        graph, X = self._checked(adjacency, X)
        if self.n_components > X.shape[1]:
            raise ValueError(f"X must have at least the {self.n_components} columns of n_components, got {X.shape[1]}")
        variances, query = principal_directions(X, self.n_components)
        return BuyerMessage(query, variances, self._structure(graph))

    def seller_message(self, adjacency, X, query) -> SellerMessage:
        """Answer a buyer's query (d, F) for a seller's graph with n nodes and features X (n, F)."""
        graph, X = self._checked(adjacency, X)
        query = to_numpy(matrix(query, "query"))
        if query.shape[1] != X.shape[1]:
            raise ValueError(f"X must have the {query.shape[1]} columns of query, got {X.shape[1]}")
        return SellerMessage(seller_variances(X, query, self.seller_norm), self._structure(graph))

    def value(self, buyer_message: BuyerMessage, seller_message: SellerMessage) -> Valuation:
        """Value a seller's answer for a buyer.

        Raises
        ------
        ValueError, TypeError
            If the messages come from valuers with other options, or are no messages.
        """
        for name, message, kind in (("buyer_message", buyer_message, BuyerMessage), ("seller_message", seller_message, SellerMessage)):
            if not isinstance(message, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {type(message).__name__}")
        if buyer_message.structure.shape != seller_message.structure.shape or buyer_message.variances.shape != seller_message.variances.shape:
            raise ValueError("seller_message must come of the same options and query as buyer_message: their shapes differ")
        pairs = zip(buyer_message.structure, seller_message.structure)
        disparities = np.array([squared_distance(ours, theirs) for ours, theirs in pairs])
        disparities = disparities if self.squared else np.sqrt(disparities)
        compared = compare_variances(buyer_message.variances, seller_message.variances, self.threshold)
        spread = None if self.sample_subgraphs is None else float(disparities.std())
        return Valuation(float(disparities.mean()), compared.relevance, compared.diversity, spread)

    def _checked(self, adjacency, X) -> tuple[Adjacency, np.ndarray]:
        graph = as_adjacency(adjacency, directed=False)
        if self.sample_subgraphs is None and graph.n > self.proxy_size:
            raise ValueError(f"adjacency must have at most the proxy's {self.proxy_size} nodes (or give sample_subgraphs), got {graph.n}")
        X = features(X, "X")
        if len(X) != graph.n:
            raise ValueError(f"X must have a row for each of the {graph.n} nodes of adjacency, got {len(X)}")
        return graph, _propagated(graph, X, self.hops)

    def _structure(self, graph: Adjacency) -> np.ndarray:
        if self.sample_subgraphs is None:
            return self._aligned_factor(graph)[None]
        samples = matched_samples(graph, self.sample_subgraphs, SAMPLES)
        return np.stack([self._aligned_factor(relabelled(graph, nodes)) for nodes in samples])

    def _aligned_factor(self, graph: Adjacency) -> np.ndarray:
        whole = padded(graph, self.proxy_size)
        order = aligned_order(whole, self.proxy, self.method, STARTS, random_generator(self.seed))
        return signal_factor(relabelled(whole, order), self.regularization)


def rank_sellers(
    buyer,
    sellers,
    *,
    by: str = "relevance",
    proxy_size: int | None = None,
    proxy="erdos_renyi",
    n_components: int = 10,
    hops: int = 0,
    method: str = "signature",
    squared: bool = True,
    regularization: float = 0.0,
    threshold: float = 0.0,
    seller_norm: str = "norm",
    sample_subgraphs: int | None = None,
    seed: int = 0,
) -> list[dict[str, object]]:
    """Value several sellers' graphs for a buyer and sort them by one of the three values; no single number is made of them.

    Parameters
    ----------
    buyer : pair (adjacency, X)
        A graph with n nodes and its features (n, F).
    sellers : mapping from name to pair (adjacency, X), or sequence of pairs
        A sequence names them 0, 1, ...
    by : {"relevance", "diversity", "structural_disparity"}
        What the rows are sorted by: the highest first, but the lowest disparity.
    proxy_size : int, optional
        The size of the largest graph, or `sample_subgraphs`, if not given.
    proxy, n_components, hops, method, squared, regularization, threshold, seller_norm, sample_subgraphs, seed
        As for `GraphValuer`.

    Returns
    -------
    list of dict
        Rows with "seller", "structural_disparity", "relevance" and "diversity", and "structural_spread" where subgraphs are sampled.

    Examples
    --------
    >>> import networkx as nx
    >>> X = np.random.default_rng(0).standard_normal((12, 3))
    >>> sellers = {"other": (nx.path_graph(12), X), "same": (nx.cycle_graph(12), X)}
    >>> rows = rank_sellers((nx.cycle_graph(12), X), sellers, by="structural_disparity", n_components=2)
    >>> [row["seller"] for row in rows]
    ['same', 'other']
    """
    choice(by, "by", ["relevance", "diversity", "structural_disparity"])
    offers = dict(sellers) if isinstance(sellers, Mapping) else dict(enumerate(sellers))
    if not offers:
        raise ValueError("sellers must hold at least one pair of a graph and its features, got none")
    if proxy_size is None:
        proxy_size = sample_subgraphs or max(2, *(as_adjacency(_pair(party, "a party")[0]).n for party in (buyer, *offers.values())))
    valuer = GraphValuer(
        proxy_size,
        proxy=proxy,
        n_components=n_components,
        hops=hops,
        method=method,
        squared=squared,
        regularization=regularization,
        threshold=threshold,
        seller_norm=seller_norm,
        sample_subgraphs=sample_subgraphs,
        seed=seed,
    )
    ours = _told_who("buyer", lambda: valuer.buyer_message(*_pair(buyer, "buyer")))
    rows = []
    for name, offer in offers.items():
        theirs = _told_who(f"sellers[{name!r}]", lambda offer=offer: valuer.seller_message(*_pair(offer, "an offer"), ours.query))
        found = valuer.value(ours, theirs).as_dict()
        rows.append({"seller": name} | {key: value for key, value in found.items() if value is not None})
    return sorted(rows, key=lambda row: row[by], reverse=by != "structural_disparity")


def _pair(party, name: str) -> tuple:
    if not isinstance(party, Iterable) or len(pair := tuple(party)) != 2:
        raise ValueError(f"{name} must be a pair (adjacency, X)")
    return pair


def _told_who(party: str, message):
    """Make a message; a refusal says whose data it is about."""
    try:
        return message()
    except (ValueError, TypeError) as error:
        raise type(error)(f"{party}: {error}") from error


def _proxy_graph(proxy, size: int, seed: int) -> Adjacency:
    if isinstance(proxy, str):
        choice(proxy, "proxy", PROXIES)
        networkx = optional_import("networkx", extra="graphs")
        if proxy == "erdos_renyi":
            return as_adjacency(networkx.gnp_random_graph(size, min(1.0, PROXY_DEGREE / (size - 1)), seed=seed))
        return as_adjacency(networkx.barabasi_albert_graph(size, min(PROXY_DEGREE // 2, size - 1), seed=seed))
    graph = as_adjacency(proxy, directed=False, name="proxy")
    if graph.n != size:
        raise ValueError(f"proxy must have proxy_size = {size} nodes, got {graph.n}")
    return graph


def _propagated(graph: Adjacency, X: np.ndarray, hops: int) -> np.ndarray:
    half = scipy.sparse.diags_array(inverse_power(graph.matrix.sum(axis=1), 0.5))
    for _ in range(hops):
        X = half @ (graph.matrix @ (half @ X))
    return X
