"""What Jupyter shows of a comparison."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from lm_eval_flips import compare
from lm_eval_flips.report.text.notebook import comparison_html
from lm_eval_flips.report.text.table import run_table
from tests.generators import logs
from tests.generators.many_tasks import write_many


def test_every_cell_of_the_table_is_there(tmp_path: Path) -> None:
    """A table a run: the cells of tasks, groups and pool, in the order of the text."""
    comparison = compare(*write_many(tmp_path, tasks=9, samples=90))
    page = ET.fromstring(comparison_html(comparison).replace("<br>", "<br/>"))
    (table,) = page.iter("table")
    rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
    (run,) = comparison.compressed
    expected = run_table(run)
    assert rows[0] == [expected.label, *(column.label for column in expected.columns)]
    for place, (name, cells) in enumerate(zip(expected.names, rows[1:], strict=True)):
        assert cells == [name, *(column.cells[place] for column in expected.columns)]
    assert [cells[0] for cells in rows[1:]] == [*(row.name for row in run.tasks), "pooled"]


def test_names_are_escaped(tmp_path: Path) -> None:
    """A task that is called like a script is text."""
    bad = "<script>alert(1)<"
    runs = [
        logs.write_run(tmp_path / name, {bad: [logs.choice(0, row)]}, model=f"org/<b>{name}")
        for name, row in (("base", [-1.0, -2.0]), ("int4", [-2.0, -1.0]))
    ]
    html = comparison_html(compare(*runs))
    assert "<script" not in html
    assert "<b><b>" not in html
    assert "&lt;script&gt;" in html


def test_a_notebook_gets_html_and_text_without_altair(tmp_path: Path) -> None:
    """The bundle has both; showing a table loads no chart."""
    runs = [str(run) for run in write_many(tmp_path, tasks=2, samples=20)]
    code = (
        "import sys\n"
        "from lm_eval_flips import compare\n"
        f"bundle = compare(*{runs!r})"
        "._repr_mimebundle_(include=None, exclude=None)\n"
        "assert 'altair' not in sys.modules\n"
        "print(sorted(bundle), bundle['text/plain'].startswith('baseline'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['text/html', 'text/plain'] True\n"
