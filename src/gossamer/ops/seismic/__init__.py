"""seismic: approximate top-k inner products through lists cut into blocks with summaries."""

from gossamer.ops.seismic.config import Seismic
from gossamer.ops.seismic.lists import BlockedLists, build
from gossamer.ops.seismic.searcher import SeismicSearcher, Visit, neighbours

__all__ = ["BlockedLists", "Seismic", "SeismicSearcher", "Visit", "build", "neighbours"]
