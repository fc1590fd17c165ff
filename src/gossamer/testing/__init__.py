"""Conformance suites: what a part, layout, op, layer or system must hold to, as plain functions.

Call them in a test of your own; the first claim that fails raises AssertionError and says which.
"""

from gossamer.testing.layer import check_layer
from gossamer.testing.layout import check_layout
from gossamer.testing.op import check_op
from gossamer.testing.part import check_part
from gossamer.testing.transform import check_transform

__all__ = ["check_layer", "check_layout", "check_op", "check_part", "check_transform"]
