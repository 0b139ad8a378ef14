"""Comparison -> one HTML file that needs nothing else."""
