"""The page as text: one file that names nothing outside itself, escapes all, and says the numbers."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from math import nan
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from lm_eval_flips import Comparison, FlipsError, compare
from lm_eval_flips.report.page.page import page
from lm_eval_flips.report.page.report_file import write_report
from tests.generators import logs, reports


class Read(HTMLParser):
    """What a browser makes of the page: elements with attributes, scripts by id, shown text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.shown = ""
        self._inside: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(dict(attrs).get("id") or "")

    def handle_endtag(self, tag: str) -> None:
        """Leave a script."""
        if tag in ("script", "style"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        """Text of a script, or shown."""
        if self._inside:
            name = self._inside[-1]
            self.scripts[name] = self.scripts.get(name, "") + data
        else:
            self.shown += data

    def data(self, name: str) -> Any:
        """The JSON of a script."""
        return json.loads(self.scripts[name])


def made(comparison: Comparison, **options: Any) -> Read:
    """The page of a comparison, read."""
    return Read(page(comparison, libraries=reports.libraries(), **options).html)


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two compressed runs of three tasks."""
    folder = tmp_path_factory.mktemp("ordinary")
    return compare(*reports.ordinary(folder, {"int8": 0.3, "int4": 1.5}))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Texts, task and model that would break a careless page."""
    return compare(*reports.hostile(tmp_path_factory.mktemp("hostile")), metric="acc")


def test_it_says_the_numbers_of_the_comparison(ordinary: Comparison) -> None:
    """Losses, wins and flips of each run; every changed sample; every row."""
    found = made(ordinary)
    for run in ordinary.compressed:
        flips = run.pooled.flips
        assert flips is not None
        assert f"{100 * flips.flips:.2f} %" in found.shown
        assert f"{flips.correct_to_incorrect} were right and are now wrong" in found.shown
    changed = len(found.data("sample-data")["samples"])
    assert f"{changed} answers changed or flipped." in found.shown
    flipped = [
        own["direction"]
        for own in found.data("sample-data")["samples"]
        if own["direction"] in ("correct_to_incorrect", "incorrect_to_correct")
    ]
    assert len(flipped) == sum(
        run.pooled.flips.correct_to_incorrect + run.pooled.flips.incorrect_to_correct
        for run in ordinary.compressed
        if run.pooled.flips is not None
    )
    rows = found.data("table-data")["rows"]
    assert len(rows) == sum(len(run.tasks) + len(run.groups) + 1 for run in ordinary.compressed)


def test_every_chart_has_its_place_title_and_caption(ordinary: Comparison) -> None:
    """The specifications are of the charts that have a figure."""
    found = made(ordinary)
    places = [values["data-chart"] for _, values in found.elements if "data-chart" in values]
    assert len(places) > 5
    assert list(found.data("drawings")["charts"]) == places
    assert found.data("drawings")["config"].keys() == {"light", "dark"}


def test_nothing_is_loaded_from_outside(ordinary: Comparison) -> None:
    """No element names a file or an address; the policy forbids what might be added."""
    found = made(ordinary)
    for tag, values in found.elements:
        assert "src" not in values, tag
        if "href" in values:
            assert re.match(r"#|data:,$", values["href"] or ""), values
        assert not [name for name in values if name.startswith("on")], tag
    policy = next(values["content"] for _, values in found.elements if "http-equiv" in values)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_hostile_texts_are_text(hostile: Comparison) -> None:
    """No element, attribute or script comes out of what was logged."""
    found, plain = made(hostile), {"html", "head", "meta", "title", "link", "style", "body", "bdi"}
    assert {tag for tag, _ in found.elements} & {"img", "svg", "iframe", "object"} == set()
    assert [tag for tag, _ in found.elements].count("script") == 8
    assert plain <= {tag for tag, _ in found.elements}
    assert '"><img src=x onerror="document.title=1">&amp;-int4' in found.shown
    questions = [text["question"] for text in found.data("sample-data")["documents"]]
    assert set(reports.HOSTILE.values()) <= set(questions)
    assert reports.HOSTILE_TASK in {text["task"] for text in found.data("sample-data")["documents"]}


def test_the_hostile_check_can_fail(hostile: Comparison) -> None:
    """Control: the same model's name, not escaped, does make an element."""
    html = page(hostile, libraries=reports.libraries()).html
    careless = html.replace("<main", f"{reports.HOSTILE_MODEL}<main")
    assert "img" in {tag for tag, _ in Read(careless).elements}


def test_half_a_character_does_not_stop_the_page(tmp_path: Path) -> None:
    """A surrogate without its other half, which JSON can hold and a file cannot."""
    paths = []
    for name, row in (("a", [-1.0, -2.0]), ("b", [-2.0, -1.0])):
        paths.append(
            logs.write_run(tmp_path / name, {"task": [logs.choice(0, row, question="HALF?")]})
        )
        (samples,) = (tmp_path / name).rglob("samples_*.jsonl")
        samples.write_text(samples.read_text().replace("HALF", "\\ud83d"))
    (written,) = write_report(compare(*paths), tmp_path / "r.html", libraries=reports.libraries())
    assert "??" in Read(written.read_text()).data("sample-data")["documents"][0]["question"]


def test_more_samples_than_fit_are_written_beside_it(ordinary: Comparison, tmp_path: Path) -> None:
    """The page holds the first flips and says where all are; the Parquet file holds all."""
    file = tmp_path / "new" / "r.html"
    written = write_report(ordinary, file, libraries=reports.libraries(), most=5)
    assert written == [file, file.with_suffix(".parquet")]
    found = Read(file.read_text())
    samples = found.data("sample-data")["samples"]
    assert len(samples) == 5
    assert {own["direction"] for own in samples} <= {
        "correct_to_incorrect",
        "incorrect_to_correct",
    }
    assert "all are in r.parquet beside this file" in " ".join(found.shown.split())
    everything = len(made(ordinary).data("sample-data")["samples"])
    assert pyarrow.parquet.read_table(written[1]).num_rows == everything > 5
    assert "The 5 below" in found.shown
    (alone,) = write_report(ordinary, tmp_path / "s.html", libraries=reports.libraries())
    assert "beside this file" not in Read(alone.read_text()).shown


def test_files_are_not_replaced_unasked(ordinary: Comparison, tmp_path: Path) -> None:
    """Neither the page nor the table beside it."""
    file = tmp_path / "r.html"
    file.with_suffix(".parquet").write_text("")
    options: dict[str, Any] = {"libraries": reports.libraries(), "most": 5}
    with pytest.raises(FlipsError, match=r"r\.parquet' exists"):
        write_report(ordinary, file, **options)
    assert not file.exists()
    write_report(ordinary, file, **options, overwrite=True)
    with pytest.raises(FlipsError, match=r"r\.html' exists"):
        write_report(ordinary, file, **options)
    taken = tmp_path / "taken"
    taken.write_text("")
    with pytest.raises(FlipsError, match="cannot be written"):
        write_report(ordinary, taken / "r.html", **options)


def test_differing_settings_and_left_out_samples_are_loud(tmp_path: Path) -> None:
    """Named with both values, and with the run."""
    base = logs.write_run(
        tmp_path / "a", {"task": [logs.choice(i, [-1.0, -2.0]) for i in range(3)]}
    )
    comp = logs.write_run(
        tmp_path / "b",
        {
            "task": [logs.choice(i, [-2.0, -1.0]) for i in range(2)],
            "more": [logs.choice(0, [-2.0, -1.0])],
        },
        max_length=1024,
    )
    shown = " ".join(made(compare(base, comp, on_mismatch="intersect")).shown.split())
    assert "1 setting differs from the baseline's" in shown
    assert "max_length5121024" in shown.replace(" ", "")
    assert "left out 1 sample of task (none): only in the baseline" in shown
    assert "more is only in the" in shown


def bad_input(folder: Path, name: str) -> Comparison:
    """Comparisons that lack something which a page shows."""
    if name == "written only":
        records: Any = {"task": lambda side: [logs.text(i, str(i % (3 + side))) for i in range(9)]}
    elif name == "one sample":
        records = {"task": lambda side: [logs.choice(0, [-1.0 - 2 * side, -2.0])]}
    elif name == "one unchanged sample":
        records = {"task": lambda side: [logs.choice(0, [-1.0 - side / 9, -2.0])]}
    elif name == "perplexity":
        records = {"page": lambda side: [logs.rolling(i, -9.0 - i - side, "a b") for i in (1, 2)]}
    elif name == "nan":
        records = {
            "task": lambda side: [
                logs.choice(i, [-1.0 - 2 * side, nan if i == 0 else -2.0]) for i in range(3)
            ]
        }
    else:
        records = {
            f"task{number}": lambda side, number=number: [
                logs.choice(i, [-1.0 - side * ((i + number) % 3), -2.0]) for i in range(3)
            ]
            for number in range(300)
        }
    paths = [
        logs.write_run(
            folder / str(side), {task: make(side) for task, make in records.items()}, model=model
        )
        for side, model in enumerate(("base", "int4"))
    ]
    return compare(*paths, on_nan="exclude")


BAD = ("written only", "one sample", "one unchanged sample", "perplexity", "nan", "300 tasks")


@pytest.mark.parametrize("name", BAD)
def test_what_is_missing_is_left_out(tmp_path: Path, name: str) -> None:
    """The page is whole, and its numbers are those that there are."""
    comparison = bad_input(tmp_path, name)
    found = made(comparison)
    rows = found.data("table-data")["rows"]
    (run,) = comparison.compressed
    assert len([row for row in rows if row["kind"] == "task"]) == len(run.tasks)
    assert not re.search(r"\bnan\b", found.shown.replace("lihood is nan in", ""))
    assert "None" not in found.shown
    unchanged = name in ("one unchanged sample", "perplexity")
    assert ("No answer changed" in found.shown) == unchanged
    if name == "perplexity":
        assert "no task here is scored as right or wrong" in found.shown
    assert bool(found.data("sample-data")["samples"]) != unchanged
