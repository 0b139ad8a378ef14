"""Flips and KL-divergence of paired lm-evaluation-harness runs.

Importing the package loads neither torch nor lm_eval; a name's module is loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lm_eval_flips.comparison.shown import show_with

if TYPE_CHECKING:
    from lm_eval_flips.comparison.compare import compare
    from lm_eval_flips.comparison.result import Comparison, Row
    from lm_eval_flips.errors import FlipsError
    from lm_eval_flips.logs.runs import Run, load_run
    from lm_eval_flips.planning.comparison import compare_planned

_HOMES = {
    "Comparison": "comparison.result",
    "FlipsError": "errors",
    "Row": "comparison.result",
    "Run": "logs.runs",
    "compare": "comparison.compare",
    "compare_planned": "planning.comparison",
    "load_run": "logs.runs",
}

__all__ = ["Comparison", "FlipsError", "Row", "Run", "compare", "compare_planned", "load_run"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("lm_eval_flips.logs.names").own_version()
    if name in _HOMES:
        return getattr(import_module(f"lm_eval_flips.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lm_eval_flips' has no attribute '{name}'")


def _notebook(comparison: Any) -> dict[str, str]:
    shown = import_module("lm_eval_flips.report.text.notebook")
    return {
        "text/plain": shown.comparison_text(comparison),
        "text/html": shown.comparison_html(comparison),
    }


show_with(_notebook)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
