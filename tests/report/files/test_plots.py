"""Charts as files."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lm_eval_flips import Comparison, FlipsError, compare
from lm_eval_flips.report.charts import charts_of
from lm_eval_flips.report.files.plot_file import NEEDED
from lm_eval_flips.report.files.plots import refuse_plots, write_plots
from tests.generators import logs
from tests.report.charts.conftest import one_sample  # noqa: F401  (a fixture)

RIGHT, WRONG = [-1.0, -2.0, -3.0], [-2.0, -1.0, -3.0]


def test_each_chart_is_an_svg_and_a_png(one_sample: Comparison, tmp_path: Path) -> None:  # noqa: F811
    """The files are whole pictures; the SVG has the title and no path of this machine."""
    files = write_plots(one_sample, tmp_path / "a" / "plots")
    slugs = list(charts_of(one_sample))
    assert [file.name for file in files] == [
        f"{slug}.{kind}" for slug in slugs for kind in ("svg", "png")
    ]
    for file in files:
        if file.suffix == ".png":
            assert file.read_bytes().startswith(b"\x89PNG")
            continue
        text = file.read_text(encoding="utf-8")
        assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert 'fill="white"' in text
        assert charts_of(one_sample)[file.stem].title.split("'")[0] in text
        assert str(tmp_path) not in text


def test_pictures_are_not_replaced_unasked(one_sample: Comparison, tmp_path: Path) -> None:  # noqa: F811
    """A second time is refused, or replaces; other files do not matter."""
    (tmp_path / "notes.txt").write_text("kept")
    write_plots(one_sample, tmp_path)
    with pytest.raises(FlipsError, match="holds pictures .*name another folder, or replace"):
        write_plots(one_sample, tmp_path)
    assert write_plots(one_sample, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "kept"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """Refused before anything is compared."""
    (tmp_path / "plots").write_text("")
    with pytest.raises(FlipsError, match="is a file; name a folder for the plots"):
        refuse_plots(tmp_path / "plots", overwrite=True)


def test_without_the_extra_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vl-convert missing for files; altair missing for the charts themselves."""
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "vl_convert", None)
        with pytest.raises(FlipsError) as caught:
            refuse_plots(tmp_path, overwrite=False)
    assert str(caught.value) == NEEDED
    assert NEEDED == "charts need altair and vl-convert: pip install 'lm-eval-flips[report]'"
    code = (
        "import sys; sys.modules['altair'] = None\n"
        "from lm_eval_flips import FlipsError\n"
        "try: import lm_eval_flips.report.charts\n"
        "except FlipsError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{NEEDED}\n"


def test_compare_writes_plots(tmp_path: Path) -> None:
    """--plots and --size through the command line; refused before reading if they are there."""
    for name, flipped in (("base", 0), ("int8", 1), ("int4", 3)):
        records = [logs.choice(i, WRONG if i < flipped else RIGHT) for i in range(6)]
        logs.write_run(tmp_path / name, {"task": records}, model=name)
    runs = [str(tmp_path / name) for name in ("base", "int8", "int4")]
    command = [sys.executable, "-m", "lm_eval_flips", "compare", *runs, "--plots"]
    sizes = ["--size", "int8=8GB", "--size", "int4=4.5GB"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, str(tmp_path / "plots"), *more],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = run(*sizes)
    assert done.returncode == 0, done.stderr
    expected = charts_of(compare(*runs), sizes={"int8": 8_000_000_000, "int4": 4_500_000_000})
    assert "pareto-flips" in expected
    written = {file.stem for file in (tmp_path / "plots").iterdir()}
    assert written == set(expected)
    again = run()
    assert again.returncode == 2
    assert again.stdout == ""
    assert again.stderr.startswith(f"error: '{tmp_path / 'plots'}' holds pictures (")
    wrong = run("--overwrite", "--size", "int8")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "is no size; give MODEL=BYTES" in wrong.stderr
