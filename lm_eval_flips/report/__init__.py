"""Comparison -> text, JSON and Parquet. Nothing here computes a result."""
