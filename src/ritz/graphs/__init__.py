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
    from ritz.graphs.spe import SPE as SPE
    from ritz.graphs.walk_encodings import AddRRWP as AddRRWP

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

    # equivariant polynomials
    from ritz.graphs.equivariant_polynomials import ContractionPlan as ContractionPlan
    from ritz.graphs.equivariant_polynomials import contraction_plan as contraction_plan
    from ritz.graphs.equivariant_polynomials import equivariant_polynomial as equivariant_polynomial
    from ritz.graphs.equivariant_polynomials import injective_polynomial as injective_polynomial
    from ritz.graphs.motifs import Motif as Motif
    from ritz.graphs.motifs import is_computable as is_computable
    from ritz.graphs.motifs import polynomial_basis as polynomial_basis
    from ritz.graphs.polynomial_features import PolynomialFeatures as PolynomialFeatures
    from ritz.graphs.polynomial_features import pairs_of as pairs_of
    from ritz.graphs.ppgn import PPGNPlus as PPGNPlus

    # graph convolutions
    from ritz.graphs.sinc_gcn import SINCGCN as SINCGCN
    from ritz.graphs.sinc_gcn import SINCConv as SINCConv
    from ritz.graphs.sinc_gcn import SIRConv as SIRConv

    # edges: the dual hypergraph, pooling on it, and networks
    from ritz.graphs.dual_hypergraph import DualHypergraph as DualHypergraph
    from ritz.graphs.dual_hypergraph import dual_hypergraph as dual_hypergraph
    from ritz.graphs.edge_networks import EdgeAutoencoder as EdgeAutoencoder
    from ritz.graphs.edge_networks import EHGNNClassifier as EHGNNClassifier
    from ritz.graphs.edge_networks import HyperDropGCN as HyperDropGCN
    from ritz.graphs.edge_pooling import HyperCluster as HyperCluster
    from ritz.graphs.edge_pooling import HyperDrop as HyperDrop

    # attention over pairs
    from ritz.graphs.floyd_isomorphism import Distinguished as Distinguished
    from ritz.graphs.floyd_isomorphism import floyd_isomorphism_test as floyd_isomorphism_test
    from ritz.graphs.floydnet import FloydBlock as FloydBlock
    from ritz.graphs.floydnet import FloydNet as FloydNet
    from ritz.graphs.grit import Grit as Grit
    from ritz.graphs.grit import GritLayer as GritLayer
    from ritz.graphs.pivotal_attention import pivotal_attention as pivotal_attention
    from ritz.graphs.pivotal_attention import pivotal_attention3 as pivotal_attention3

    # selective state spaces over walks and nodes
    from ritz.graphs.bidirectional_mamba import BidirectionalMamba as BidirectionalMamba
    from ritz.graphs.graph_mamba import GraphMamba as GraphMamba
    from ritz.graphs.walk_tokens import WalkTokens as WalkTokens

    # equivariant maps of ego networks
    from ritz.graphs.ego_networks import EgoBatch as EgoBatch
    from ritz.graphs.ego_networks import EgoNetworks as EgoNetworks
    from ritz.graphs.ego_networks import ego_networks as ego_networks
    from ritz.graphs.ego_networks import whole_graphs as whole_graphs
    from ritz.graphs.permutation_equivariant_maps import equivariant_basis as equivariant_basis
    from ritz.graphs.spen import SPEN as SPEN
    from ritz.graphs.spen import SPENConv as SPENConv

    # heterogeneous graphs, propagated once
    from ritz.graphs.heterogeneous_propagation import RpHGNNPrecompute as RpHGNNPrecompute
    from ritz.graphs.label_groups import propagate_labels as propagate_labels
    from ritz.graphs.rphgnn import RpHGNN as RpHGNN
    from ritz.graphs.rphgnn import RpHGNNClassifier as RpHGNNClassifier

    # clouds of points
    from ritz.graphs.orientation_grids import sphere_grid as sphere_grid
    from ritz.graphs.ponita import ConvNeXtBlock as ConvNeXtBlock
    from ritz.graphs.ponita import Ponita as Ponita
    from ritz.graphs.position_orientation import FiberBundleConv as FiberBundleConv
    from ritz.graphs.position_orientation import invariants as invariants

    # spectral anomaly detection
    from ritz.graphs.focal_loss import class_balanced_focal_loss as class_balanced_focal_loss
    from ritz.graphs.rayleigh_quotient import RayleighQuotient as RayleighQuotient
    from ritz.graphs.rayleigh_quotient import accumulated_spectral_energy as accumulated_spectral_energy
    from ritz.graphs.rayleigh_quotient import rayleigh_quotient as rayleigh_quotient
    from ritz.graphs.rqgnn import RQGNN as RQGNN
    from ritz.graphs.rqgnn import RQGNNDetector as RQGNNDetector

    # proximities of nodes, their distances, and clusters from them
    from ritz.graphs.proximity import proximity as proximity
    from ritz.graphs.kernel_distances import distance_to_kernel as distance_to_kernel
    from ritz.graphs.kernel_distances import proximity_distance as proximity_distance
    from ritz.graphs.path_distances import free_energy as free_energy
    from ritz.graphs.path_distances import randomized_shortest_path as randomized_shortest_path
    from ritz.graphs.path_distances import shortest_path_commute as shortest_path_commute
    from ritz.graphs.sigmoid_commute import sigmoid_commute as sigmoid_commute
    from ritz.graphs.proximity_clustering import ProximityClustering as ProximityClustering
    from ritz.graphs.reject_curves import reject_curve as reject_curve

    # comparing graphs: alignment, distance, and what a graph is worth to a buyer
    from ritz.graphs.gaussian_graph_distance import gaussian_graph_distance as gaussian_graph_distance
    from ritz.graphs.graph_alignment import align_to_reference as align_to_reference
    from ritz.graphs.graph_valuation import BuyerMessage as BuyerMessage
    from ritz.graphs.graph_valuation import GraphValuer as GraphValuer
    from ritz.graphs.graph_valuation import SellerMessage as SellerMessage
    from ritz.graphs.graph_valuation import Valuation as Valuation
    from ritz.graphs.graph_valuation import rank_sellers as rank_sellers
    from ritz.graphs.relevance_diversity import FeatureComponents as FeatureComponents
    from ritz.graphs.relevance_diversity import RelevanceDiversity as RelevanceDiversity
    from ritz.graphs.relevance_diversity import relevance_diversity as relevance_diversity

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
