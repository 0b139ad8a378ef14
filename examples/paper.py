"""What the paper found, beside what these runs show: a Markdown page for examples/paper.sh.

    python examples/paper.py RUNS --models MODELS --output README.md

Each claim of "Accuracy is Not All You Need" (arXiv 2407.09141) gets its numbers and one of three
verdicts: it holds, does not hold for this model, or cannot be seen with this many questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan
from pathlib import Path

import numpy as np
from scipy.stats import binomtest, fisher_exact

from lm_eval_flips import Comparison, compare
from lm_eval_flips.comparison.result import Row, RunComparison
from lm_eval_flips.compression.record import Record, read_record
from lm_eval_flips.measures.correlation import Spearman

HOLDS, FAILS, UNSEEN = (
    "holds",
    "does not hold for this model",
    "cannot be seen with this many questions",
)
FEWEST_PAIRS = 10  # of versions, below which their overlap says little


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One compressed version: what it is, and how its answers compare."""

    record: Record
    run: RunComparison

    @property
    def row(self) -> Row:
        """All questions pooled."""
        return self.run.pooled

    def number(self, key: str) -> float:
        """One of the row's numbers."""
        return self.row.numbers[key].value


def versions(comparison: Comparison, models: Path) -> list[Version]:
    """The compressed runs with the records of their models, the closest to the baseline first."""
    made = [
        Version(record=record, run=run)
        for run in comparison.compressed
        if (record := read_record(models / Path(run.model).name)) is not None
    ]
    return sorted(made, key=lambda version: version.number("choice_kl"))


def table(found: Sequence[Version]) -> Iterator[str]:
    """All versions, the closest first."""
    columns = (
        *("version", "family", "MB", "score change", "p", "flips", "all flips", "C→I / I→C"),
        *("choice KL", "token KL"),
    )
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for version in found:
        flips = version.row.flips
        lost, won = (0, 0)
        if flips is not None:
            lost, won = flips.correct_to_incorrect, flips.incorrect_to_correct
        yield (
            f"| {version.record.scheme} | {version.record.family} "
            f"| {version.record.proof.bytes / 1e6:.0f} "
            f"| {version.number('score_change'):+.4f} | {version.row.p_value:.3f} "
            f"| {share(version.number('flips'))} | {share(version.number('all_flips'))} "
            f"| {lost} / {won} "
            f"| {version.number('choice_kl'):.3g} | {version.number('token_kl'):.3g} |"
        )


def share(value: float) -> str:
    """In per cent; a dash where there is none."""
    return "–" if isnan(value) else f"{value:.2%}"


def accuracy_hides_flips(found: Sequence[Version]) -> tuple[str, str]:
    """Scores are not told apart from the baseline's while answers flip."""
    alike = [v for v in found if not v.row.p_value < 0.05]
    flipped = [v.number("flips") for v in alike if v.number("flips") > 0]
    word = HOLDS if flipped and max(flipped) >= 0.05 else UNSEEN
    return word, (
        f"the scores of {len(alike)} of {len(found)} versions are not told apart from the "
        f"baseline's (p >= 0.05), and up to {max(flipped, default=0):.1%} of their answers flipped"
    )


def flips_follow_kl(comparison: Comparison) -> tuple[str, str]:
    """Flips and KL rank compressed models alike (the paper: Spearman 0.98)."""
    parts = [
        f"{name.replace(',none,', ' ')} {of.statistic:.2f} "
        f"[{of.interval.low:.2f}, {of.interval.high:.2f}]"
        for name, of in comparison.across_runs.items()
    ]
    pooled = comparison.across_runs.get("pooled")
    lowest = float("nan") if pooled is None else pooled.interval.low
    if not parts:
        return UNSEEN, "fewer than three versions"
    word = UNSEEN if isnan(lowest) else HOLDS if lowest > 0.5 else FAILS
    return word, "Spearman of choice KL with flips: " + "; ".join(parts)


def dropped_layers(found: Sequence[Version]) -> tuple[str, str]:
    """Accuracy stays flat while layers are dropped, flips grow steadily."""
    steps = sorted(
        (v for v in found if v.record.scheme.startswith("drop-")),
        key=lambda v: int(v.record.scheme.removeprefix("drop-")),
    )
    if len(steps) < 2:
        return UNSEEN, "fewer than two versions with dropped layers"
    flips = [v.number("flips") for v in steps]
    alike = [v for v in steps if not v.row.p_value < 0.05]
    grows = all(after >= before for before, after in pairwise(flips))
    word = HOLDS if grows and len(alike) == len(steps) else FAILS
    return word, ", ".join(
        f"{v.record.scheme}: score {v.number('score_change'):+.3f} (p {v.row.p_value:.3f}), "
        f"{v.number('flips'):.1%} flips"
        for v in steps
    )


def noise_is_even(found: Sequence[Version]) -> tuple[str, str]:
    """Noise on the weights flips about as many answers one way as the other."""
    noisy = [v for v in found if v.record.scheme.startswith("noise-") and v.row.flips is not None]
    lost = sum(v.row.flips.correct_to_incorrect for v in noisy if v.row.flips)
    won = sum(v.row.flips.incorrect_to_correct for v in noisy if v.row.flips)
    uneven = [v.record.scheme for v in noisy if v.row.p_no_preference < 0.05]
    word = UNSEEN if lost + won < 20 else FAILS if uneven else HOLDS
    more = f"; uneven at 5 %: {', '.join(uneven)}" if uneven else ""
    return word, f"{lost} lost and {won} won over {len(noisy)} versions with noise{more}"


