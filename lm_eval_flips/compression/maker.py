"""What runs in a maker's process: make and save a model, or read one. Nothing else is done here.

A step is a JSON file; what came of it is written beside it.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from lm_eval_flips.errors import FlipsError

ALWAYS = ("torch", "transformers")
GGUF = ".gguf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing for a process to do.

    Args:
        source: folder of the model to compress, or to read; or its GGUF file.
        dtype: to load it in, "auto" for its own.
        reading: file for what it makes of the fixed texts.
        name: of the scheme; "" to read the source as it is.
        make: ``module.function`` of this room.
        parameters: that the scheme's name carries.
        seed: of all that is drawn.
        texts: to calibrate with.
        folder: for the compressed model.
        reloaded: file for what the saved model makes of them; "" where another process reads it.
        packages: whose versions are kept.
    """

    source: str
    dtype: str
    reading: str
    name: str = ""
    make: str = ""
    parameters: dict[str, str]
    seed: int = 0
    texts: list[str]
    folder: str = ""
    reloaded: str = ""
    packages: list[str]

    def write(self, file: Path) -> None:
        """Write it for the process."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")


def done_file(step: Path) -> Path:
    """Where it is written what came of a step."""
    return step.with_suffix(".done")


def main(file: str) -> None:
    """Do what a file says. An error that its user can mend is written, not raised."""
    path = Path(file)
    step = Step(**json.loads(path.read_text(encoding="utf-8")))
    begun = time.monotonic()
    try:
        _do(step)
        done: dict[str, Any] = {"seconds": time.monotonic() - begun, "versions": _versions(step)}
    except FlipsError as error:
        done = {"error": str(error)}
    done_file(path).write_text(json.dumps(done), encoding="utf-8")


def _do(step: Step) -> None:
    if not step.name:
        _read(Path(step.source), step.dtype, Path(step.reading))
        return
    from lm_eval_flips.compression.making import Made, Making
    from lm_eval_flips.compression.reading import read

    folder = Path(step.folder)
    making = Making(
        source=Path(step.source),
        name=step.name,
        parameters=step.parameters,
        dtype=step.dtype,
        seed=step.seed,
        texts=tuple(step.texts),
        folder=folder,
    )
    module, _, function = step.make.rpartition(".")
    made = getattr(import_module(f"lm_eval_flips.compression.{module}"), function)(making)
    made = made if isinstance(made, Made) else Made(model=made)
    if made.model is None:
        _read(folder, step.dtype, Path(step.reloaded))
        return
    save = made.save or made.model.save_pretrained
    given_back = save(folder) if made.save_first else None
    read(given_back or made.model, making.tokenizer).save(Path(step.reading))
    if not made.save_first:
        save(folder)
    making.tokenizer.save_pretrained(folder)
    del made, given_back
    if step.reloaded:
        _read(folder, step.dtype, Path(step.reloaded))


def _read(place: Path, dtype: str, file: Path) -> None:
    """Load a model as anyone would, and read the fixed texts."""
    found = place if place.suffix == GGUF else next(place.glob(f"*{GGUF}"), None)
    if found is not None:
        from lm_eval_flips.compression.gguf import read_file

        read_file(found).save(file)
        return
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lm_eval_flips.compression.reading import read

    model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype)
    read(model, AutoTokenizer.from_pretrained(place)).save(file)


def _versions(step: Step) -> dict[str, str]:
    found = {"python": python_version()}
    for name in (*ALWAYS, *step.packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
