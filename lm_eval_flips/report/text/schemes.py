"""Schemes and compressed models in words: what `schemes`, `compress` and `prove` print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isnan
from typing import Any

from lm_eval_flips.compression.libraries import (
    LIBRARIES,
    Interpreters,
    Library,
    missing_to_load,
    versions,
)
from lm_eval_flips.compression.made import CompressedModel
from lm_eval_flips.compression.naming import listed
from lm_eval_flips.compression.proof import Proof
from lm_eval_flips.compression.recipe import Scheme
from lm_eval_flips.report.text.fitted_table import FittedTable, ShownColumn


def scheme_table(interpreters: Interpreters) -> FittedTable:
    """Every scheme: bits, library, whether it can be made and loaded here, what it does."""
    shown = listed()
    cells = {
        "bits": [_bits(scheme.bits) for scheme in shown],
        "library": [_library(scheme.recipe.library, interpreters) for scheme in shown],
        "made": [_yes(not interpreters.missing(one.recipe.library)) for one in shown],
        "loaded": [_yes(not missing_to_load(one.recipe.library)) for one in shown],
        "what it does": [scheme.does for scheme in shown],
    }
    return FittedTable(
        label="scheme",
        names=[scheme.name for scheme in shown],
        columns=[
            ShownColumn(label=label, cells=texts, number=label == "bits")
            for label, texts in cells.items()
        ],
        styles=[None] * len(shown),
    )


def scheme_lines(interpreters: Interpreters) -> Iterator[str]:
    """What is missing on this machine, library by library."""
    for library in LIBRARIES:
        if missing := interpreters.missing(library):
            yield (
                f"{library.name}: to make its models {', '.join(missing)} is missing; "
                f"{library.install}, named by --maker {library.name}=PYTHON or {library.variable}"
            )
        if missing := missing_to_load(library):
            yield (
                f"{library.name}: to load its models {', '.join(missing)} is missing; "
                f"pip install {' '.join(missing)}"
            )


def scheme_json(interpreters: Interpreters) -> str:
    """The same for programs."""
    return json.dumps([_document(scheme, interpreters) for scheme in listed()], indent=2)


def model_lines(model: CompressedModel) -> Iterator[str]:
    """A compressed model in a line, and what is wrong or odd about it in others."""
    if model.kept:
        note = f"; {model.note}" if model.note else ""
        yield f"{model.folder}: made before, kept{note}"
        return
    yield from proof_lines(str(model.folder), model.record.proof, seconds=model.record.seconds)


def proof_lines(name: str, proof: Proof, *, seconds: float | None = None) -> Iterator[str]:
    """A model's proof: what it is on the fixed texts, its size, and each fault."""
    told = [
        f"perplexity {proof.baseline_perplexity:.4g} → {proof.perplexity:.4g}",
        f"KL {proof.kl:.3g}",
        f"{proof.bytes / 1e6:.4g} MB of {proof.baseline_bytes / 1e6:.4g}",
        f"{proof.bits_on_disk:.3g} bits a weight on disk",
    ]
    if proof.reload_difference is not None:
        same = proof.reload_difference == 0
        told.append("came back equal" if same else f"came back within KL {proof.reload_kl:.2g}")
    if seconds is not None:
        told.append(f"{seconds:.0f} s")
    yield f"{'✗' if proof.faults else '✓'} {name}: {', '.join(told)}"
    for fault in proof.faults:
        yield f"  {fault}"


def _document(scheme: Scheme, interpreters: Interpreters) -> dict[str, Any]:
    library = scheme.recipe.library
    return {
        "scheme": scheme.name,
        "family": scheme.recipe.family,
        "does": scheme.does,
        "bits": None if isnan(scheme.bits) else scheme.bits,
        "library": library.name,
        "versions": versions(interpreters.of_library(library), library.packages),
        "calibrated": scheme.recipe.calibrated,
        "missing_to_make": interpreters.missing(library),
        "missing_to_load": missing_to_load(library),
    }


def _library(library: Library, interpreters: Interpreters) -> str:
    have = versions(interpreters.of_library(library), library.packages)
    return f"{library.name} {have.get(library.name, '')}".rstrip()


def _bits(bits: float) -> str:
    return "–" if isnan(bits) else f"{bits:g}"


def _yes(can: bool) -> str:
    return "yes" if can else "no"
