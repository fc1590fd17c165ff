"""One published system a file; importing this package registers them."""

from gossamer.retrieval.systems.bm25 import BM25
from gossamer.retrieval.systems.flops_sparse_embeddings import FlopsSparseEmbeddings
from gossamer.retrieval.systems.seismic import Seismic

__all__ = ["BM25", "FlopsSparseEmbeddings", "Seismic"]
