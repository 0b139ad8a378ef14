"""Tokens -> log-likelihoods and distances, fast. Knows engines, not the harness."""
