"""The report as a person meets it, in real headless Chromium: read, filtered, sorted, linked to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from lm_eval_flips import Comparison, compare
from lm_eval_flips.report.changed.changed import ChangedSample, find_changed, read_changed
from lm_eval_flips.report.page.report_file import write_report
from tests.browsing import SIZES, Opened, chromium, opened
from tests.generators import reports
from tests.generators.many_models import write_models
from tests.report.page.test_page import BAD, bad_input

pytestmark = [pytest.mark.e2e, pytest.mark.browser]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two compressed runs of three tasks, beside a noise floor."""
    folder = tmp_path_factory.mktemp("runs")
    runs = reports.ordinary(folder, {"int8": 0.3, "int4": 1.5})
    (floor,) = reports.ordinary(folder / "floor", {}, base=0.05)
    return compare(*runs, noise_floor=floor, equivalence_margin=0.1)


@pytest.fixture(scope="module")
def samples(comparison: Comparison) -> list[ChangedSample]:
    """What the browser is to show, in its first order."""
    return read_changed(find_changed(comparison))


@pytest.fixture(scope="module")
def file(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the two runs."""
    return written(comparison, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of runs whose texts would break a careless page."""
    folder = tmp_path_factory.mktemp("hostile")
    return written(compare(*reports.hostile(folder), metric="acc"), folder)


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    """The report, open; it has said nothing and asked for nothing when the test ends."""
    with opened(browser, file) as found:
        yield found.page
        found.is_quiet()


def written(comparison: Comparison, folder: Path) -> Path:
    """The report of a comparison, in a folder."""
    (made,) = write_report(comparison, folder / "report.html", libraries=reports.libraries())
    return made


def questions(page: Page) -> list[str]:
    """The questions of the rows shown, as far as a row shows them."""
    return page.locator("#sample-table .open-sample").all_inner_texts()


def margins(page: Page) -> list[float]:
    """The top margins of the rows shown; a dash is below all."""
    cells = page.locator("#sample-table tr.sample td.c-num").all_inner_texts()
    heads = page.locator("#sample-table thead th.c-num").count()
    return [-1.0 if cell.strip() == "–" else float(cell) for cell in cells[::heads]]


def count(page: Page) -> str:
    """How many samples fit the filters, as said."""
    return page.locator("#sample-count").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_opens_from_disk_and_draws_everything(
    browser: Browser, file: Path, size: str, scheme: Any
) -> None:
    """No error, no request, marks in every chart, no wider than the window, axe-core clean."""
    with opened(browser, file, size=size, scheme=scheme) as found:
        drawn = found.page.locator(".chart svg")
        assert drawn.count() == found.page.locator(".chart").count() > 8
        marks = "[...document.querySelectorAll('.chart svg')].map(drawn => drawn.querySelectorAll("
        marks += "'[class*=mark-] path, [class*=mark-] rect, [class*=mark-] line').length)"
        assert min(found.page.evaluate(marks)) > 3
        wide = "document.documentElement.scrollWidth - innerWidth"
        assert found.page.evaluate(wide) <= 0
        violations = Axe().run(found.page).response["violations"]
        assert [(own["id"], own["nodes"][0]["html"]) for own in violations] == []
        found.is_quiet()


def test_the_accessibility_check_can_fail(page: Page) -> None:
    """Control: grey on grey is seen by axe-core."""
    page.evaluate("document.querySelector('.lead').style.color = '#ccc'")
    assert [own["id"] for own in Axe().run(page).response["violations"]] == ["color-contrast"]


def test_hostile_texts_do_nothing(browser: Browser, hostile: Path) -> None:
    """No script of a sample runs, also when it is opened; all of it can be read."""
    with opened(browser, hostile) as found:
        page = found.page
        rows = page.locator("#sample-table .open-sample")
        for place in range(1, rows.count()):
            rows.nth(place).click()
        prompts = page.locator(".prompt").all_inner_texts()
        assert {" ".join(text.split()) for text in reports.HOSTILE.values()} <= {
            " ".join(prompt.split()) for prompt in prompts
        }
        assert page.locator("main img, main script, main iframe").count() == 0
        assert page.title() == "What compression changed in base"
        assert page.locator(".card h2").inner_text().strip().endswith("&amp;-int4")
        assert any(
            "characters not shown" in text for text in page.locator(".omitted").all_inner_texts()
        )
        found.is_quiet()


def test_the_policy_stops_what_an_escape_would_let_through(browser: Browser, hostile: Path) -> None:
    """Second line: even where markup got into the page, its handler does not run."""
    with opened(browser, hostile) as found:
        inject = "text => document.querySelector('.lead').innerHTML = text"
        found.page.evaluate(inject, reports.HOSTILE["attribute"])
        found.page.wait_for_timeout(300)
        assert found.page.title() == "What compression changed in base"
        assert any("Content Security Policy" in said for said in found.said)


def test_text_of_the_right_runs_from_there(browser: Browser, hostile: Path) -> None:
    """Hebrew and Arabic are laid out from right to left, without a setting."""
    with opened(browser, hostile) as found:
        row = found.page.locator(".open-sample", has_text="מה צבע השמיים")
        assert row.evaluate("node => getComputedStyle(node).direction") == "rtl"


def test_the_first_sample_is_the_flip_that_the_baseline_was_surest_of(
    page: Page, samples: list[ChangedSample]
) -> None:
    """It is open: question, both probabilities of each choice, answers, margin, KL."""
    first = samples[0]
    detail = page.locator("td.detail").first
    text = detail.inner_text()
    assert first.text.question in text
    for choice in first.choices:
        assert f"{100 * choice.baseline:.1f} %" in text
        assert f"{100 * choice.compressed:.1f} %" in text
    assert f"baseline's top margin\n{first.found.margin:.4f}" in text
    kl = f"{first.choice_kl:.4f}" if first.choice_kl >= 0.01 else f"{first.choice_kl:.2e}"
    assert f"choice KL\n{kl} nats" in text
    gold = detail.locator("li", has_text="right answer").locator(".text").inner_text()
    assert gold == next(choice.text for choice in first.choices if choice.gold)
    answered = detail.locator("li", has_text="compressed model's answer").locator(".text")
    assert answered.inner_text() == next(c.text for c in first.choices if c.compressed_answer)
    widths = detail.locator(".track.baseline i").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().width / bar.parentNode.getBoundingClientRect().width)"
    )
    assert widths == pytest.approx([choice.baseline for choice in first.choices], abs=0.02)


