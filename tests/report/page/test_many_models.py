"""A report and a leaderboard of twenty models can be read: order, colours, marks, no wall of text."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from lm_eval_flips import Comparison, compare
from lm_eval_flips.compression.naming import scheme
from lm_eval_flips.leaderboard.board import Board
from lm_eval_flips.report.board.page import to_html
from lm_eval_flips.report.charts import charts_of
from lm_eval_flips.report.charts.shown_runs import shown_runs
from lm_eval_flips.report.looks import COLOURS, OTHER
from lm_eval_flips.report.page.page import page
from tests.generators import reports
from tests.generators.folders import board_of
from tests.generators.many_models import BASELINE_BYTES, MB, MODELS, write_models

SENTENCE = re.compile(r"[A-Z][^.!?<>]{25,}[.!?](?=\s|$)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty runs beside their baseline."""
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder / "runs"


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Comparison:
    """All of them, compared."""
    names = [scheme(name).file_name for name in MODELS]
    return compare(folder / "baseline", *(folder / name for name in names), metric="acc")


@pytest.fixture(scope="module")
def board(folder: Path) -> Board:
    """The same as a board."""
    return board_of(folder)


@pytest.fixture(scope="module")
def html(comparison: Comparison) -> str:
    """The page's source."""
    return page(comparison, libraries=reports.libraries()).html


class Overview(HTMLParser):
    """Text of the section of a page that stands first, a line each element's, and first boxes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.feed(source[source.index("<main") : source.index('id="charts"')])

    def handle_data(self, data: str) -> None:
        """Keep what is not blank."""
        if text := " ".join(data.split()):
            self.lines.append(text)


def repeated(text: str) -> list[str]:
    """Sentences that stand there more than once."""
    return [own for own, count in Counter(SENTENCE.findall(text)).items() if count > 1]


def closest(comparison: Comparison) -> list[str]:
    """The runs' short names by their choice KL, as the rows have it."""
    runs = {
        run.model.removeprefix("org/tiny-"): run.pooled.numbers["choice_kl"].value
        for run in comparison.compressed
    }
    return sorted(runs, key=runs.__getitem__)


def test_the_first_box_names_the_closest(html: str, comparison: Comparison) -> None:
    """By its KL, not its score; control: the highest score is another's."""
    box = html[html.index('class="standing"') :]
    (name,) = re.findall(r'class="closest">.*?<bdi>(.*?)</bdi>', box[:3000], re.DOTALL)
    assert name == closest(comparison)[0] == "int8"
    scores = {run.model[9:]: run.pooled.compressed_score for run in comparison.compressed}
    assert max(scores, key=scores.__getitem__) != name
    assert "Which is better" not in html


def test_models_stand_by_distance(html: str, board: Board, comparison: Comparison) -> None:
    """In the page's table and on the board."""
    table = html[html.index('<table class="plain runs"') :]
    table = table[: table.index("</table>")]
    rows = re.findall(r'<th scope="row">.*?<bdi>(.*?)</bdi>', table)
    assert rows == closest(comparison)
    assert [run.model.removeprefix("org/tiny-") for run in board.runs] == rows
    assert [run.standing.place for run in board.runs] == list(range(1, 21))


def test_no_sentence_is_said_twice(html: str, board: Board) -> None:
    """Neither on the report's first section nor on the board; control: a second copy is seen."""
    report = " ".join(Overview(html).lines)
    source = to_html(board)
    text = re.sub(r"<script.*?</script>", "", source[source.index("<main") :], flags=re.DOTALL)
    told = " ".join(re.sub("<[^>]*>", " ", text).split())
    for own in (report, told):
        assert len(SENTENCE.findall(own)) >= 2
        assert repeated(own) == []
        assert repeated(f"{own} {own}") != []


def test_a_model_has_one_line_of_signs(html: str) -> None:
    """Twenty rows, no card; each sign has words for those who do not see it."""
    assert html.count('class="card"') == 0
    assert html.count('<td class="signs">') == 20
    marks = html.count('<span aria-hidden="true">~</span>')
    assert marks == html.count('<span class="hidden">score not told apart')


