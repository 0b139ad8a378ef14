"""Documents that test themselves: what their `$` blocks print, and lists made from the package.

A block of the language `console` holds commands behind `$ ` and, below each, the whole of what it
prints on a terminal of a hundred columns::

    python -m tests.documents          renews every block and list of every document
    python -m tests.documents FILE     of these alone

A list stands between `<!-- NAME -->` and `<!-- end of NAME -->`, and is made by the function of
that name in `LISTS`.
"""

from __future__ import annotations

import ast
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import lm_eval_flips
from lm_eval_flips.comparison.numbers import SPECS
from lm_eval_flips.pairs.sample_values import SAMPLE_VALUES
from lm_eval_flips.report.columns import COLUMN
from lm_eval_flips.report.files.leaderboard_table import columns as leaderboard_columns

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "examples/README.md")
MAP = "lm_eval_flips/README.md"
COLUMNS = 100  # of the terminal: a page of a repository shows as many
BLOCK = re.compile(r"(?P<head>^```console\n)(?P<body>.*?)(?P<tail>^```$)", re.DOTALL | re.MULTILINE)
LIST = re.compile(r"<!-- (?P<name>[a-z ]+) -->\n.*?<!-- end of (?P=name) -->", re.DOTALL)
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

# The package's rooms in the order in which data flows.
ROOMS = (
    *("logs", "pairs", "measures", "uncertainty", "comparison"),
    *("planning", "gate", "leaderboard", "report", "cli"),
    *("scoring", "generation", "compression", "evaluation", "harness"),
)


def rooms() -> str:
    """A table of the package's rooms, by the first sentence of each `__init__.py`."""
    package = Path(lm_eval_flips.__file__).parent
    present = {path.parent.name for path in package.glob("*/__init__.py")}
    assert present <= set(ROOMS), f"a room that the map does not order: {present - set(ROOMS)}"
    lines = ["| room | what belongs in it |", "|---|---|"]
    for room in (name for name in ROOMS if name in present):
        docstring = ast.get_docstring(ast.parse((package / room / "__init__.py").read_text()))
        lines.append(f"| `{room}/` | {(docstring or '').splitlines()[0]} |")
    return "\n".join(lines)


def path_of(name: str) -> Path:
    """A document's file; what belongs to the package lies where the package is installed."""
    package = Path(lm_eval_flips.__file__).parent
    return package.parent / name if name.startswith(f"{package.name}/") else ROOT / name


def numbers() -> str:
    """A table of every number of a row, by the two lists that hold them."""
    lines = ["| key | shown as | unit | interval | meaning |", "|---|---|---|---|---|"]
    for spec in SPECS:
        interval = spec.no_interval or f"`{spec.key}_low`, `{spec.key}_high`"
        column = COLUMN[spec.key]
        lines.append(
            f"| `{spec.key}` | {column.label} | {spec.unit} | {interval} | {column.meaning} |"
        )
    return "\n".join(lines)


def sample_values() -> str:
    """A table of what is known of every sample, and of how the harness sums it up."""
    lines = ["| column | unit | in the harness's table |", "|---|---|---|"]
    for value in SAMPLE_VALUES:
        summed = (
            "" if value.aggregation is None else f"`{value.table_key}`: {value.aggregation.value}"
        )
        lines.append(f"| `METRIC.{value.key}` | {value.unit.value} | {summed} |")
    return "\n".join(lines)


def board_columns() -> str:
    """The names of the leaderboard's columns that are no numbers of a row."""
    known = {spec.key for spec in SPECS}
    own = [
        name
        for name in leaderboard_columns()
        if name.removesuffix("_low").removesuffix("_high") not in known
    ]
    return textwrap.fill(", ".join(f"`{name}`" for name in own) + ".", width=118)


LISTS: Mapping[str, Callable[[], str]] = {
    "rooms": rooms,
    "numbers of a row": numbers,
    "values of a sample": sample_values,
    "other columns of the leaderboard": board_columns,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a block and what the document says that it prints."""

    command: str
    printed: str


def steps(body: str) -> Iterator[Step]:
    """The commands of a block; a line that ends in a backslash goes on in the next."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command = re.match(r"(?:.*\\\n)*.*\n", part)
        assert command is not None, part
        yield Step(command=command[0].rstrip("\n"), printed=part[command.end() :])


def blocks(document: Path) -> list[str]:
    """The console blocks of a document."""
    return [block["body"] for block in BLOCK.finditer(document.read_text(encoding="utf-8"))]


def code(document: Path, language: str) -> list[str]:
    """A document's blocks of another language."""
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def reader_s_folder(folder: Path) -> Path:
    """What a reader has: the examples of a checkout; what a command writes lands beside them."""
    shutil.copytree(ROOT / "examples", folder / "examples", symlinks=True)
    return folder


def printed_by(command: str, folder: Path) -> str:
    """What a command prints on a terminal that has no colours.

    Its error output is a pipe, as with `2>&1 | ...`: progress bars are not part of a document.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["bash", "-euc", command],
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    printed = b"".join(_chunks(ours))
    os.close(ours)
    _, errors = process.communicate(timeout=300)
    text = ANSI.sub("", printed.decode().replace("\r\n", "\n"))
    lines = (text + errors.decode() if process.returncode > 1 else text).splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines).strip("\n") + "\n"


def _chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(descriptor, 1 << 16)
        except OSError:  # how Linux says that the terminal's other end is closed
            return
        if not chunk:
            return
        yield chunk


def _environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return {**kept, "PATH": path, "NO_COLOR": "1", "TERM": "xterm", "HOME": str(folder)}


def renewed(text: str, folder: Path) -> str:
    """A document's text with what its commands print today, and today's lists."""

    def block(match: re.Match[str]) -> str:
        body = "\n".join(
            f"$ {step.command}\n{printed_by(step.command, folder)}" for step in steps(match["body"])
        )
        return f"{match['head']}{body}{match['tail']}"

    return with_lists(BLOCK.sub(block, text))


def with_lists(text: str) -> str:
    """A document's text with today's lists."""

    def listed(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- {name} -->\n{LISTS[name]()}\n<!-- end of {name} -->"

    return LIST.sub(listed, text)


def main() -> None:
    """Renew the documents that are named, or all."""
    for name in sys.argv[1:] or (*DOCUMENTS, MAP):
        document = path_of(name)
        with tempfile.TemporaryDirectory() as temporary:
            text = renewed(document.read_text(encoding="utf-8"), reader_s_folder(Path(temporary)))
        document.write_text(text, encoding="utf-8")
        print(f"{name}: renewed")


if __name__ == "__main__":
    main()
