"""Saving and loading: packed folders, plain folders, inspection, and readers of other formats."""

from gossamer.store.about import About, about
from gossamer.store.convert import pack, read_foreign
from gossamer.store.read import load
from gossamer.store.write import save, write_stream

__all__ = ["About", "about", "load", "pack", "read_foreign", "save", "write_stream"]
