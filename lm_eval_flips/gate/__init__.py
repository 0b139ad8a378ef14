"""Comparison -> passed, failed or undecided: thresholds held against intervals."""
