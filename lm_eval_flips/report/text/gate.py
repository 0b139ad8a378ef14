"""Gates -> lines for the terminal, JSON, JUnit XML, and a GitHub-flavoured Markdown summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, isnan
from typing import Any
from xml.etree import ElementTree

import msgspec

from lm_eval_flips.gate.gate import Gate
from lm_eval_flips.gate.ruling import Ruling
from lm_eval_flips.gate.thresholds import EQUIVALENCE, REQUIRED, RULES, is_least, number_of
from lm_eval_flips.report.files.markdown import cell
from lm_eval_flips.report.printable import visible

AGAIN = (
    "          choose how many samples to add before looking again: a gate that is asked until it "
    "passes does so by chance (20 looks: in 9 to 20 %, not 2.5 %)"
)
MARKS = {"pass": "✅ pass", "fail": "❌ fail", "undecided": "❔ cannot be judged"}


def gate_lines(gates: Sequence[Gate]) -> Iterator[str]:
    """One line a rule, and one for each compressed run."""
    for gate in gates:
        width = max((len(_name(ruling)) for ruling in gate.rulings), default=0)
        for ruling in gate.rulings:
            yield (
                f"{ruling.outcome.upper():<9} {_name(ruling):<{width}}  "
                f"{_measured(ruling)}  {_limit(ruling)}  {ruling.reason}{_tier(ruling)}"
            )
        for doubt in gate.doubts:
            yield f"{'UNDECIDED':<9} no run that may be wrong passes: {visible(doubt)}"
        yield f"{gate.outcome.upper():<9} {_model(gate)}{_decided(gate)}"
        if gate.outcome == "undecided" and gate.judge == "interval":
            yield AGAIN


def look_line(gate: Gate, count: int) -> str:
    """One line for a look of a gate that judges while documents are drawn."""
    rules = "; ".join(
        f"{_name(ruling)} {_measured(ruling)} {_limit(ruling)}" for ruling in gate.rulings
    )
    return f"after {count:,} of {gate.documents:,} questions {gate.outcome}: {rules}"


def gate_json(gates: Sequence[Gate]) -> bytes:
    """All rulings as JSON; what was not measured is null."""
    document = {
        "version": 1,
        "gates": [
            {
                "model": gate.model,
                "path": gate.path,
                "judge": gate.judge,
                "outcome": gate.outcome,
                "decided_after": gate.decided_after,
                "documents": gate.documents,
                "seed": gate.seed,
                "rulings": [_plain(ruling) for ruling in gate.rulings],
                "doubts": list(gate.doubts),
            }
            for gate in gates
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def gate_junit(gates: Sequence[Gate]) -> bytes:
    """JUnit XML: a suite for each run, a case for each rule; an undecided one is an error.

    What does not count for the gate's outcome is skipped, with its message.
    """
    root = ElementTree.Element("testsuites")
    for gate in gates:
        counted = [own for own in gate.rulings if own.outcome != "pass" and own.counts]
        counts = {
            "tests": len(gate.rulings) + len(gate.doubts),
            "failures": sum(ruling.outcome == "fail" for ruling in counted),
            "errors": sum(ruling.outcome == "undecided" for ruling in counted) + len(gate.doubts),
            "skipped": sum(ruling.outcome != "pass" for ruling in gate.rulings) - len(counted),
        }
        suite = ElementTree.SubElement(root, "testsuite", name=visible(_model(gate)))
        suite.attrib.update({name: str(count) for name, count in counts.items()})
        for ruling in gate.rulings:
            case = ElementTree.SubElement(
                suite, "testcase", classname=visible(ruling.row), name=ruling.rule
            )
            if ruling.outcome != "pass":
                kind = "failure" if ruling.outcome == "fail" else "error"
                kind = kind if ruling.counts else "skipped"  # told, and no fault of the suite's
                message = f"{_measured(ruling)}, {_limit(ruling)}: {ruling.reason}{_tier(ruling)}"
                ElementTree.SubElement(case, kind, message=message)
        for doubt in gate.doubts:
            case = ElementTree.SubElement(suite, "testcase", classname="run", name="plausible")
            ElementTree.SubElement(case, "error", message=visible(doubt))
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def gate_markdown(gates: Sequence[Gate]) -> str:
    """A table for each run, as GitHub shows it in a job's summary."""
    parts = []
    for gate in gates:
        rows = "".join(
            f"| {MARKS[ruling.outcome]}{_tier(ruling)} | {cell(_name(ruling))} | "
            f"{_measured(ruling)} | {_limit(ruling)} |\n"
            for ruling in gate.rulings
        )
        parts.append(
            f"### {MARKS[gate.outcome]}: {cell(_model(gate))}{_decided(gate)}\n\n"
            f"| outcome | rule | measured | threshold |\n|---|---|---|---|\n{rows}"
            + "".join(f"\nNo run that may be wrong passes: {cell(own)}\n" for own in gate.doubts)
        )
    return "\n".join(parts)


def _decided(gate: Gate) -> str:
    """After how many documents, and what the verdict speaks of."""
    if gate.decided_after is None or gate.documents is None:
        return ""
    after = f"after {gate.decided_after:,} of {gate.documents:,} questions (order {gate.seed})"
    if gate.outcome == "undecided":
        return f": not decided {after}; go on, looking as often as you like"
    return f": decided {after}, about all {gate.documents:,}"


def _name(ruling: Ruling) -> str:
    rule = ruling.rule if ruling.rule not in RULES else number_of(ruling.rule)
    return f"{ruling.row} {rule.removeprefix('max_')}"


def _model(gate: Gate) -> str:
    name = gate.model.rstrip("/")
    return name.rsplit("/", 1)[-1] if name.startswith("/") else name


def _measured(ruling: Ruling) -> str:
    if isnan(ruling.value):
        return "–"
    low, high = ruling.interval
    interval = "" if isnan(low) and isnan(high) else f" [{low:.4g}, {high:.4g}]"
    return f"{ruling.value:.4g}{interval}"


def _tier(ruling: Ruling) -> str:
    return "" if ruling.tier == "critical" else f" ({ruling.tier})"


def _limit(ruling: Ruling) -> str:
    if ruling.rule == REQUIRED:
        return "in both runs"
    if ruling.rule == EQUIVALENCE:
        return f"±{ruling.threshold:g}"
    return f"{'≥' if is_least(ruling.rule) else '≤'} {ruling.threshold:g}"


def _plain(ruling: Ruling) -> dict[str, Any]:
    numbers = {"value": ruling.value, "low": ruling.interval.low, "high": ruling.interval.high}
    finite = {name: _finite(value) for name, value in numbers.items()}
    return {
        "row": ruling.row,
        "rule": ruling.rule,
        "value": finite["value"],
        "interval": [finite["low"], finite["high"]],
        "threshold": _finite(ruling.threshold),
        "tier": ruling.tier,
        "outcome": ruling.outcome,
        "p_broken": _finite(ruling.p_broken),
        "p_holm": _finite(ruling.p_holm),
        "drawn": ruling.drawn,
        "whole": ruling.whole,
        "cut": ruling.cut,
        "reason": ruling.reason,
    }


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
