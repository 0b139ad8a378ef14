"""A run -> how its model was compressed: as its files say, the engine, its arguments, its names.

Everything that shows a scheme asks here: the report, the leaderboard, the JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import environ
from pathlib import Path

from lm_eval_flips.compression import families
from lm_eval_flips.compression.guessed import UNKNOWN, bits_of, family_of, scheme_of
from lm_eval_flips.compression.recognised import KnownScheme, recognised
from lm_eval_flips.logs.made_from import made_from
from lm_eval_flips.logs.runs import Run

FILE_TYPE, FILE_BYTES = "model_file_type", "model_bytes"  # as flips-gguf has them logged
LOGGED, GUESSED = "results", "arguments or names"


def run_scheme(run: Run) -> KnownScheme | None:
    """The scheme of a run's model; None where nothing tells.

    The first that says anything counts: our record or the quantization config in the run's or the
    model's folder, or in the cache of the hub; the type of a GGUF file as the engine logged it;
    then the model's arguments and the names of model and folder, which are a guess.
    """
    if (made := made_from(run.results)) is not None:  # by no model, whatever stands beside it
        size = "" if made.sigma is None else f" {made.sigma:g}"
        return KnownScheme(name=f"{made.what}{size}", family=made.what, source=LOGGED)
    if (known := recognised(_folders(run))) is not None:
        return known
    if (logged := _of_file_type(run)) is not None:
        return logged
    label = scheme_of(run.model, run.path.parent.parent.name, run.model_args)
    if label == UNKNOWN:
        return None
    return KnownScheme(name=label, family=family_of(label), bits=bits_of(label), source=GUESSED)


def _of_file_type(run: Run) -> KnownScheme | None:
    kind, size = (run.results.config.get(name) for name in (FILE_TYPE, FILE_BYTES))
    if not isinstance(kind, str) or not kind:
        return None
    label = f"gguf {kind.lower()}"
    return KnownScheme(
        name=label,
        family=families.GGUF,
        bits=bits_of(label),
        bytes=size if isinstance(size, int) else None,
        source=LOGGED,
    )


def _folders(run: Run) -> Iterator[Path]:
    yield from run.model_folders
    name = str(run.model_args.get("pretrained") or run.model)
    if (cached := cached_folder(name, run.model_sha)) is not None:
        yield cached


def cached_folder(name: str, revision: str | None) -> Path | None:
    """The folder of a model of the Hugging Face hub that was downloaded before; None without."""
    if name.count("/") > 1 or "\\" in name or not _may_be_cached(name):
        return None
    from huggingface_hub import snapshot_download  # only now: it takes a while
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _may_be_cached(name: str) -> bool:
    """Whether the hub's cache has a folder for it: that is seen without the hub's library."""
    home = Path(environ.get("HF_HOME") or "~/.cache/huggingface")
    cache = Path(environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    return (cache / f"models--{name.replace('/', '--')}").is_dir()
