"""Warnings as they are shown, the same everywhere: one line each, many of a kind counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.comparison.warnings import Warning  # noqa: A004
from lm_eval_flips.errors import named

MOST = 3  # of one kind that are shown; the JSON has all


def warning_lines(warnings: Iterable[Warning], *, most: int = MOST) -> list[str]:
    """Each warning with its way out; beyond ``most`` of a kind the rest is counted.

    Settings that differ are one line.
    """
    by_kind: dict[str, list[Warning]] = {}
    for warning in warnings:
        by_kind.setdefault(warning.code, []).append(warning)
    lines: list[str] = []
    for kind, found in by_kind.items():
        texts = list(dict.fromkeys(_line(warning) for warning in found))
        if kind == SETTINGS:
            texts = [f"settings that differ: {', '.join(str(warning) for warning in found)}"]
        rest = len(texts) - most
        lines += texts[:most] + ([f"and {rest} more like this ({kind})"] if rest > 0 else [])
    return lines


SETTINGS = "setting-differs"


def _line(warning: Warning) -> str:
    if not warning.way_out:
        return warning.text
    return f"{warning.text}. {warning.way_out[0].upper()}{warning.way_out[1:]}"


def warned(comparison: Comparison, names: Sequence[str], *, most: int = MOST) -> list[str]:
    """Every warning of a comparison once, before it the models that it is about.

    Those of all models stand without names; the noise floor is called so.
    """
    about: dict[str, list[str]] = {}
    floor = comparison.noise_floor
    runs = [*zip(names, comparison.compressed, strict=True)]
    for name, run in [*([] if floor is None else [(FLOOR, floor)]), *runs]:
        for line in warning_lines(run.warnings, most=most):
            about.setdefault(line, []).append(name)
    alone = len(names) == 1 and floor is None
    return [
        line if alone or models == list(names) else f"{named(models, shown=3)}: {line}"
        for line, models in about.items()
    ]


FLOOR = "noise floor"
