"""Writes runs as lm_eval lays them on disk, and makes paired samples in memory."""
