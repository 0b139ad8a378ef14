"""Running models: what is asked of each, in which order, by the harness's own command."""
