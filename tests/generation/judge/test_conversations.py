"""Conversations judged turn by turn: what the judge sees, what counts, and what compare says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lm_eval_flips import FlipsError, Row, compare
from lm_eval_flips.report.board.columns import line_columns
from lm_eval_flips.report.changed.changed import find_changed
from lm_eval_flips.report.page.embedded import json_text
from lm_eval_flips.report.page.sample_browser import browser_data
from lm_eval_flips.report.text.across import across_lines
from tests.generation.judge.conftest import Ask, Runs, kept
from tests.generators import judges, logs
from tests.generators.folders import board_of

N = 6
SCORES = {"base": (8, 6), "int4": (7, 3)}  # of turn 1 and 2, less the number of the question mod 2


def conversation(doc: int, answers: Sequence[str], *, category: str = "math") -> logs.Record:
    """The record of a question of as many turns as there are answers, of two users' texts."""
    turns = [f"Question {doc}, part {part}?" for part in range(1, len(answers) + 1)]
    keys = [f"Key {doc}.{part}" for part in range(1, len(answers) + 1)] if doc % 2 else []
    history, requests = "", []
    for turn, answer in zip(turns, answers, strict=True):
        history += f"<user>{turn}"
        requests.append((history, {"until": [], "do_sample": False}))
        history += f"<assistant>{answer}"
    document = {"question_id": f"{doc}", "category": category, "turns": turns, "reference": keys}
    return logs.record(
        doc,
        doc=document,
        target="\n\n".join(keys),
        requests=requests,
        responses=[[own] for own in answers],
        filtered=list(answers),
        metrics={"turns_answered": len(answers)},
    )


def said(model: str, doc: int, turns: int = 2) -> list[str]:
    """What a model says: the last question is answered alike by all."""
    name = "both" if doc == N - 1 else model
    return [f"{name} to {doc}.{part}" for part in range(1, turns + 1)]