def test_a_family_has_one_colour_and_no_other_has_it(comparison: Comparison) -> None:
    """As many as families that have their own; grey for the one without."""
    shown = shown_runs(comparison)
    by_family = {
        own.look.family: {o.colour for o in shown if o.look.family == own.look.family}
        for own in shown
    }
    assert all(len(colours) == 1 for colours in by_family.values())
    colours = [colour for (colour,) in by_family.values()]
    assert len(set(colours)) == len(by_family) == 10
    assert set(colours) == {COLOURS.get(family, OTHER) for family in by_family}
    shapes = {own.look.shape.label: own.shape for own in shown}
    bits = {name: own.look.shape.label for own in shown for name in [own.name]}
    assert (bits["int4"], bits["gptq-w3a16"], bits["drop-2"]) == (
        "4 bits",
        "3 bits",
        "not fewer bits",
    )
    assert len(set(shapes.values())) == len(shapes)


def test_charts_name_families_and_bits(comparison: Comparison) -> None:
    """Every chart of points has both legends, and no run a colour that is not its family's."""
    found = charts_of(comparison)
    shown = {own.name: own.colour for own in shown_runs(comparison)}
    for slug in ("flips-score-change", "choice-kl-flips", "volume-direction", "pareto-flips"):
        layers = found[slug].page_spec()["layer"]
        (colour, shape) = next(
            (own["encoding"]["color"], own["encoding"]["shape"])
            for own in layers
            if "shape" in own["encoding"]
        )
        domain, colours = colour["scale"]["domain"], colour["scale"]["range"]
        assert dict(zip(domain, colours, strict=True)) == shown
        assert len(colour["legend"]["values"]) == 10
        assert len(shape["legend"]["values"]) == 5
    lines = found["change-rate-top-margin"].page_spec()["layer"][1]["encoding"]
    ranges = (lines[name]["scale"]["range"] for name in ("color", "strokeDash"))
    looks = [*zip(*ranges, strict=True)]
    assert len({str(own) for own in looks}) == len(looks) == 8


def test_fronts_and_the_best_of_families_are_counted_by_hand(
    board: Board, comparison: Comparison
) -> None:
    """Oracle: every two held against each other, the baseline too; families by their schemes."""
    for key in ("flips", "choice_kl"):
        at = {
            run.model: (MODELS[own.scheme.name][1] * MB, run.entry.pooled.value(key))
            for run in board.runs
            if (own := run.standing).scheme is not None
        }
        others = [*at.values(), (BASELINE_BYTES, 0.0)]
        expected = {
            model
            for model, own in at.items()
            if not any(o[0] <= own[0] and o[1] <= own[1] and o != own for o in others)
        }
        assert {run.model for run in board.runs if run.standing.pareto[key]} == expected
        assert 1 < len(expected) < 20
    first: dict[str, str] = {}
    for name in closest(comparison):
        made = next(own for own in MODELS if scheme(own).file_name == name)
        first.setdefault(scheme(made).recipe.family, name)
    best = {run.family: run.model[9:] for run in board.runs if run.standing.best_of_family}
    assert best == first
    assert len(first) == 10


def test_the_board_s_pictures_have_a_mark_a_model(board: Board) -> None:
    """In both, in the families' colours; the front goes down as sizes go up."""
    source = to_html(board)
    pictures = re.findall(r'<svg class="front".*?</svg>', source, re.DOTALL)
    assert len(pictures) == 2
    for picture in pictures:
        assert picture.count("<g transform") == 20
        drawn = set(re.findall(r'fill="(#\w+)"', picture))
        assert drawn == {COLOURS.get(run.family, OTHER) for run in board.runs}
        (path,) = re.findall(r'<path class="reference" d="(M[^"]*H[^"]*)"', picture)
        steps = [float(y) for y in re.findall(r"[V,]([\d.]+)", path)]
        assert all(one <= other for one, other in pairwise(steps))
