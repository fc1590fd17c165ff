"""One published system a file; importing this package registers them."""

from gossamer.prune.systems.dsnot import DSnoT
from gossamer.prune.systems.fast_sparse_convnets import FastSparseConvNets
from gossamer.prune.systems.magnitude import Magnitude
from gossamer.prune.systems.sparsebytenn import SparseByteNN
from gossamer.prune.systems.sparsegpt import SparseGPT
from gossamer.prune.systems.sparsellm import SparseLLM
from gossamer.prune.systems.sten import STen
from gossamer.prune.systems.ten_lessons import TenLessons
from gossamer.prune.systems.wanda import Wanda

__all__ = ["DSnoT", "FastSparseConvNets", "Magnitude", "STen", "SparseByteNN", "SparseGPT",
           "SparseLLM", "TenLessons", "Wanda"]
