"""llama.cpp in process: GGUF files, scored by the engine that runs them."""
