"""Evidence for the systems that prune after training."""
