"""Errors that follow the samples, and from them the intervals and tests of a row."""