@pytest.mark.parametrize(
    ("choose", "fits"),
    [
        (
            lambda page: page.get_by_role("checkbox", name="correct → incorrect").check(),
            lambda own: own.found.direction == "correct_to_incorrect",
        ),
        (
            lambda page: page.locator("#sample-task").select_option("law"),
            lambda own: own.found.metric.pairs.task == "law",
        ),
        (
            lambda page: page.locator("#sample-run").select_option("1"),
            lambda own: own.found.run == 1,
        ),
        (
            lambda page: page.get_by_label("Smallest top margin").fill("0.5"),
            lambda own: own.found.margin >= 0.5,
        ),
        (
            lambda page: page.get_by_label("Largest top margin").fill("0.2"),
            lambda own: own.found.margin <= 0.2,
        ),
        (
            lambda page: page.get_by_label("Smallest KL").fill("0.3"),
            lambda own: own.choice_kl >= 0.3,
        ),
        (
            lambda page: page.locator("#sample-search").fill("BENCH 7 "),
            lambda own: "7" in own.text.question and "bench" in own.text.question,
        ),
    ],
    ids=["direction", "task", "model", "margin from", "margin to", "KL", "search"],
)
def test_filters_leave_what_fits(
    page: Page, samples: list[ChangedSample], choose: Any, fits: Any
) -> None:
    """As many as counted from the Comparison; and the filters can be cleared."""
    expected = [own for own in samples if fits(own)]
    assert 0 < len(expected) < len(samples)
    choose(page)
    words = f"{len(expected)} of {len(samples)} changed samples"
    page.get_by_text(words, exact=True).wait_for()
    assert len(questions(page)) == min(25, len(expected))
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_text(f"{len(samples)} of {len(samples)} changed samples").wait_for()


