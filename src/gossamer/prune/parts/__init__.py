"""Scores, solvers and other parts that pruning systems are made of."""
