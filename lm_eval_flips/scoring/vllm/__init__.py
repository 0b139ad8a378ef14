"""Token requests through vLLM: its prefix cache does what a prefix tree does elsewhere."""
