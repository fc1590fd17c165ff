"""Statistics that parts ask for, streamed block by block through any model."""

from gossamer.observe.forecast import Forecast, forecast
from gossamer.observe.journal import Journal, file_hash, tensor_hash
from gossamer.observe.progress import Progress, silent
from gossamer.observe.source import InMemory, Source, as_source
from gossamer.observe.stats import NEEDS, Stats, stats_bytes
from gossamer.observe.walk import Outcome, Plan, Visit, Visitor, Walked, walk

__all__ = [
    "NEEDS", "Forecast", "InMemory", "Journal", "Outcome", "Plan", "Progress", "Source", "Stats",
    "Visit", "Visitor", "Walked", "as_source", "file_hash", "forecast", "silent", "stats_bytes",
    "tensor_hash", "walk",
]
