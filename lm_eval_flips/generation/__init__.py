"""Two models that write: where they part."""
