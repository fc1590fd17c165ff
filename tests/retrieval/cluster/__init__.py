"""Shards that answer together."""
