"""Benchmarks, run by hand: ratios within one run, never timed asserts."""
