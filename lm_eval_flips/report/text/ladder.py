"""Files of one model by size: which is the smallest that passes a gate, and what each costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from lm_eval_flips.comparison.model_sizes import ModelSize
from lm_eval_flips.comparison.result import Comparison, Row
from lm_eval_flips.gate.gate import Gate
from lm_eval_flips.gate.ruling import Outcome
from lm_eval_flips.report.columns import COLUMN
from lm_eval_flips.report.files.markdown import cell, table
from lm_eval_flips.report.names import run_names

SHOWN = ("flips", "all_flips", "choice_kl", "token_kl", "score_change")
WORDS: dict[Outcome, str] = {"pass": "passes", "fail": "fails", "undecided": "cannot be judged"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One file: what it is called, how large it is, its row over all tasks, and what a gate says.

    ``bits_per_weight`` is nan where the baseline's number of weights is not known; ``letters`` are
    those of the groups of files whose scores cannot be told apart, "" without such groups.
    """

    name: str
    bytes: int
    bits_per_weight: float
    outcome: Outcome
    row: Row
    letters: str

    @property
    def size(self) -> str:
        """Its size in words."""
        bits = "" if isnan(self.bits_per_weight) else f", {self.bits_per_weight:.2f} bits a weight"
        return f"{self.bytes / 1e6:,.0f} MB{bits}"


def rungs(
    comparison: Comparison, gates: Sequence[Gate], sizes: Mapping[str, ModelSize]
) -> tuple[Rung, ...]:
    """The compressed runs whose size is known, the smallest first.

    Args:
        comparison: the comparison.
        gates: what a gate says of each of its compressed runs, in their order.
        sizes: sizes by the path of a run.
    """
    names = run_names(comparison)
    letters = comparison.ranking.letters if comparison.ranking else [""] * len(names)
    both = zip(names, comparison.compressed, gates, letters, strict=True)
    found = [
        Rung(
            name=name,
            bytes=sizes[run.path].bytes,
            bits_per_weight=sizes[run.path].bits_per_weight,
            outcome=gate.outcome,
            row=run.pooled,
            letters=own,
        )
        for name, run, gate, own in both
        if run.path in sizes
    ]
    return tuple(sorted(found, key=lambda rung: (rung.bytes, rung.name)))


def ladder_sentence(ladder: Sequence[Rung]) -> str:
    """The smallest file that passes; where none does, that none does.

    What is smaller and cannot be judged is said: it may pass with more samples.
    """
    if not ladder:
        return "The size of no compressed model is known."
    passing = next((rung for rung in ladder if rung.outcome == "pass"), None)
    if passing is None:
        open_ones = [rung for rung in ladder if rung.outcome == "undecided"]
        if not open_ones:
            return f"None of the {len(ladder)} files passes the gate."
        return (
            f"None of the {len(ladder)} files passes the gate; {_named(open_ones)} cannot be "
            "judged with so few samples."
        )
    smaller = ladder[: ladder.index(passing)]
    told = [
        f"{_named(own)} {'is' if len(own) == 1 else 'are'} smaller and {word}"
        for word, own in (
            ("fails" if len(_of(smaller, "fail")) == 1 else "fail", _of(smaller, "fail")),
            ("cannot be judged with so few samples", _of(smaller, "undecided")),
        )
        if own
    ]
    end = f" {'; '.join(told)}." if told else ""
    first = f"{passing.name} ({passing.size}) is the smallest of {len(ladder)} files that passes"
    return f"{first} the gate.{end}"


def ladder_table(ladder: Sequence[Rung]) -> str:
    """The same as a Markdown table, the smallest first."""
    rows = [rung.row for rung in ladder]
    keys = [key for key in SHOWN if any(COLUMN[key].number(row).known for row in rows)]
    grouped = any(rung.letters for rung in ladder)
    head = ["file", "MB", "bits", *(COLUMN[key].title(rows) for key in keys)]
    lines = [[*_sizes(rung), *(_shown(key, rung.row) for key in keys)] for rung in ladder]
    if grouped:
        head.append("group")
        lines = [[*line, rung.letters] for line, rung in zip(lines, ladder, strict=True)]
    head.append("gate")
    lines = [[*line, WORDS[rung.outcome]] for line, rung in zip(lines, ladder, strict=True)]
    return table(head, lines)


def ladder_markdown(ladder: Sequence[Rung], *, floor: Row | None) -> str:
    """A block of Markdown: the sentence, the table, and what the engine's own noise is.

    Args:
        ladder: the files.
        floor: the row of the baseline's second run over all tasks, if there is one.
    """
    return "\n".join(_block(ladder, floor))


def _block(ladder: Sequence[Rung], floor: Row | None) -> Iterator[str]:
    yield f"{cell(ladder_sentence(ladder))}\n"
    yield ladder_table(ladder)
    if any(rung.letters for rung in ladder):
        yield "Files that share a letter have scores that cannot be told apart.\n"
    if floor is not None:
        shown = [
            f"{COLUMN[key].label} {COLUMN[key].text(floor)}"
            for key in ("flips", "all_flips", "token_kl")
            if COLUMN[key].number(floor).known
        ]
        yield f"The baseline against itself in other batches: {', '.join(shown)}.\n"


def _of(ladder: Sequence[Rung], outcome: Outcome) -> list[Rung]:
    return [rung for rung in ladder if rung.outcome == outcome]


def _named(ladder: Sequence[Rung]) -> str:
    names = [rung.name for rung in ladder]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sizes(rung: Rung) -> list[str]:
    bits = "–" if isnan(rung.bits_per_weight) else f"{rung.bits_per_weight:.2f}"
    return [cell(rung.name), f"{rung.bytes / 1e6:,.0f}", bits]


def _shown(key: str, row: Row) -> str:
    column = COLUMN[key]
    return f"{column.text(row)} {column.interval(row)}".rstrip().replace("|", "\\|")
