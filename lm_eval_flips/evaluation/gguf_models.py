"""GGUF models of a `run`: patterns and folders -> files, held against each other before scoring."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.evaluation.flags import pretrained
from lm_eval_flips.evaluation.own_models import LLAMA_CPP
from lm_eval_flips.scoring.llama_cpp.file_facts import FileFacts, differences
from lm_eval_flips.scoring.llama_cpp.files import model_file, model_files, parts_of

MODEL = LLAMA_CPP
GIVEN = re.compile(r"(?P<before>(?:^|.*,))gguf=(?P<path>[^,]*)(?P<after>.*)", re.DOTALL)


def is_gguf(model_args: str) -> bool:
    """Whether model arguments name a GGUF file, which flips-gguf runs.

    Example:
        >>> is_gguf("gguf=model-Q8_0.gguf"), is_gguf("pretrained=model,gguf_file=a.gguf")
        (True, False)
    """
    return GIVEN.fullmatch(model_args) is not None or '"gguf"' in model_args.partition(":")[0]


def expanded(compressed: Sequence[str], *, baseline: str) -> list[str]:
    """Model arguments with every pattern and folder of GGUF files written out, the largest first.

    The baseline's own file is left out where a pattern or folder holds it.

    Raises:
        FlipsError: a pattern or folder holds no GGUF file.
    """
    first = _file(baseline)
    written: list[str] = []
    for model_args in compressed:
        match = GIVEN.fullmatch(model_args)
        if match is None:
            written.append(model_args)
            continue
        named = Path(match["path"])
        files = _files(named)
        others = [file for file in files if file.resolve() != first]
        if not files or (not others and len(files) > 1):
            raise FlipsError(f"'{named}' is no GGUF file, and holds none")
        # a file that is named, not found by a pattern, may be the baseline again
        chosen = others or files
        written += [
            f"{match['before']}gguf={file}{match['after']}"
            for file in sorted(chosen, key=lambda file: (-_bytes(file), str(file)))
        ]
    return written


def held_together(baseline: str, compressed: Sequence[str]) -> list[str]:
    """What the GGUF files of a run differ in that is no compression, one line a difference.

    Args:
        baseline: the baseline's model arguments, or the folder of a run.
        compressed: the compressed models' arguments.

    Raises:
        FlipsError: a file is none, or its vocabulary is another one.
    """
    files = [model_file(pretrained(own)) for own in compressed if is_gguf(own)]
    if not files:
        return []
    first = FileFacts.of(model_file(pretrained(baseline))) if is_gguf(baseline) else None
    lines: list[str] = []
    for file in files:
        facts = FileFacts.of(file)
        # without a file of the baseline, the first of the others is what they are held against
        first = first or facts
        lines += differences(first, facts)
    return lines


def name_of(file: str) -> str:
    """What a file is called, without its number of parts.

    Example:
        >>> name_of("models/llama-Q4_K_M-00001-of-00003.gguf")
        'llama-Q4_K_M'
    """
    return re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", Path(file).name)


def _files(named: Path) -> list[Path]:
    if named.is_dir():
        return model_files(named)
    if named.exists() or not glob.has_magic(str(named)):
        return [model_file(named)]
    found = (Path(file) for file in sorted(glob.glob(str(named))))
    return list(dict.fromkeys(parts_of(file)[0] for file in found))


def _file(model_args: str) -> Path | None:
    return model_file(pretrained(model_args)).resolve() if is_gguf(model_args) else None


def _bytes(file: Path) -> int:
    return sum(part.stat().st_size for part in parts_of(file))
