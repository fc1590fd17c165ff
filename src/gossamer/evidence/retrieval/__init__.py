"""Evidence of the retrieval family."""
