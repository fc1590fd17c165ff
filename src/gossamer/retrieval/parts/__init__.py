"""Parts that systems of the family share."""
