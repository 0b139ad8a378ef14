"""A model and a scheme -> a compressed model on disk, proven to be one. One file a library.

What makes a model runs as a process of its own, in this interpreter or in one that is named for
the library, so this room needs neither the harness nor anything else that such an interpreter
lacks: torch, transformers and the one library.
"""
