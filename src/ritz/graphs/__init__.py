"""From an edge list to an answer: embeddings, walks, clustering, graph networks."""

from typing import TYPE_CHECKING

from ritz.core.lazy import lazy_exports

if TYPE_CHECKING:
    # graphs in
    from ritz.graphs.adjacency import Adjacency as Adjacency
    from ritz.graphs.adjacency import as_adjacency as as_adjacency
    from ritz.graphs.adjacency import symmetrized as symmetrized
    from ritz.graphs.graph_files import read_graph as read_graph
    from ritz.graphs.graph_files import read_labels as read_labels

    # matrices of a graph, and products with them
    from ritz.graphs.laplacian import laplacian as laplacian
    from ritz.graphs.laplacian import laplacian_pseudoinverse as laplacian_pseudoinverse
    from ritz.graphs.laplacian import transition as transition
    from ritz.graphs.sparse_products import sparse_projection as sparse_projection
    from ritz.graphs.sparse_products import spmm as spmm

    # random walks
    from ritz.graphs.random_walks import random_walks as random_walks

    # personalized PageRank
    from ritz.graphs.personalized_pagerank import personalized_pagerank as personalized_pagerank
    from ritz.graphs.powerwalk import PowerWalk as PowerWalk

    # degrees of directed graphs, and small graphs that keep them
    from ritz.graphs.degree_matrices import degree_correlation_matrix as degree_correlation_matrix
    from ritz.graphs.degree_matrices import degree_distance as degree_distance
    from ritz.graphs.degree_matrices import joint_degree_matrix as joint_degree_matrix
    from ritz.graphs.directed_sampling import DirectedSample as DirectedSample
    from ritz.graphs.directed_sampling import construct_directed_graph as construct_directed_graph
    from ritz.graphs.directed_sampling import sample_directed_graph as sample_directed_graph

    # positional encodings
    from ritz.graphs.eigen_encodings import LaplacianEigenpairs as LaplacianEigenpairs

    # node embeddings
    from ritz.graphs.fastrp import FastRP as FastRP
    from ritz.graphs.fastrp import FastRPSearch as FastRPSearch
    from ritz.graphs.fastrp import fastrp as fastrp
    from ritz.graphs.fastrp import search_fastrp as search_fastrp

    # scores
    from ritz.graphs.node_classification import NodeClassificationScore as NodeClassificationScore
    from ritz.graphs.node_classification import node_classification_score as node_classification_score

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
