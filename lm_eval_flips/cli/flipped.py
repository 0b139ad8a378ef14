"""`--show-flips`: a flipped sample on the screen, what each model thought of every choice."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from lm_eval_flips.report.printable import visible_lines

if TYPE_CHECKING:
    from rich.console import Console

    from lm_eval_flips.report.text.flipped import FlippedSample


def print_flip(console: Console, sample: FlippedSample) -> None:
    """Print the sample: where it is from, its question, its target, its choices."""
    from rich.text import Text

    console.print()
    sure = "" if isnan(sample.margin) else f"  (baseline's top margin {sample.margin:.2f})"
    console.print(
        Text.assemble(
            (f"{sample.task} doc {sample.doc_id}", "bold"),
            f"  {sample.metric}  {sample.direction}{sure}  {sample.compressed}",
        )
    )
    for line in visible_lines(sample.question.strip()):
        console.print(Text(line))
    for line in visible_lines(f"target: {sample.target}"):
        console.print(Text(line, style="dim"))
    for choice in sample.choices:
        marks = f"{'baseline' if choice.baseline_answer else '':>9}" + (
            f" {'compressed' if choice.compressed_answer else '':<11}"
        )
        shares = (
            "" if isnan(choice.baseline) else f"{choice.baseline:6.1%} → {choice.compressed:6.1%}"
        )
        for line in visible_lines(f"{marks}{shares}  {choice.text}"):
            console.print(Text(line))
