"""What an artefact costs and how good it is: bytes, operations, time, memory, perplexity."""

from gossamer.core.memory import PeakMemory
from gossamer.measure import hardware
from gossamer.measure.cost import Macs, bytes_by_kind, macs_per_token, model_bytes
from gossamer.measure.crossover import Crossover, crossover
from gossamer.measure.decode import DecodeRate, decode_rate, decode_rates, generate_text
from gossamer.measure.environment import environment
from gossamer.measure.frontier import Frontier
from gossamer.measure.operations import Op, Work, operations
from gossamer.measure.point import Point, load_points, save_points
from gossamer.measure.quality import perplexity, token_losses
from gossamer.measure.timing import Interval, median_interval, time_interleaved
from gossamer.measure.verdict import Verdict, speedup, verdict
from gossamer.measure.ways import (
    Decoding,
    by_decoder,
    by_transformers,
    decoder_takes,
    quickest_decoding,
)

__all__ = [
    "Crossover", "DecodeRate", "Decoding", "Frontier", "Interval", "Macs", "Op", "PeakMemory",
    "Point", "Verdict", "Work", "by_decoder", "by_transformers", "bytes_by_kind", "crossover",
    "decode_rate", "decode_rates", "decoder_takes", "environment", "generate_text", "hardware",
    "load_points", "macs_per_token", "median_interval", "model_bytes", "operations", "perplexity",
    "quickest_decoding", "save_points", "speedup", "time_interleaved", "token_losses", "verdict",
]
