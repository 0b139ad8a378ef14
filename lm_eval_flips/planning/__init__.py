"""Evaluating fewer samples: which documents to draw, and what the drawn ones tell of all."""
