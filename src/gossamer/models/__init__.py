"""Real models: loaded whole, or opened as a checkpoint and read block by block.

>>> import torch
>>> from gossamer import models
>>> loaded = models.load("smollm2", dtype=torch.bfloat16)     # doctest: +SKIP
>>> checkpoint = models.Checkpoint("path/to/folder")          # doctest: +SKIP
"""

from gossamer.models.checkpoint import Checkpoint
from gossamer.models.load import Loaded, load, load_tokenizer
from gossamer.models.outline import outline

__all__ = ["Checkpoint", "Loaded", "load", "load_tokenizer", "outline"]
