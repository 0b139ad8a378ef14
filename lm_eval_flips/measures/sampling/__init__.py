"""Which documents to draw, and what drawn ones tell of all: allocation, strata, change rates."""
