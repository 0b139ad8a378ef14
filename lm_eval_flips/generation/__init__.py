"""Two models that write: where they part, how long, and what a judge says."""
