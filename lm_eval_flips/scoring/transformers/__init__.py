"""The engine transformers: a causal model that reads a tree of prefixes."""
