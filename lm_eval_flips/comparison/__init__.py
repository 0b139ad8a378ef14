"""Pairs -> Comparison: rows of tasks, groups and the pool, and runs held against each other."""
