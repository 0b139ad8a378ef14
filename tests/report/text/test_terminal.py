"""What `compare` prints first: a sentence a model, closest first; a line each where they are many."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from scipy.stats import binomtest

from lm_eval_flips import Comparison, compare
from lm_eval_flips.comparison.standing import closest_first
from lm_eval_flips.report.text.judgement import judged
from lm_eval_flips.report.text.terminal import printed as everything_printed
from tests.generators import logs
from tests.report.text.test_table import printed

N = 120
LINES = ("lost", "even", "won")
RIGHT, WRONG = [-1.0, -2.0], [-2.0, -1.0]


def runs(
    folder: Path, moved: dict[str, tuple[int, int]], *, n: int = N, model: str = ""
) -> list[Path]:
    """A baseline of which half is right, and runs that lose and win so many of its answers."""
    paths: list[Path] = []
    for name, (lost, won) in {"base": (0, 0), **moved}.items():
        right = [i < n // 2 for i in range(n)]
        right[:lost] = [False] * lost
        right[n // 2 : n // 2 + won] = [True] * won
        nudge = 0.01 * len(paths)
        records = [
            logs.choice(i, [x - nudge * (i % 3) for x in (RIGHT if own else WRONG)])
            for i, own in enumerate(right)
        ]
        paths.append(logs.write_run(folder / name, {"task": records}, model=model or f"org/{name}"))
    return paths


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """One that lost, one that won, one of which nobody knows."""
    moved = {"won": (1, 15), "lost": (20, 2), "even": (5, 4)}
    return compare(*runs(tmp_path_factory.mktemp("three"), moved), metric="acc")


def sentences(comparison: Comparison, width: int = 10_000) -> list[str]:
    """The lines before the first table, without the heading and which is the closest."""
    lines = printed(comparison, width=width, details=False).splitlines()
    block = lines[lines.index("") + 1 :]
    if block[0].startswith("closest to the baseline"):
        block = block[block.index("") + 1 :]
    block = block[: block.index("")]
    return [line for line in block if not line.startswith("warning: ")]


def test_each_model_has_a_sentence_the_closest_first(three: Comparison) -> None:
    """Score, share of answers flipped, lost and won, KL: by hand, verdicts by scipy's exact test."""
    found = sentences(three)
    lost, even, won = (next(own for own in found if f" {name}:" in own) for name in LINES)
    assert binomtest(20, 22).pvalue < 0.05 < binomtest(5, 9).pvalue
    assert lost.startswith("▼ lost: the score got worse, 0.5000 → 0.3500 (-0.1500 [")
    assert f"{22 / N:.2%}".replace("%", " %") + " of the answers flipped, 20 lost and 2 won" in lost
    assert even.startswith("~ even: the score is not told apart from the baseline's, 0.5000 → ")
    assert "7.50 % of the answers flipped, 5 lost and 4 won" in even
    assert won.startswith("▲ won: the score got better, 0.5000 → 0.6167 (+0.1167 [")
    for sentence, place in zip(found, closest_first(three), strict=True):
        distances = three.compressed[place].pooled.distances
        assert distances is not None
        assert f"choice KL {distances.choice_kl.mean:.4f} nats, median" in sentence


def test_not_told_apart_is_not_green(three: Comparison) -> None:
    """Only what a margin has shown to be the same is."""
    styles = {run.model: judged(run.pooled).style for run in three.compressed}
    assert styles == {"org/lost": "red", "org/even": "yellow", "org/won": "yellow"}


def test_the_margin_has_its_own_words(tmp_path: Path) -> None:
    """Same within it, worse by less, worse, and not known: each with its colour."""
    moved = {"same": (1, 1), "less": (6, 0), "worse": (40, 0), "open": (30, 28)}
    found = compare(*runs(tmp_path, moved), metric="acc", equivalence_margin=0.1)
    verdicts = {run.model[4:]: judged(run.pooled) for run in found.compressed}
    tones = {name: own.tone for name, own in verdicts.items()}
    assert tones == {"same": "good", "less": "bad", "worse": "bad", "open": "open"}
    assert verdicts["same"].words == "is the same within ±0.1"
    assert verdicts["less"].words == "got worse, by less than ±0.1"
    assert verdicts["worse"].words == "got worse, maybe by more than ±0.1"
    assert verdicts["open"].words.endswith("nor shown to be within ±0.1")


