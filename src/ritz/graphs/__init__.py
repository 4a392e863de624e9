"""From an edge list to an answer: embeddings, walks, clustering, graph networks."""

from ritz.core.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
