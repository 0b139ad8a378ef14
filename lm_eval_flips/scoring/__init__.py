"""Tokens -> log-likelihoods and distances, fast. Knows transformers, not the harness."""
