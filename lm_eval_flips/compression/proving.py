"""Readings by processes of their own, and the proof of a model that anyone compressed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lm_eval_flips.compression.maker import Step
from lm_eval_flips.compression.process import done
from lm_eval_flips.compression.proof import Proof, prove, weights_of
from lm_eval_flips.compression.reading import Reading
from lm_eval_flips.compression.source import Source, weight_files
from lm_eval_flips.errors import FlipsError


def reading_of(
    folder: Path, *, dtype: str, scratch: Path, name: str, interpreter: str = sys.executable
) -> Reading:
    """What a model in a folder makes of the fixed texts.

    Args:
        folder: of the model, or its GGUF file.
        dtype: to load it in; "auto" for its own.
        scratch: folder for what is written meanwhile.
        name: of these files.
        interpreter: that loads it.

    Raises:
        FlipsError: it cannot be loaded.
    """
    file = scratch / f"{name}.safetensors"
    step = Step(
        source=str(folder), dtype=dtype, reading=str(file), parameters={}, texts=[], packages=[]
    )
    done(interpreter, step, name=f"reading-{name}", scratch=scratch)
    return Reading.load(file)


def prove_models(
    folders: Sequence[Path], baseline: Source, *, dtype: str = "auto"
) -> Iterator[tuple[Path, Proof]]:
    """Hold compressed models that anyone made against their baseline, one after the other.

    Args:
        folders: of the compressed models.
        baseline: what they were made of.
        dtype: to load all in; "auto" for each one's own.

    Raises:
        FlipsError: one of them cannot be loaded here.
    """
    for folder in folders:
        if not folder.is_dir():
            raise FlipsError(f"'{folder}' is no folder of a model")
    with TemporaryDirectory() as name:
        scratch = Path(name)
        read = reading_of(baseline.place, dtype=dtype, scratch=scratch, name="baseline")
        for folder in folders:
            yield (
                folder,
                prove(
                    baseline=read,
                    memory=None,
                    loaded=reading_of(folder, dtype=dtype, scratch=scratch, name="compressed"),
                    weights=weights_of(weight_files(folder)),
                    baseline_weights=weights_of(baseline.weight_files),
                    packed=False,
                ),
            )