def test_no_answer_flipped_is_said_so(tmp_path: Path) -> None:
    """Not "0.00 % of the answers, 0 lost and 0 won"."""
    (line,) = sentences(compare(*runs(tmp_path, {"quiet": (0, 0)}), metric="acc"))
    assert "; no answer flipped; choice KL " in line


def test_the_noise_floor_is_no_proof(tmp_path: Path) -> None:
    """What is beyond it, and what cannot be told apart from it, with how few samples that is of."""
    base, far = runs(tmp_path, {"far": (20, 2)})
    _, floor, again = runs(tmp_path / "again", {"one": (1, 1), "two": (1, 2)}, model="org/base")
    (line,) = sentences(compare(base, far, noise_floor=floor, metric="acc"))
    assert "beyond the noise floor in flips, all flips, choice KL" in line
    (line,) = sentences(compare(base, floor, noise_floor=again, metric="acc"))
    assert re.search(rf"not told apart from (it|the noise floor) in .*flips.* \(n = {N}\)", line)
    assert "within the noise floor" not in line


@pytest.fixture(scope="module")
def seventeen(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """As many as a table of quantisations has."""
    moved = {f"scheme-{i:02}-w4a16": (i, 8) for i in range(17)}
    return compare(*runs(tmp_path_factory.mktemp("seventeen"), moved, n=60), metric="acc")


@pytest.mark.parametrize("width", [80, 120, 10_000])
def test_many_models_have_a_line_each(seventeen: Comparison, width: int) -> None:
    """Closest first, in at most 40 lines, none of them wider than the terminal; details on request."""
    lines = printed(seventeen, width=width, details=False).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= width
    models = [line.split()[0] for line in lines if line.startswith("scheme-")]
    assert models == [f"scheme-{i:02}-w4a16" for i in range(17)]
    assert not any(line.startswith("task ") for line in lines)
    whole = printed(seventeen, width=width, details=True).splitlines()
    assert sum(line.startswith("task ") for line in whole) == 2 * 17


def test_models_that_share_a_letter_are_not_told_apart(seventeen: Comparison) -> None:
    """The column's letters against every pair's p, Holm over the pairs."""
    ranking = seventeen.ranking
    assert ranking is not None
    lines = printed(seventeen, width=10_000, details=False).splitlines()
    head = next(line for line in lines if line.startswith("model"))
    at = head.index("group")
    letters = {
        int(line[7:9]): set(line[at : at + 6].split()[0])
        for line in lines
        if line.startswith("scheme-")
    }
    for (first, second), p in ranking.p_values.items():
        assert bool(letters[first] & letters[second]) == (p >= 0.05), (first, second, p)
    assert any(p < 0.05 for p in ranking.p_values.values())


def test_colours_hold_to_no_color(three: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal with colours; none with NO_COLOR. Control: there are some without it."""

    def shown() -> str:
        file = io.StringIO()
        console = Console(file=file, force_terminal=True, color_system="truecolor", width=100)
        console.print(everything_printed(three), crop=False)
        return file.getvalue()

    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]m")
    assert colour.search(shown())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(shown())


def test_the_wide_form_has_every_column_at_any_width(three: Comparison) -> None:
    """--wide: no column leaves, and the lines are as wide as they are."""
    file = io.StringIO()
    Console(file=file, width=60).print(everything_printed(three, fit=False), crop=False)
    heads = [line for line in file.getvalue().splitlines() if line.startswith("task  metric")]
    assert len(heads) == 3
    for label in ("metric", "baseline", "all flips", "W→W", "median choice KL"):
        assert all(label in head for head in heads)
