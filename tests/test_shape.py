"""The shape of the code: modules and functions that fit a screen or few. ruff holds the rest."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

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


def arrows(folder: Path) -> dict[str, set[str]]:
    """Which rooms of a package import from which others, for type checking too."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        room = path.relative_to(folder).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                package, _, inside = node.module.partition(".")
                names = [inside.partition(".")[0]] if inside else [own.name for own in node.names]
                if package == folder.name and room != "__init__":
                    found.setdefault(room, set()).update(set(names) - {room, "__init__"})
    return found


def test_no_rooms_import_each_other() -> None:
    """There is an order in which every room is built from those before it."""
    order = list(TopologicalSorter(arrows(PACKAGE)).static_order())
    assert order.index("logs") < order.index("pairs") < order.index("comparison")


def test_rooms_that_import_each_other_are_seen(tmp_path: Path) -> None:
    """Control: two rooms in a circle, one of them for type checking."""
    for room, other in (("one", "two"), ("two", "three"), ("three", "one")):
        (tmp_path / room).mkdir()
        line = f"from {tmp_path.name}.{other}.module import name\n"
        (tmp_path / room / "module.py").write_text(f"if True:\n    {line}")
    with pytest.raises(CycleError):
        list(TopologicalSorter(arrows(tmp_path)).static_order())
