"""The shape of the code: modules and functions that fit a screen or few. ruff holds the rest."""

from __future__ import annotations

import ast
from pathlib import Path

import lm_eval_flips

PACKAGE = Path(lm_eval_flips.__file__).parent
MODULE, FUNCTION = 250, 70  # lines at most


def too_long(folder: Path) -> dict[str, int]:
    """Modules and functions below a folder that have more lines than they may."""
    long: dict[str, int] = {}
    for path in sorted(folder.rglob("*.py")):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(folder).as_posix()
        if (lines := len(text.splitlines())) > MODULE:
            long[name] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                # the arguments of a verb are its options, a list to read by itself
                begin = node.body[0].lineno if name.startswith("cli/") else node.lineno
                if (lines := node.end_lineno - begin + 1) > FUNCTION:
                    long[f"{name}: {node.name}"] = lines
    return long


def test_modules_and_functions_are_short() -> None:
    """None is longer than the contributors' guide says."""
    assert too_long(PACKAGE) == {}


def test_long_ones_are_seen(tmp_path: Path) -> None:
    """Control: a function and a module of one line too many are told, those of the most are not."""
    function = "def f() -> None:\n" + "    ...\n" * (FUNCTION - 1)
    (tmp_path / "fits.py").write_text(function + "\n" * (MODULE - FUNCTION))
    (tmp_path / "long.py").write_text(function + "    ...\n" + "\n" * (MODULE - FUNCTION))
    assert too_long(tmp_path) == {"long.py": MODULE + 1, "long.py: f": FUNCTION + 1}
