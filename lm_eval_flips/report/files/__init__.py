"""Comparison -> files for other programs: JSON, CSV, Parquet, Markdown, pictures."""
