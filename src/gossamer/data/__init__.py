"""Text and token tensors: embedded, from files or from a hub, cut into windows for a model."""

from gossamer.data.sources import Text, read_text
from gossamer.data.tokens import calibration_tokens, windows

__all__ = ["Text", "calibration_tokens", "read_text", "windows"]
