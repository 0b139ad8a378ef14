"""The models that are registered with the harness, one file an engine."""