def test_written_answers_show_where_they_part_and_what_they_are(
    browser: Browser, tmp_path: Path
) -> None:
    """The first other word and the answer are marked, turns stand apart, signs are filters."""
    file = written(compare(*reports.conversations(tmp_path)), tmp_path)
    with opened(browser, file) as found:
        page = found.page
        turns = page.locator(".prompt .turn")
        assert turns.all_inner_texts()[0].split() == ["user", "What", "is", "0?"]
        assert turns.count() == 3
        assert page.locator(".said mark.parts").all_inner_texts() == ["two.", "<b>two</b>."]
        assert page.locator(".said mark.taken").all_inner_texts() == ["4"]
        assert page.locator(".detail .badge").all_inner_texts() == [
            *("36 characters", f"{27 + 8 * 9} characters"),
            *("no answer found", "ends in a loop", "cut off"),
        ]
        page.get_by_label("ends in a loop").check()
        assert len(questions(page)) == 3
        page.get_by_label("Largest multiple").fill("2")
        assert len(questions(page)) == 0
        page.get_by_label("Largest multiple").fill("")
        page.get_by_label("ends in a loop").uncheck()
        assert Axe().run(page).response["violations"] == []
        found.is_quiet()


def test_what_fits_nothing_is_said(page: Page) -> None:
    """No empty page without a word."""
    page.locator("#sample-search").fill("no such words")
    page.get_by_text("no sample matches").wait_for()
    assert count(page).startswith("0 of")


def test_samples_are_sorted_by_head_and_by_list(page: Page, samples: list[ChangedSample]) -> None:
    """Both ways, over all pages and not only the one shown."""
    known = sorted(own.found.margin for own in samples if own.choices)
    head = page.locator("#sample-table thead").get_by_role("button", name="top margin")
    for _ in range(2):
        head.click()
        shown = margins(page)
        ordered = sorted(shown)
        assert shown in (ordered, ordered[::-1])
    page.locator("#sample-order").select_option("margin desc")
    assert margins(page) == [round(own, 3) for own in known[::-1][:25]]
    page.locator("#sample-order").select_option("")
    assert questions(page)[0] in samples[0].text.question


def test_a_link_leads_to_its_sample(
    browser: Browser, file: Path, samples: list[ChangedSample]
) -> None:
    """Also to one on another page; and the link that is shown is that link."""
    wanted = next(own for own in samples[30:] if own.choices)
    pairs = wanted.found.metric.pairs
    run = ("int8", "int4")[wanted.found.run]
    address = f"#sample={run}/{quote(pairs.task)}/{pairs.filter}/{wanted.found.doc_id}"
    with opened(browser, file, fragment=address) as found:
        row = found.page.locator("tr.sample", has=found.page.locator("[aria-expanded=true]:focus"))
        assert row.count() == 1
        detail = row.locator("+ tr td.detail")
        assert wanted.text.question in detail.inner_text()
        assert run in detail.inner_text()
        assert detail.get_by_text("Link to this sample").get_attribute("href") == address
        assert row.evaluate("row => row.getBoundingClientRect().top < innerHeight")
        found.page.evaluate("location.hash = '#sample=int9/none/none/0'")
        found.page.get_by_text("The sample of this link is not in this page.").wait_for()
        found.is_quiet()


def test_numbers_lead_to_the_samples_behind_them(page: Page, comparison: Comparison) -> None:
    """From a card's losses, and from a task's count in the table."""
    flips = comparison.compressed[1].pooled.flips
    assert flips is not None
    page.locator(".card").nth(1).locator("a.lost").click()
    assert count(page).startswith(f"{flips.correct_to_incorrect} of ")
    row = next(
        row
        for row in comparison.compressed[1].tasks
        if row.name == "law" and row.metric == "acc" and row.flips is not None
    )
    assert row.flips is not None
    name = f"{row.flips.wrong_to_wrong} samples of law, W→W"
    page.locator("#task-table tr.task", has_text="int4").get_by_label(name).first.click()
    assert count(page).startswith(f"{row.flips.wrong_to_wrong} of ")


def test_tasks_are_searched_and_sorted(page: Page, comparison: Comparison) -> None:
    """Groups and the pool stay below; every number is the terminal's."""
    rows = sum(len(run.tasks) + len(run.groups) + 1 for run in comparison.compressed)
    assert page.locator("#task-count").inner_text() == f"{rows} of {rows} rows"
    page.locator("#task-table thead th", has_text=re.compile(r"^\s*flips")).click()
    flips = [
        (100 * row.flips.flips if row.flips else -1.0)
        for run in comparison.compressed
        for row in run.tasks
    ]
    heads = [head.strip() for head in page.locator("#task-table thead th").all_inner_texts()]
    place = heads.index("flips")
    shown = [
        float(row.locator("td, th").nth(place).inner_text().split(" %")[0])
        for row in page.locator("#task-table tr.task").all()
    ]
    assert shown in (
        sorted(round(own, 2) for own in flips),
        sorted((round(own, 2) for own in flips), reverse=True),
    )
    kinds = page.locator("#task-table tbody tr").evaluate_all(
        "rows => rows.map(row => row.className)"
    )
    assert kinds == sorted(kinds, key=["task", "group", "pooled"].index)
    page.locator("#task-search").fill("law int4")
    page.get_by_text(f"2 of {rows} rows").wait_for()