def write(folder: Path, model: str, **more: Any) -> Path:
    """A run of two tasks."""
    halves = {"talk_a": range(N // 2), "talk_b": range(N // 2, N)}
    records = {
        task: [conversation(doc, said(model, doc), **more) for doc in docs]
        for task, docs in halves.items()
    }
    logs.write_run(folder, records, model=f"org/{model}", groups={"talks": list(halves)})
    return folder


@pytest.fixture
def talks(tmp_path: Path) -> Runs:
    """A baseline's and a compressed model's."""
    return Runs(write(tmp_path / "base", "base"), write(tmp_path / "int4", "int4"))


def grades(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
    """A judge whose scores are known, by the last answer that it sees."""
    words = asked["messages"][-1]["content"].split("[begin of the answer]")[-1]
    model = "base" if "base to" in words or "both to" in words else "int4"
    doc, turn = (int(own) for own in words.split(" to ")[1].split("\n")[0].split("."))
    judges.says(f"[[{SCORES[model][turn - 1] - doc % 2}]]")(handler, asked)


def rows(runs: Runs) -> dict[str, Row]:
    """All rows of the comparison, by name."""
    (run,) = compare(runs.baseline, runs.compressed).compressed
    return {row.name: row for row in (*run.tasks, *run.groups, run.pooled)}


def test_each_turn_is_judged_with_what_was_said_before(talks: Runs, ask: Ask) -> None:
    """Its question, the model's own answers, and the key to this turn; the other turns' are none."""
    with judges.judge([], grades) as judge:
        assert "12 of 12 have a verdict" in ask(talks.baseline, "--base-url", judge.url).out
    found = {
        (own.doc_id, own.turn): own.sent["messages"][-1]["content"] for own in kept(talks.baseline)
    }
    assert sorted(found) == [(doc, turn) for doc in range(N) for turn in (1, 2)]
    assert "part 2" not in found[1, 1]
    assert "[begin of the key]\nKey 1.1\n" in found[1, 1]
    assert (
        "user: Question 1, part 1?\nmodel: base to 1.1\nuser: Question 1, part 2?\n" in found[1, 2]
    )
    assert "[begin of the answer]\nbase to 1.2\n" in found[1, 2]
    assert "[begin of the key]\nKey 1.2\n" in found[1, 2]
    assert "begin of the key" not in found[0, 2]


def test_the_score_of_a_conversation_is_the_mean_of_its_turns(talks: Runs, ask: Ask) -> None:
    """By task, group and turn, with the intervals of paired samples; by hand from the scores."""
    with judges.judge([], grades) as judge:
        assert ask(talks.baseline, talks.compressed, "--base-url", judge.url).code == 0
    found = rows(talks)
    odd = np.arange(N) % 2
    changes = np.where(np.arange(N) == N - 1, 0, -2.0)
    assert set(found) == {"talk_a", "talk_b", "talks", "pooled"}
    whole = found["pooled"]
    assert whole.metric == "judge_score"
    assert whole.flips is None
    assert whole.baseline_score == pytest.approx((7 - odd).mean())
    assert whole.score_change == pytest.approx(changes.mean())
    assert whole.numbers["judge_score_change"].value == pytest.approx(changes.mean())
    for name, change in (("score", -2), ("first_turn", -1), ("later_turns", -3)):
        number = found["talk_b"].numbers[f"judge_{name}_change"]
        values = np.array([change, change, 0])  # the last is answered alike
        ends = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
        assert (number.value, *number.interval) == pytest.approx((values.mean(), *ends))
    assert found["talk_a"].score_change == pytest.approx(-2)
    assert found["talks"].score_change == pytest.approx(whole.score_change)


def test_a_conversation_without_a_verdict_on_a_turn_counts_nowhere(talks: Runs, ask: Ask) -> None:
    """The other turn's score does not stand for both; which one it is is said."""

    def but_one(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        bad = "[begin of the answer]\nint4 to 1.2" in asked["messages"][-1]["content"]
        (judges.says("Well.") if bad else grades)(handler, asked)

    with judges.judge([], but_one) as judge:
        out = ask(talks.baseline, talks.compressed, "--base-url", judge.url).out
    assert "counted nowhere: 1 (talk_a doc 1 turn 2)" in out
    assert rows(talks)["pooled"].n == N - 1
    told = [own for own in compare(*talks_of(talks)).warnings if own.code == "not-judged"]
    assert "1 of 3 samples are left out" in str(told[0])


def talks_of(runs: Runs) -> tuple[Path, Path]:
    """Both folders."""
    return runs.baseline, runs.compressed


def test_without_a_judge_the_way_out_is_said(talks: Runs) -> None:
    """One line."""
    with pytest.raises(FlipsError, match="no score but a judge's, and none was asked.*flips judge"):
        compare(talks.baseline, talks.compressed)


def test_pairs_are_held_against_each_other_turn_by_turn(talks: Runs, ask: Ask) -> None:
    """In both orders with both conversations; alike ones are asked about by nobody."""

    def reads(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        words = asked["messages"][-1]["content"]
        ours, theirs = words.index("base to"), words.index("int4 to")
        first = "[begin of conversation A]" not in words  # of turn 1 int4 wins, of others base
        judges.says(f"[[{'A' if (theirs < ours) == first else 'B'}]]")(handler, asked)

    with judges.judge([], reads) as judge:
        pair = (talks.compressed, "--pairs", "--baseline", talks.baseline, "--base-url", judge.url)
        assert "24 of 24 have a verdict" in ask(*pair).out
        assert len(judge.asked) == 4 * (N - 1)
    judged = {(own.doc_id, own.turn, own.order): own.better for own in kept(talks.compressed)}
    assert judged[0, 1, "baseline first"] == judged[0, 1, "compressed first"] == "compressed"
    assert judged[0, 2, "baseline first"] == judged[0, 2, "compressed first"] == "baseline"
    sent = next(own for own in kept(talks.compressed) if own.turn == 2 and own.order[0] == "c").sent
    words = sent["messages"][-1]["content"]
    assert words.index("model: int4 to 0.1") < words.index("model: base to 0.1")
    found = rows(talks)["pooled"]
    assert found.metric == "judge_preference"
    ties = [found.numbers[f"judge_{name}"].value for name in ("wins", "losses", "ties")]
    assert ties == [0, 0, N]  # a win and a loss of each conversation


def test_prompts_of_two_turns_in_mt_benchs_format(talks: Runs, ask: Ask, tmp_path: Path) -> None:
    """Each place is filled by its own turn; without such prompts, or for three turns, one line."""
    places = "{question_1}|{ref_answer_1}|{answer_1}|{question_2}|{ref_answer_2}|{answer_2}"
    plain = places.replace("|{ref_answer_1}", "").replace("|{ref_answer_2}", "")
    own = ("{question} {answer}", "{question} {ref_answer_1} {answer}")
    file = tmp_path / "prompts.jsonl"

    def prompts(*templates: str) -> Path:
        lines = [{"type": "single", "prompt_template": own} for own in templates]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return file

    with judges.judge([], judges.says("[[7]]")) as judge:
        base = ("--base-url", judge.url, "--prompts")
        assert ask(talks.baseline, *base, prompts(*own, plain, places)).code == 0
        refused = ask(talks.compressed, *base, prompts(*own))
        assert (refused.code, "show a judge 1 turn of" in refused.out) == (2, True)
        sent = {
            (own.doc_id, own.turn): own.sent["messages"][-1]["content"]
            for own in kept(talks.baseline)
        }
        assert sent[1, 1] == "Question 1, part 1? Key 1.1 base to 1.1"
        assert sent[1, 2] == (
            "Question 1, part 1?|Key 1.1|base to 1.1|Question 1, part 2?|Key 1.2|base to 1.2"
        )
        assert sent[0, 2] == "Question 0, part 1?|base to 0.1|Question 0, part 2?|base to 0.2"
        records = {"talk": [conversation(0, said("base", 0, turns=3))]}
        logs.write_run(tmp_path / "three", records)
        three = ask(tmp_path / "three", *base, prompts(*own, plain, places))
        assert (three.code, "show a judge 2 turns" in three.out) == (2, True)
        assert "3 of 3 have a verdict" in ask(tmp_path / "three", "--base-url", judge.url).out


def test_a_judges_score_stands_beside_the_flips_of_other_tasks(tmp_path: Path, ask: Ask) -> None:
    """Not in their score; over three runs and more its drop is held against flips and KL."""
    kl = [0.1, 0.4, 0.2, 0.8, 0.6]  # of five models, each as much worse
    paths = []
    for place in range(len(kl) + 1):
        model = f"m{place}"
        moved = [0.0, *kl][place]
        sums = [
            logs.choice(i, (-6.0, -6.5 + (i + 1) / 6 * moved * 3), gold=0, choices=("oak", "elm"))
            for i in range(12)
        ]
        talk = [conversation(doc, [f"{model} {doc}.{part}" for part in (1, 2)]) for doc in range(N)]
        logs.write_run(tmp_path / model, {"sums": sums, "talk": talk}, model=f"org/{model}")
        paths.append(tmp_path / model)

    def worse(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        model, doc = (
            asked["messages"][-1]["content"].split("[begin of the answer]\nm")[1].split()[:2]
        )
        drop = 10 * [0.0, *kl][int(model)] * (float(doc) > 1)
        judges.says(f"[[{9 - round(drop)}]]")(handler, asked)

    with judges.judge([], worse) as judge:
        assert ask(*paths, "--base-url", judge.url).code == 0
    comparison = compare(*paths)
    run = comparison.compressed[1]
    assert run.pooled.metric == "acc"
    (talked,) = [row for row in run.tasks if row.name == "talk"]
    (summed,) = [row for row in run.tasks if (row.name, row.metric) == ("sums", "acc")]
    assert run.pooled.score_change == summed.score_change
    number = run.pooled.numbers["judge_score_change"]
    assert number == talked.numbers["judge_score_change"]
    assert number.value == pytest.approx(-4 * 5 / 6)
    drops = [-own.pooled.numbers["judge_score_change"].value for own in comparison.compressed]
    flips = [own.pooled.numbers["flips"].value for own in comparison.compressed]
    (own,) = [own for own in comparison.text_losses if own.loss == "judge_drop"]
    found = own.told_by
    assert set(found) == {"choice_flips", "choice_net_loss", "choice_kl", "different_text"}
    assert found["choice_kl"].statistic == pytest.approx(1)
    assert found["choice_flips"].statistic == pytest.approx(stats.spearmanr(drops, flips).statistic)
    (line,) = [own for own in across_lines(comparison) if own.startswith("drop of the judge")]
    assert "(n = 5), Spearman with choice flips" in line
    assert compare(*paths[:3]).text_losses == ()
    # and in the leaderboard, a line a model, beside flips and KL
    (paths[0]).rename(tmp_path / "baseline")
    board = board_of(tmp_path)
    names = [own.name for own in line_columns(board)]
    assert {"flips", "choice KL", "judge"} <= set(names)
    by_model = {run.model: run.entry.pooled.value("judge_score_change") for run in board.runs}
    assert by_model == pytest.approx({f"org/m{i + 1}": -drop for i, drop in enumerate(drops)})


def test_the_page_shows_what_the_judge_holds_for_worse_and_why(talks: Runs, ask: Ask) -> None:
    """Of both sides all turns, the scores and the judge's own words; as data, whatever they are."""

    def reasons(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        model = "int4" if "int4 to 2" in asked["messages"][-1]["content"] else "others"
        judges.says(f"</script> by {model}. [[{4 if model == 'int4' else 8}]]")(handler, asked)

    with judges.judge([], reasons) as judge:
        assert ask(talks.baseline, talks.compressed, "--base-url", judge.url).code == 0
    comparison = compare(talks.baseline, talks.compressed)
    (found,) = find_changed(comparison)
    assert (found.direction, found.doc_id, found.flipped) == ("judged_worse", 2, False)
    data = browser_data(comparison, [found])
    (sample,), (document,) = data["samples"], data["documents"]
    assert document["question"].endswith("Question 2, part 1?")
    assert sample["answers"] == [
        f"{own} to 2.1\n\nuser: Question 2, part 2?\n\n{own} to 2.2" for own in ("base", "int4")
    ]
    assert (sample["judge"], sample["scores"]) == ("judge-1", [8, 4])
    assert sample["reasons"][1] == (
        "Turn 1: </script> by int4. [[4]]\n\nTurn 2: </script> by int4. [[4]]"
    )
    assert "</script>" not in json_text(data)
