"""The only room that changes a model: edits, each with its inverse, held by a handle."""

from gossamer.edit.handle import Handle, apply
from gossamer.edit.project import Project, release
from gossamer.edit.swap import Swap
from gossamer.edit.unpacked import unpacked

__all__ = ["Handle", "Project", "Swap", "apply", "release", "unpacked"]
