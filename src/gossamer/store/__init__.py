"""Saving and loading: packed folders, plain folders, inspection, and readers of other formats."""

from gossamer.store.about import About, about
from gossamer.store.convert import pack, read_foreign
from gossamer.store.examine import inspect
from gossamer.store.inspection import Check, Inspection, SiteRow, Totals
from gossamer.store.onnx import export_onnx
from gossamer.store.read import load
from gossamer.store.stream import save_streamed
from gossamer.store.write import save, write_stream

__all__ = [
    "About", "Check", "Inspection", "SiteRow", "Totals", "about", "export_onnx",
    "inspect", "load", "pack", "read_foreign", "save", "save_streamed", "write_stream",
]
