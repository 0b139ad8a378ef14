"""How large a model's weights are: as given, as its files are, or by its parameters and dtype."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.compression.run_scheme import cached_folder, run_scheme
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.names import last_name
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.scoring.llama_cpp.files import parts_of

# Files that hold weights, the first kind that a folder has; others are the same weights again.
WEIGHTS = ("model*.safetensors", "*.safetensors", "*.gguf", "pytorch_model*.bin", "*.bin", "*.pth")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SHARD = re.compile(r".*-\d{5}-of-\d{5}\.gguf")
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
# Arguments by which a model is quantised or changed while it is loaded: its files tell no size.
CHANGED_ON_LOADING = ("load_in_4bit", "load_in_8bit", "peft", "delta", "quantization_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Bytes of a model's weights, and where that is known from.

    ``bits_per_weight`` counts the baseline's weights, so that pruned models compare too; nan where
    their number was not logged.
    """

    bytes: int
    bits_per_weight: float
    source: str


def model_sizes(
    comparison: Comparison, *, given: Mapping[str, int] | None = None
) -> dict[str, ModelSize]:
    """The size of each model of a comparison that is known, by the path of its run.

    Args:
        comparison: what ``compare`` returned.
        given: as for ``sizes_of``.

    Raises:
        FlipsError: as ``sizes_of``.
    """
    return sizes_of(
        comparison.baseline.run, [run.run for run in comparison.compressed], given=given
    )


def sizes_of(
    baseline: Run, compressed: Sequence[Run], *, given: Mapping[str, int] | None = None
) -> dict[str, ModelSize]:
    """The size of each run's model that is known, by the path of the run.

    A size that is given goes first; then that of the weight files, in a local folder or in the
    cache of the Hugging Face hub; then what our record or the engine says, where the files have
    gone; then, for the baseline alone, parameters times dtype. Nothing is downloaded. A model that
    is quantised while it is loaded has no size of its own.

    Args:
        baseline: the baseline's run.
        compressed: the compressed runs.
        given: bytes by model, by its last name, or by the path of its run.

    Raises:
        FlipsError: a name is of no model of the runs, or of several; a size is not positive.
    """
    runs = [baseline, *compressed]
    given_of = _given(runs, given or {})
    weights = baseline.parameters
    sizes = {}
    for run in runs:
        path = run.address
        size = (given_of[path], "given") if path in given_of else _of_model(run)
        if size is None and run is baseline:
            size = _by_dtype(baseline)
        if size is not None:
            bits = 8 * size[0] / weights if weights else nan
            sizes[path] = ModelSize(bytes=size[0], bits_per_weight=bits, source=size[1])
    return sizes


def weight_bytes(folder: Path) -> int | None:
    """Bytes of the weight files in a model's folder.

    None where it has none or not all of them, or holds several models (.gguf of other schemes).
    """
    for name in INDEXES:
        shards = {str(shard) for shard in (_json(folder / name).get("weight_map") or {}).values()}
        if shards:
            return _bytes_of([folder / shard for shard in shards])
    for pattern in WEIGHTS:
        files = [file for file in folder.glob(pattern) if file.is_file()]
        shards_of_one = all(SHARD.fullmatch(file.name) for file in files)
        if pattern == "*.gguf" and len(files) > 1 and not shards_of_one:
            return None
        if files:
            return _bytes_of(files)
    return None


def _bytes_of(files: Sequence[Path]) -> int | None:
    """Bytes of all files together; None where one is missing."""
    if not all(file.is_file() for file in files):
        return None
    return sum(file.stat().st_size for file in files)


def _given(runs: Sequence[Run], given: Mapping[str, int]) -> dict[str, int]:
    """The given sizes by the path of the run."""
    found: dict[str, int] = {}
    for name, size in given.items():
        if not size > 0:
            raise FlipsError(f"the size of '{name}' is {size} bytes; give a positive number")
        fits = [run for run in runs if name in (run.model, last_name(run.model), run.address)]
        if not fits:
            have = [last_name(run.model) for run in runs]
            raise FlipsError(f"no model is called '{name}'; there are {named(have, shown=20)}")
        if len({run.model for run in fits}) > 1:
            have = [run.model for run in fits]
            raise FlipsError(
                f"several models are called '{name}': {named(have)}; give a whole name"
            )
        found |= {run.address: size for run in fits}
    return found


def _of_model(run: Run) -> tuple[int, str] | None:
    """Bytes of a run's model: of its files here, else as they were told."""
    if any(str(run.model_args.get(name) or "False") != "False" for name in CHANGED_ON_LOADING):
        return None
    if (size := _on_disk(run)) is not None:
        return size
    known = run_scheme(run)
    return None if known is None or known.bytes is None else (known.bytes, known.source)


def _on_disk(run: Run) -> tuple[int, str] | None:
    """Bytes of the model's files on this machine."""
    arguments = run.model_args
    place = str(arguments.get("pretrained") or arguments.get("model") or run.model)
    file = Path(place)
    if file.is_file():
        size = _bytes_of(parts_of(file))
        return None if size is None else (size, "file")
    single = arguments.get("gguf_file") or arguments.get("filename")
    folder = file if file.is_dir() else cached_folder(place, run.model_sha)
    if folder is None:
        return None
    if single is not None:
        size, source = _bytes_of([folder / str(single)]), "file"
    elif arguments.get("quantization") and not _quantised(folder):
        return None
    else:
        size, source = weight_bytes(folder), "weight files"
    return None if size is None else (size, source)


def _quantised(folder: Path) -> bool:
    """Whether a model's files are quantised ones."""
    return bool(_json(folder / "config.json").get("quantization_config"))


def _json(file: Path) -> dict[str, Any]:
    """A model's JSON file; empty where there is none that can be read."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _by_dtype(run: Run) -> tuple[int, str] | None:
    width = DTYPE_BYTES.get(str(run.dtype).removeprefix("torch."))
    if run.parameters is None or width is None:
        return None
    return run.parameters * width, "parameters and dtype"
