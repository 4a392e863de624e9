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

    # positional encodings
    from ritz.graphs.eigen_encodings import LaplacianEigenpairs as LaplacianEigenpairs

    # sheaf Laplacians, and networks that learn them
    from ritz.graphs.sheaf_conv import SheafConv as SheafConv
    from ritz.graphs.sheaf_diffusion import SheafDiffusion as SheafDiffusion
    from ritz.graphs.sheaf_diffusion import SheafODE as SheafODE
    from ritz.graphs.sheaf_laplacian import sheaf_energy as sheaf_energy
    from ritz.graphs.sheaf_laplacian import sheaf_laplacian as sheaf_laplacian

    # node embeddings
    from ritz.graphs.fastrp import FastRP as FastRP
    from ritz.graphs.fastrp import FastRPSearch as FastRPSearch
    from ritz.graphs.fastrp import fastrp as fastrp
    from ritz.graphs.fastrp import search_fastrp as search_fastrp

    # multigrid that adapts itself, and clustering with it
    from ritz.graphs.attributed_clustering import AttributedSpectralClustering as AttributedSpectralClustering
    from ritz.graphs.attributed_clustering import augment_with_attributes as augment_with_attributes
    from ritz.graphs.bootstrap_amg import BootstrapAMG as BootstrapAMG
    from ritz.graphs.bootstrap_amg import definite_laplacian as definite_laplacian
    from ritz.graphs.graph_matching import greedy_matching as greedy_matching

    # scores
    from ritz.graphs.node_classification import NodeClassificationScore as NodeClassificationScore
    from ritz.graphs.node_classification import node_classification_score as node_classification_score
    from ritz.graphs.partition_quality import attribute_entropy as attribute_entropy
    from ritz.graphs.partition_quality import modularity as modularity

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
