"""Formats of other libraries, one file each."""
