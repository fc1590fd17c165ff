"""Conformance suites that a part, layout, op or system is held to."""
