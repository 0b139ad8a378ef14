"""The top of a page says what the Comparison says, in words that anyone understands."""

from __future__ import annotations

from pathlib import Path

from lm_eval_flips import compare
from lm_eval_flips.report.text.headline import Verdict, figures, sentence, typeset, verdicts
from tests.generators import logs, reports


def test_the_sentence_counts_what_was_lost_and_won(tmp_path: Path) -> None:
    """One, none and many in grammar."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {"task": [logs.choice(i, row if i < 1 else [-1.0, -2.0]) for i in range(6)]},
        )
        for name, row in (("a", [-1.0, -2.0]), ("b", [-2.0, -1.0]))
    ]
    (run,) = compare(*paths, metric="acc").compressed
    assert sentence(run.pooled) == (
        "Of 6 answers, 1 was right and is now wrong; 0 were wrong and are now right. "
        "The score went from 1.0000 to 0.8333."
    )


def test_a_perplexity_has_a_sentence_and_a_ratio(tmp_path: Path) -> None:
    """No answers there."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {"task": [logs.rolling(i, value * (i + 3), "a b c d") for i in range(5)]},
        )
        for name, value in (("a", -1.0), ("b", -1.1))
    ]
    (run,) = compare(*paths).compressed
    row = run.pooled
    assert row.perplexity is not None
    assert sentence(row).startswith("Over 5 samples the perplexity went from ")
    first, *_ = figures(row)
    assert first.label == "Perplexity ratio"
    assert first.value == f"{row.perplexity.ratio:.4f}"


def test_every_figure_is_the_row_s_with_its_interval(tmp_path: Path) -> None:
    """Score change, flips, all flips and KL, as the table prints them."""
    (run,) = compare(
        *reports.ordinary(tmp_path, {"int4": 1.5}), metric="acc", tasks="arc"
    ).compressed
    row = run.pooled
    found = {figure.label: figure for figure in figures(row)}
    assert row.flips is not None
    assert row.distances is not None
    low, high = row.intervals["flips"]
    assert found["Flips"].value == f"{100 * row.flips.flips:.2f} %"
    assert found["Flips"].interval == f"[{100 * low:.2f}, {100 * high:.2f}]"
    low, high = row.intervals["score_change"]
    assert found["Score change"].value == f"{row.score_change:+.4f}".replace("-", "−")
    assert found["Score change"].interval == f"[{low:+.4f}, {high:+.4f}]".replace("-", "−")
    low, high = row.intervals["choice_kl"]
    assert found["Choice KL"].value == f"{row.distances.choice_kl.mean:.4f}"
    assert found["Choice KL"].interval == f"[{low:.4f}, {high:.4f}]"
    assert found["All flips"].note == f"{row.flips.wrong_to_wrong} wrong in a new way"


def test_no_difference_found_is_no_verdict_of_equality(tmp_path: Path) -> None:
    """Without a margin the change may be chance; with one it is judged against that."""
    paths = reports.ordinary(tmp_path, {"int4": 1.5})
    (open_,) = verdicts(compare(*paths).compressed[0])
    assert open_.tone == "open"
    assert "That is no evidence that it is the same." in open_.text
    comparison = compare(*paths, equivalence_margin=0.3)
    (judged,) = verdicts(comparison.compressed[0])
    assert judged.tone == "good"
    assert judged.text.startswith("The scores are equivalent: their change lies within the margin.")
    assert "Margin ±0.3, 90\N{NO-BREAK SPACE}% interval [−" in judged.text


def test_what_is_within_the_noise_floor_is_said(tmp_path: Path) -> None:
    """Beyond it and within it are told apart, distance by distance."""
    base, low, high = reports.ordinary(tmp_path, {"low": 0.01, "high": 3.0})
    (floor,) = reports.ordinary(tmp_path / "floor", {}, base=0.3)
    within, beyond = compare(base, low, high, noise_floor=floor, tasks="arc").compressed
    # what is at most twice the floor is shown to be little; too few flips show nothing
    assert Verdict(text="At most twice the noise floor: all flips, choice KL.", tone="good") in [
        *verdicts(within)
    ]
    assert Verdict(text="Not told apart from the noise floor (n = 60): flips.", tone="open") in [
        *verdicts(within)
    ]
    assert Verdict(text="Beyond the noise floor: flips, all flips, choice KL.", tone="bad") in [
        *verdicts(beyond)
    ]


def test_only_signs_become_minus_signs() -> None:
    """Neither exponents nor dashes nor names."""
    assert typeset("-0.5 [-1.0, 2e-05] – a-4") == "−0.5 [−1.0, 2e-05] – a-4"
