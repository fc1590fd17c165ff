"""Checks of what is said about a sparse model against what it holds; each a pure function.

They follow the questions of Liu and Wang, "Ten Lessons We Have Learned in the New Sparseland"
(2023, arXiv 2302.02596); docs/guide/ten-lessons.md explains each.
"""

from gossamer.store.lints.comparison import UnfairComparisonError, fair_comparison, require_fair
from gossamer.store.lints.labels import effective_weights, kept_zeros, pattern_claim
from gossamer.store.lints.memory import break_even, density_scope, packed_claim, saves_bytes
from gossamer.store.lints.method import method_label, route
from gossamer.store.lints.speed import kernels
from gossamer.store.lints.structure import allocation, dead_units, first_last

__all__ = [
    "UnfairComparisonError", "allocation", "break_even", "dead_units", "density_scope",
    "effective_weights", "fair_comparison", "first_last", "kept_zeros", "kernels",
    "method_label", "packed_claim", "pattern_claim", "require_fair", "route", "saves_bytes",
]
