"""The board as a person meets it: opened from disk in Chromium, sorted, filtered, in one task."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.leaderboard.board import Board
from lm_eval_flips.report.board.page import to_html
from lm_eval_flips.report.text.numbers import percent, signed
from tests.browsing import SIZES, chromium, opened
from tests.generators.folders import board_of, write_folder, write_one
from tests.generators.many_models import write_models

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

HOSTILE = "org/<img src=x onerror=document.title='run'>&lt;b&gt;-awq"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """Five runs: one lacks a task, one is called like HTML; and one that cannot be compared."""
    folder = write_folder(tmp_path_factory.mktemp("runs"))
    write_one(folder, "nf4", 0.5, tasks=("arc", "law"), max_length=1024)
    write_one(folder, "hostile", 1.4, model=HOSTILE)
    write_one(folder, "same", 0.0)
    return board_of(folder, asked=Options(equivalence_margin=0.05))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(board: Board, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The board's page."""
    made = tmp_path_factory.mktemp("page") / "board.html"
    made.write_bytes(to_html(board).encode())
    return made


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of twenty models of ten families."""
    folder = tmp_path_factory.mktemp("many")
    write_models(folder)
    made = folder / "board.html"
    made.write_bytes(to_html(board_of(folder / "runs")).encode())
    return made


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Browser, file: Path) -> Iterator[Page]:
    """The board, open; it has said nothing and asked for nothing when the test ends."""
    with opened(browser, file, size=request.param, drawn=None) as found:
        yield found.page
        found.is_quiet()


def column(page: Page, name: str) -> list[str]:
    """The cells under a head, from top to bottom."""
    heads = page.locator("#board thead th").all_inner_texts()
    place = [head.strip() for head in heads].index(name)
    return [
        row.locator("td, th").nth(place).inner_text()
        for row in page.locator("#board tbody tr").all()
    ]


def names(page: Page) -> list[str]:
    """The shown models, from top to bottom, without the star of a family's closest."""
    return [text.split("\n")[0].split("\N{NO-BREAK SPACE}")[0] for text in column(page, "model")]


def test_it_shows_every_run_closest_first_with_its_numbers(page: Page, board: Board) -> None:
    """In the order of their KL; the page is no wider than the window."""
    assert names(page) == [run.name for run in board.runs]
    for run, change, flips in zip(
        board.runs, column(page, "change"), column(page, "flips"), strict=True
    ):
        pooled = run.entry.pooled
        assert change.split("\n")[0] == signed(pooled.value("score_change"))
        assert flips.split("\n")[0] == percent(pooled.value("flips"))
    assert page.locator("#board tbody svg.spark").count() == 2 * len(board.runs)
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]
    assert page.locator("#shown").inner_text() == "5 of 5 runs"


def test_what_is_not_on_the_board_is_below_it(page: Page) -> None:
    """With the reason."""
    text = page.locator("main").inner_text()
    assert "Not on the board" in text
    assert "agrees with the baseline in every log-likelihood" in text
    assert "Other tasks do not count for the groups, as llama-nf4 lack some." in text


def test_a_name_is_text(page: Page) -> None:
    """A model that is called like an image with a script does nothing."""
    assert HOSTILE.rsplit("/", 1)[-1] in names(page)
    assert page.title() == "Compressed runs against org/llama"
    assert page.locator("#board img").count() == 0


def test_the_family_filters(page: Page, board: Board) -> None:
    """Only its runs; all again."""
    page.select_option("#family", "GPTQ")
    assert names(page) == ["llama-gptq-w4a16"]
    assert page.locator("#shown").inner_text() == "1 of 5 runs"
    page.select_option("#family", "")
    assert len(names(page)) == len(board.runs)


def test_a_head_sorts(page: Page, board: Board) -> None:
    """By the number, not its text; from the keyboard too; most flips first."""
    head = page.locator("#board thead th", has_text="flips").first
    head.click()
    expect(head).to_have_attribute("aria-sort", "descending")
    flips = {run.name: run.entry.pooled.value("flips") for run in board.runs}
    wanted = sorted(flips.values(), reverse=True)
    assert [flips[name] for name in names(page)] == wanted
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert [flips[name] for name in names(page)] == wanted[::-1]


def test_search_finds_models(page: Page) -> None:
    """By a part of the name."""
    page.fill("#search", "int4")
    assert names(page) == ["llama-int4"]


def test_one_task_at_a_time(page: Page, board: Board) -> None:
    """Its numbers instead of the pool's, dashes where a run lacks it; and back."""
    pooled = column(page, "change")
    page.select_option("#task", "maths")
    for run, change, n in zip(board.runs, column(page, "change"), column(page, "n"), strict=True):
        line = run.entry.tasks.get("maths")
        assert change.split("\n")[0] == (
            "–" if line is None else signed(line.value("score_change"))
        )
        assert n == ("–" if line is None else "30")
    head = page.locator("#board thead th", has_text=re.compile(r"^choice KL$"))
    head.click()
    expect(head).to_have_attribute("aria-sort", "descending")
    kls = [
        line.value("choice_kl")
        for name in names(page)
        for run in board.runs
        if run.name == name and (line := run.entry.tasks.get("maths")) is not None
    ]
    assert kls == sorted(kls, reverse=True)
    head = page.locator("#board thead th", has_text="group")
    head.click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    page.select_option("#task", "")
    assert column(page, "change") == pooled


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_twenty_models_are_readable_by_all(
    browser: Browser, many: Path, size: str, scheme: Any
) -> None:
    """axe-core clean, no wider than the window, two pictures, whose names do not touch."""
    with opened(browser, many, size=size, scheme=scheme, drawn=None) as found:
        page = found.page
        assert page.locator("#board tbody tr").count() == 20
        assert page.locator("svg.front").count() == 2
        width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1]
        boxes = (
            page.locator("svg.front")
            .first.locator("text.name")
            .evaluate_all(
                "texts => texts.map(text => text.getBBox()).map(b => [b.x, b.y, b.x + b.width, b.y + b.height])"
            )
        )
        assert len(boxes) > 10
        for place, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[:place]:
                apart = right <= other[0] or other[2] <= left or bottom - 4 <= other[1]
                assert apart or other[3] - 4 <= top
        violations = Axe().run(page).response["violations"]
        assert [(own["id"], own["nodes"][0]["html"]) for own in violations] == []
        found.is_quiet()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_readable_by_all(browser: Browser, file: Path, size: str, scheme: Any) -> None:
    """Contrast, names and keyboard, as axe-core checks them, in both widths and schemes."""
    with opened(browser, file, size=size, scheme=scheme, drawn=None) as found:
        violations = Axe().run(found.page).response["violations"]
        assert [(own["id"], own["nodes"][0]["html"]) for own in violations] == []


def test_it_reads_without_scripts(browser: Browser, file: Path) -> None:
    """The pooled board is there; what would do nothing is not shown."""
    context = browser.new_context(java_script_enabled=False)
    found = context.new_page()
    found.goto(file.as_uri())
    assert found.locator("#board tbody tr").count() == 5
    assert not found.locator("#controls").is_visible()
    context.close()
