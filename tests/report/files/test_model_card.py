"""A model card's block: its numbers, its names as text, and that only it is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_flips import FlipsError, compare
from lm_eval_flips.report.files.model_card import BEGIN, END, model_card, with_block
from lm_eval_flips.report.text.numbers import nats, percent, signed
from tests.conftest import LocalRuns
from tests.generators import logs
from tests.generators.folders import write_folder, write_one

markdown_it = pytest.importorskip("markdown_it")


def rendered(text: str) -> str:
    """As GitHub's Markdown renders it."""
    html: str = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(text)
    return html


def test_the_block_has_a_sentence_a_table_and_how_it_was_measured(tmp_path: Path) -> None:
    """Every number is the comparison's; a task a row, then the group and the pool."""
    write_folder(tmp_path, {"int4": 3.0})
    comparison = compare(
        tmp_path / "baseline", tmp_path / "int4", equivalence_margin=0.01, metric="acc"
    )
    (run,) = comparison.compressed
    text = model_card(comparison, harness="0.4.13")
    assert text.startswith(BEGIN)
    assert text.endswith(END + "\n")
    flips = run.pooled.flips
    assert flips is not None
    assert "Over 90 samples of 3 tasks, " in text
    assert (
        f"{flips.correct_to_incorrect} became incorrect, {flips.incorrect_to_correct} correct"
        in text
    )
    assert "Measured with lm-evaluation-harness 0.4.13" in text
    assert "Equivalence within ±0.01: " in text
    header, _, *lines = [line for line in text.splitlines() if line.startswith("| ")]
    labels = [label.strip() for label in header.strip("| ").split(" | ")]
    assert [line.split()[1] for line in lines] == ["arc", "law", "maths", "all", "pooled"]
    for row, line in zip((*run.tasks, *run.groups, run.pooled), lines, strict=True):
        assert row.flips is not None
        assert row.distances is not None
        shown = [own.strip() for own in line.strip("| ").split(" | ")]
        cells = dict(zip(labels, shown, strict=True))
        assert cells[r"change \[95 %\]"].startswith(f"{signed(row.score_change)} ")
        assert cells[r"flips \[95 %\]"].startswith(f"{percent(row.flips.flips)} ")
        assert int(cells["C→I"]) == row.flips.correct_to_incorrect
        assert cells["choice KL"] == nats(row.distances.choice_kl.mean)
    assert rendered(text).count("<tr>") == 6


def test_many_tasks_are_folded_below_their_group(tmp_path: Path) -> None:
    """A card stays short."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {
                f"task{t}": [logs.choice(i, row, question=f"{t} {i}") for i in range(3)]
                for t in range(14)
            },
            model=name,
            groups={"every": [f"task{t}" for t in range(14)]},
        )
        for name, row in (("base", [-1.0, -2.0]), ("int4", [-2.0, -1.0]))
    ]
    html = rendered(model_card(compare(*paths, metric="acc")))
    before, folded = html.split("<details><summary>14 tasks</summary>")
    assert before.count("<tr>") == 1 + 2
    assert folded.count("<tr>") == 1 + 14


def test_several_runs_have_a_part_each_and_settings_are_told(tmp_path: Path) -> None:
    """By their models' names."""
    write_folder(tmp_path, {"int8": 0.2})
    write_one(tmp_path, "int4", 3.0, max_length=1024)
    comparison = compare(tmp_path / "baseline", tmp_path / "int8", tmp_path / "int4")
    text = model_card(comparison)
    assert text.count("### org/llama-") == 2
    assert text.count("Warning: settings that differ: max_length 512 → 1024.") == 1


def test_names_are_text(tmp_path: Path) -> None:
    """A model and a task that are called like markup."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {"t": [logs.choice(i, row) for i in range(3)]},
            model=f"{name}<script>|[x](y)",
        )
        for name, row in (("base", [-1.0, -2.0]), ("int4", [-2.0, -1.0]))
    ]
    html = rendered(model_card(compare(*paths)))
    assert "<script" not in html
    assert "<a " not in html
    assert "base&lt;script&gt;|[x](y)" in html


def test_generated_text_and_a_local_path_are_fine(local_runs: LocalRuns) -> None:
    """No column of what nothing has; a local model by its last name; perplexities as scores."""
    text = model_card(compare(local_runs.baseline, local_runs.compressed))
    assert "token KL" not in text
    assert str(local_runs.baseline.parent) not in text
    assert "/tmp" not in text
    assert "tiny\\_rolling" not in text
    assert "| tiny_rolling | word_perplexity |" in text
    assert "| tiny_cloze | acc |" in text


CARD = "---\nlicense: mit\n---\n# A model\n\nText.\n"
BLOCK = f"{BEGIN}\n\nnew\n\n{END}\n"


def test_a_block_is_put_at_the_end_and_renewed_in_its_place() -> None:
    """What stands before and after it stays as it is, to the last byte."""
    first = with_block(CARD, f"{BEGIN}\n\nold\n\n{END}\n")
    assert first.startswith(CARD)
    assert "old" in first
    more = first + "\n## Licence\n"
    assert with_block(more, BLOCK) == more.replace("old", "new")
    assert with_block(with_block(more, BLOCK), BLOCK) == with_block(more, BLOCK)
    assert with_block("", BLOCK) == BLOCK


def test_line_ends_stay_the_card_s() -> None:
    """A card that was written on Windows."""
    found = with_block(CARD.replace("\n", "\r\n"), BLOCK)
    assert found.count("\n") == found.count("\r\n")


@pytest.mark.parametrize("marks", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_marks_that_are_no_pair_are_refused(marks: str) -> None:
    """Rather than to replace what is not ours."""
    with pytest.raises(FlipsError, match="not one beginning and one end"):
        with_block(CARD + marks, BLOCK)
