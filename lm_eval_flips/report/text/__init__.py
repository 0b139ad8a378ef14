"""Comparison -> what a terminal or a notebook shows."""