def test_the_keyboard_reaches_filters_and_rows(page: Page) -> None:
    """Tab goes on from the search to every filter and to the rows, which Enter opens."""
    page.locator("#sample-search").focus()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.className")
        )
        if reached[-1] == "sample-1":
            break
    for name in ("sample-run", "sample-task", "sample-order", "margin-low", "kl-high", "sample-0"):
        assert name in reached
    row = page.locator("#sample-1")
    assert row.get_attribute("aria-expanded") == "false"
    page.keyboard.press("Enter")
    assert row.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Enter")
    assert row.get_attribute("aria-expanded") == "false"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"


def test_charts_follow_the_colour_scheme_and_the_width(page: Page) -> None:
    """Drawn anew, without opening the page again."""
    ink = "getComputedStyle(document.querySelector('.chart svg text')).fill"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{ink} !== '{light}'")
    page.set_viewport_size({"width": 390, "height": 844})
    narrow = "document.querySelector('.chart svg').getBoundingClientRect().width < 390"
    page.wait_for_function(narrow)
    assert page.locator("#sample-table thead th").count() == 2


def test_it_prints_without_controls_and_with_all_tasks(page: Page) -> None:
    """Filters are no use on paper; every row of the table is."""
    rows = page.locator("#task-table tbody tr").count()
    assert len(page.pdf()) > 50_000
    page.emulate_media(media="print")
    assert not page.locator("nav").first.is_visible()
    assert not page.locator("#sample-filters").is_visible()
    assert page.locator("#task-table tbody tr:visible").count() == rows


@pytest.mark.parametrize("name", BAD)
def test_what_is_missing_leaves_a_readable_page(
    browser: Browser, tmp_path: Path, name: str
) -> None:
    """Nothing broken, on both widths, whatever a comparison lacks."""
    file = written(bad_input(tmp_path / "runs", name), tmp_path)
    for size in SIZES:
        with opened(browser, file, size=size) as found:
            assert found.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            shown = found.page.locator("main").inner_text()
            for broken in ("NaN", "undefined", "null", "Infinity", "[object"):
                assert broken not in shown
            found.is_quiet()
            violations = Axe().run(found.page).response["violations"] if size == "wide" else []
            assert [(own["id"], own["nodes"][0]["html"]) for own in violations] == []


def test_twenty_models_are_a_table(browser: Browser, tmp_path: Path) -> None:
    """No cards, a line each; every verdict opens to its numbers; legends within their charts."""
    runs = write_models(tmp_path)
    file = written(compare(*runs, metric="acc"), tmp_path)
    looks: tuple[tuple[str, Any], ...] = (("wide", "light"), ("narrow", "dark"))
    for size, scheme in looks:
        with opened(browser, file, size=size, scheme=scheme) as found:
            page = found.page
            assert page.locator(".card").count() == 0
            assert page.locator("table.runs tbody tr").count() == 20
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            beyond = page.locator(".chart svg").evaluate_all(
                "all => all.flatMap(svg => [...svg.querySelectorAll('.role-legend text')].map("
                "text => text.getBoundingClientRect().right - svg.getBoundingClientRect().right))"
            )
            assert len(beyond) > 50
            assert max(beyond) <= 0
            details = page.locator("td.signs details").first
            assert "Holm" not in details.inner_text()
            details.locator("summary").click()
            assert "by Holm" in details.inner_text()
            assert Axe().run(page).response["violations"] == []
            found.is_quiet()


def test_the_network_check_can_fail(browser: Browser, file: Path, tmp_path: Path) -> None:
    """Control: a page that names a picture beside it is seen asking for it."""
    asking = tmp_path / "asking.html"
    html = file.read_text().replace("img-src data: blob:", "img-src *")
    asking.write_text(html.replace("<main", '<img src="beside.png" alt=""><main', 1))
    with opened(browser, asking) as found, pytest.raises(AssertionError):
        Opened.is_quiet(found)
