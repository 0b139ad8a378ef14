"""Whether a library can compute on this processor, found out by a process of its own.

A library that was compiled for another processor ends the process that computes with it by an
illegal instruction; the one that asks must not be that process.

    python -m lm_eval_flips.scoring.llama_cpp.trial FILE GPU_LAYERS
"""

from __future__ import annotations

import signal
import subprocess
import sys
from ctypes import c_int32
from pathlib import Path

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.layouts import Batch
from lm_eval_flips.scoring.llama_cpp.library import KNOWN, library

TRIED = 40  # tokens: matrices of 32 rows and more are multiplied in another way than of fewer
REFUSED = 3  # exit code of a library that says no by itself


def refuse_other_processors(path: Path, *, gpu_layers: int | None) -> None:
    """Let a child compute with a file.

    Raises:
        FlipsError: that ended the child.
    """
    command = [sys.executable, "-m", __spec__.name, str(path), str(gpu_layers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode in (0, REFUSED):
        return  # what a library refuses by itself it also says to the one that asks
    if done.returncode < 0:
        why = f"was ended by {signal.Signals(-done.returncode).name}"
    else:
        lines = done.stderr.strip().splitlines()
        why = f"ended with code {done.returncode}: {lines[-1] if lines else 'it does not say why'}"
    raise FlipsError(
        f"llama.cpp of {library().source} {why} when it computed with '{path}'; if it was "
        f"compiled for another processor, use {KNOWN}"
    )


def main() -> int:
    """Load the file and compute some tokens."""
    path, layers = sys.argv[1:]
    own = library()
    changed = {} if layers == "None" else {"n_gpu_layers": int(layers)}
    model = own.llama_model_load_from_file(path.encode(), own.model_params(**changed))
    if not model:
        return REFUSED
    context = own.llama_init_from_model(model, own.context_params(n_ctx=256, n_threads=1))
    if not context:
        return REFUSED
    for count in (TRIED, 1):
        tokens = (c_int32 * count)()
        if own.llama_decode(context, Batch(n_tokens=count, token=tokens)):
            return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
