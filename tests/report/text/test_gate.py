"""A gate as lines, JSON, JUnit XML and Markdown: every rule once, nothing hidden."""

from __future__ import annotations

import json
from math import nan
from xml.etree import ElementTree

import pytest

from lm_eval_flips.gate.gate import Gate
from lm_eval_flips.gate.ruling import Outcome, Ruling
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval
from lm_eval_flips.report.text.gate import gate_json, gate_junit, gate_lines, gate_markdown


def ruling(
    outcome: Outcome, rule: str = "max_flips", value: float = 0.05, row: str = "pooled"
) -> Ruling:
    """One rule with a round interval."""
    interval = NO_INTERVAL if value != value else Interval(0.0325, 0.0759)
    return Ruling(
        row=row, rule=rule, value=value, interval=interval, threshold=0.04, outcome=outcome
    )


@pytest.fixture
def gates() -> tuple[Gate, ...]:
    """Two runs, one of which fails."""
    return (
        Gate(
            model="/models/int8",
            path="runs/int8",
            judge="interval",
            rulings=(ruling("pass"), ruling("pass", "equivalence_margin", row="a|b <c>")),
        ),
        Gate(
            model="org/int4",
            path="runs/int4",
            judge="interval",
            rulings=(
                ruling("fail"),
                ruling("undecided", "max_loss"),
                ruling("undecided", "max_token_kl", nan),
            ),
        ),
    )


def test_one_line_a_rule_and_one_a_run(gates: tuple[Gate, ...]) -> None:
    """With the value, its interval and the threshold."""
    lines = list(gate_lines(gates))
    assert len(lines) == 2 + 1 + 3 + 1
    assert lines[0].split() == "PASS pooled flips 0.05 [0.0325, 0.0759] ≤ 0.04 kept".split()
    assert lines[1].endswith("±0.04  kept")
    assert lines[2].split() == ["PASS", "int8"]
    assert lines[3].startswith("FAIL")
    assert lines[4].endswith("more samples are needed")
    assert lines[5].split()[-6:] == "– ≤ 0.04 nothing was measured".split()
    assert lines[6].split() == ["FAIL", "org/int4"]


def test_json_holds_every_ruling(gates: tuple[Gate, ...]) -> None:
    """What was not measured is null."""
    found = json.loads(gate_json(gates))
    assert [own["outcome"] for own in found["gates"]] == ["pass", "fail"]
    last = found["gates"][1]["rulings"][-1]
    assert (last["value"], last["interval"], last["outcome"]) == (None, [None, None], "undecided")
    first = found["gates"][0]["rulings"][0]
    assert (first["value"], first["interval"]) == (0.05, [0.0325, 0.0759])


def test_junit_counts_failures_and_errors(gates: tuple[Gate, ...]) -> None:
    """A suite for each run; undecided is an error, as a test that could not run."""
    root = ElementTree.fromstring(gate_junit(gates))
    passed, failed = root.findall("testsuite")
    assert (passed.get("tests"), passed.get("failures"), passed.get("errors")) == ("2", "0", "0")
    assert (failed.get("tests"), failed.get("failures"), failed.get("errors")) == ("3", "1", "2")
    assert [case.get("classname") for case in passed.iter("testcase")] == ["pooled", "a|b <c>"]
    (failure,) = failed.iter("failure")
    assert failure.get("message") == "0.05 [0.0325, 0.0759], ≤ 0.04: broken"


def test_markdown_is_a_table_that_a_name_cannot_break(gates: tuple[Gate, ...]) -> None:
    """Bars in a name are escaped; each row has four cells."""
    text = gate_markdown(gates)
    assert "### ✅ pass: int8" in text
    assert "### ❌ fail: org/int4" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 5
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows)
