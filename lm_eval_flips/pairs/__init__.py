"""The same samples, proven: two runs' Samples -> Pairs -> PairedMetric."""