def unsure_answers_change(found: Sequence[Version]) -> tuple[str, str]:
    """Answers of a small top margin change, those of a large one hardly do."""
    bins: dict[tuple[float, float], list[int]] = {}
    for version in found:
        for part in version.row.margins.bins if version.row.margins else ():
            counts = bins.setdefault((part.low, part.high), [0, 0])
            counts[0] += part.rate.changed
            counts[1] += part.rate.n
    shares = [(low, changed / n) for (low, _), (changed, n) in sorted(bins.items()) if n]
    unsure, sure = ([0, 0], [0, 0])
    for (low, _), (changed, n) in bins.items():
        side = unsure if low < 0.5 else sure
        side[0] += changed
        side[1] += n - changed
    told = fisher_exact(np.array([unsure, sure])).pvalue < 0.05
    more = unsure[0] * sum(sure) > sure[0] * sum(unsure)
    word = (HOLDS if more else FAILS) if told else UNSEEN
    return word, "share of answers changed by the baseline's top margin: " + ", ".join(
        f"from {low:.1f} {share:.1%}" for low, share in shares
    )


def incorrect_answers_change(found: Sequence[Version]) -> tuple[str, str]:
    """Of incorrect answers more change than of correct ones."""
    more = [v for v in found if v.number("changed_of_incorrect") > v.number("changed_of_correct")]
    known = [v for v in found if not isnan(v.number("changed_of_incorrect"))]
    told = bool(known) and binomtest(len(more), len(known)).pvalue < 0.05
    word = (HOLDS if 2 * len(more) > len(known) else FAILS) if told else UNSEEN
    return word, f"in {len(more)} of {len(known)} versions"


def overlap(comparison: Comparison) -> tuple[str, str]:
    """The same answers change under many schemes: |both| / min(|either|)."""
    if comparison.overlap is None:
        return UNSEEN, "no two versions share samples"
    places = range(len(comparison.compressed))
    known = sorted(
        value
        for i in places
        for j in places
        if i < j and not isnan(value := float(comparison.overlap.coefficient(i, j)))
    )
    if len(known) < FEWEST_PAIRS:
        return UNSEEN, f"{len(known)} pairs of versions changed answers"
    middle = known[len(known) // 2]
    return (HOLDS if middle > 0.5 else FAILS), (
        f"overlap coefficients from {known[0]:.2f} to {known[-1]:.2f}, median {middle:.2f}, over "
        f"{len(known)} pairs of versions"
    )


def text_losses(comparison: Comparison) -> list[str]:
    """Which distance tells how much the written answers lose; nothing without such tasks."""
    if not comparison.text_losses:
        return []
    told = list(dict.fromkeys(key for own in comparison.text_losses for key in own.told_by))
    lines = [
        f"What tells how much written text loses: Spearman over {len(comparison.compressed)} "
        "versions, with 95 % intervals.",
        "",
        f"| loss | {' | '.join(key.replace('_', ' ') for key in told)} |",
        f"|---|{'---|' * len(told)}",
    ]
    for own in comparison.text_losses:
        cells = [correlation(own.told_by[key]) if key in own.told_by else "" for key in told]
        lines.append(f"| {own.loss.replace('_', ' ')} | {' | '.join(cells)} |")
    return [*lines, ""]


def correlation(found: Spearman) -> str:
    """A rank correlation with its interval."""
    low, high = found.interval
    ends = "" if isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return f"{found.statistic:.2f}{ends}"


def page(comparison: Comparison, found: Sequence[Version]) -> str:
    """The whole page."""
    claims = (
        ("Accuracy is nearly unchanged while answers flip", accuracy_hides_flips(found)),
        ("Flips and KL divergence rank compressed models alike", flips_follow_kl(comparison)),
        ("Dropping layers leaves accuracy flat, flips grow", dropped_layers(found)),
        ("Noise on the weights flips as many one way as the other", noise_is_even(found)),
        ("Answers that the baseline was unsure of change", unsure_answers_change(found)),
        ("Incorrect answers change more than correct ones", incorrect_answers_change(found)),
        ("Schemes change the same answers", overlap(comparison)),
    )
    first_run = found[0].run
    first = first_run.pooled
    lines = [
        "# The paper's claims, measured here",
        "",
        f"{Path(comparison.baseline.model).name} and {len(found)} compressed versions of it on "
        f"{first.n} questions of {len({row.name for row in first_run.tasks})} tasks, by",
        '`bash examples/paper.sh`. The paper is "Accuracy is Not All You Need" (arXiv 2407.09141).',
        "",
        "| the paper says | here it | numbers |",
        "|---|---|---|",
        *(f"| {claim} | {word} | {numbers} |" for claim, (word, numbers) in claims),
        "",
        "The closest to the baseline first:",
        "",
        *table(found),
        "",
        *text_losses(comparison),
    ]
    return "\n".join(lines)


def main() -> None:
    """Compare the runs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    folders = sorted(
        folder
        for folder in given.runs.iterdir()
        if folder.is_dir()
        and folder.name not in ("baseline", "noise-floor")
        and not folder.name.startswith(".")  # what the leaderboard keeps
    )
    comparison = compare(given.runs / "baseline", *folders, noise_floor=given.runs / "noise-floor")
    given.output.write_text(page(comparison, versions(comparison, given.models)), encoding="utf-8")


if __name__ == "__main__":
    main()
