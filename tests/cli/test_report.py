"""`report`, and `--report` of compare: what is written, printed and refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_cli import command
from tests.generators import reports


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A baseline and two compressed runs."""
    folder = tmp_path_factory.mktemp("runs")
    reports.ordinary(folder, {"int8": 0.3, "int4": 1.5})
    return [str(folder / name) for name in ("base", "int8", "int4")]


def test_report_writes_one_file_and_prints_its_path(runs: list[str], tmp_path: Path) -> None:
    """A second time it refuses before it compares, or replaces; nothing else is printed."""
    arguments = ["report", *runs, "--output", "new/r.html", "--equivalence-margin", "0.1"]
    done = command(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "wrote new/r.html\n", "")
    html = (tmp_path / "new/r.html").read_text()
    assert "What compression changed in" in html
    assert "Margin ±0.1" in html
    again = command(*arguments, folder=tmp_path)
    assert again.returncode == 2
    assert again.stderr == (
        "error: 'new/r.html' exists; name another file, or replace it with --overwrite\n"
    )
    assert command(*arguments, "--overwrite", folder=tmp_path).returncode == 0


def test_compare_writes_the_same_report(runs: list[str], tmp_path: Path) -> None:
    """Beside its table, and with the sizes that are given."""
    size = ["--size", "int8=2MB", "--size", "int4=1MB"]
    done = command("compare", *runs, "--report", "r.html", *size, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "of the answers flipped" in done.stdout
    assert done.stdout.endswith("wrote r.html\n")
    command("report", *runs, "--output", "s.html", *size, folder=tmp_path)
    assert (tmp_path / "r.html").read_text() == (tmp_path / "s.html").read_text()
    assert "pareto" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere' does not exist"),
        (["{int4}", "--size", "int4"], "'int4' is no size"),
        (["{int4}", "--size", "int9=3GB"], "int9"),
        (["{int4}", "--noise-floor", "{int4}"], "noise floor"),
        (["{int4}", "--output", "taken/r.html"], "'taken/r.html' cannot be written"),
    ],
)
def test_a_mistake_is_one_line(
    runs: list[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    """No traceback, and no half of a page."""
    (tmp_path / "taken").write_text("")
    filled = [argument.format(int4=runs[2]) for argument in arguments]
    done = command("report", runs[0], *filled, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("package", ["altair", "itables", "jinja2", "vl_convert"])
@pytest.mark.parametrize("verb", ["report", "compare", "run"])
def test_without_the_extra_one_line_says_what_to_install(
    runs: list[str], tmp_path: Path, verb: str, package: str
) -> None:
    """Before anything is read or evaluated."""
    arguments = {
        "report": ["report", *runs],
        "compare": ["compare", *runs, "--report", "r.html"],
        "run": [
            *("run", "--baseline", "pretrained=none", "--compressed", "pretrained=none"),
            *("--tasks", "arc", "--output_path", "out", "--report", "r.html"),
        ],
    }
    code = (
        f"import sys\nsys.modules[{package!r}] = None\nsys.argv = ['x', *{arguments[verb]!r}]\n"
        "from lm_eval_flips import cli\ncli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"error: a report needs {package}: pip install 'lm-eval-flips[report]'\n"
    )


def test_help_loads_nothing_heavy() -> None:
    """--help answers without torch, altair or jinja2."""
    code = (
        "import sys\nfrom lm_eval_flips import cli\nsys.argv = ['x', 'report', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'lm_eval', 'numpy', 'altair', 'jinja2', 'vl_convert', 'itables'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--noise-floor" in done.stdout
