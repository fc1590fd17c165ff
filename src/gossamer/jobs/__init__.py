"""Jobs: whole pieces of work that a user asks for by one command."""

from gossamer.jobs.frontier import Outcome, frontier
from gossamer.jobs.job import FrontierJob
from gossamer.jobs.packing import pack
from gossamer.jobs.record import Layer, Record
from gossamer.jobs.target import Target, parse_target

__all__ = ["FrontierJob", "Layer", "Outcome", "Record", "Target", "frontier", "pack",
           "parse_target"]
