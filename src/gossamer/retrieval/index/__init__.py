"""A living index of sparse vectors: durable, searched while it is written to."""

from gossamer.retrieval.index.check import Report, check_folder
from gossamer.retrieval.index.config import IndexConfig
from gossamer.retrieval.index.filter import Filter
from gossamer.retrieval.index.hits import Explanation, Hits
from gossamer.retrieval.index.incoming import Batch
from gossamer.retrieval.index.index import SparseIndex
from gossamer.retrieval.index.knobs import Knobs
from gossamer.retrieval.index.recover import Recovery, recover_folder

__all__ = ["Batch", "Explanation", "Filter", "Hits", "IndexConfig", "Knobs", "Recovery",
           "Report", "SparseIndex", "check_folder", "recover_folder"]
