"""Comparison -> the samples that changed, with their texts."""
