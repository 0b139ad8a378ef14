"""Models that write: drafts of what was written before, several turns, and what a judge says."""
