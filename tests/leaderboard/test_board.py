"""The board's numbers are those of `compare`, run by run; the closest to the baseline stand first."""

from __future__ import annotations

import json
from math import isnan, nan
from pathlib import Path
from typing import Any

import pytest
from statsmodels.stats.multitest import multipletests

from lm_eval_flips import compare
from lm_eval_flips.comparison.options import Options
from lm_eval_flips.leaderboard.board import Placed
from lm_eval_flips.leaderboard.line import Line
from lm_eval_flips.report.files.document import to_document
from tests.generators.folders import board_of, write_folder, write_one


def by_name(folder: Path, **options: Any) -> dict[str, Placed]:
    """The placed runs by their folder."""
    return {Path(run.folder).parts[0]: run for run in board_of(folder, **options).runs}


def hold_equal(line: Line, row: dict[str, Any]) -> int:
    """Every number of a line and its interval are the document's; how many were held."""
    held = 0
    for key, number in line.numbers.items():
        assert row[key] == (number.value if number.known else None), key
        ends = [None if isnan(end) else end for end in number.interval]
        assert row["intervals"].get(key, [None, None]) == ends, key
        held += number.known
    for name in ("filter", "metric", "higher_is_better", "test", "error_method"):
        assert row[name] == getattr(line, name), name
    wanted = row["equivalence"] and row["equivalence"]["verdict"]
    assert line.equivalence_verdict == wanted
    return held


def test_every_number_is_that_of_compare_alone(tmp_path: Path) -> None:
    """Each run, each task, the group and the pool, to the last digit, against the JSON document."""
    write_folder(tmp_path)
    asked = Options(equivalence_margin=0.05)
    for name, run in by_name(tmp_path, asked=asked).items():
        alone = compare(tmp_path / "baseline", tmp_path / name, equivalence_margin=0.05)
        (document,) = json.loads(json.dumps(to_document(alone)))["compressed"]
        first = {row["task"]: row for row in reversed(document["tasks"])}  # acc, not acc_norm
        assert set(run.entry.tasks) == set(first)
        for task, line in run.entry.tasks.items():
            assert hold_equal(line, first[task]) > 20
        (group,) = [line for line in run.entry.lines if line.level == "group"]
        assert group.task == "all"
        assert hold_equal(group, document["groups"][0]) > 20
        assert hold_equal(run.entry.pooled, document["pooled"]) > 20


def test_the_check_of_numbers_can_fail(tmp_path: Path) -> None:
    """Control: the numbers of another run are not these."""
    write_folder(tmp_path)
    run = by_name(tmp_path)["int8"]
    other = compare(tmp_path / "baseline", tmp_path / "int4")
    (document,) = to_document(other)["compressed"]
    with pytest.raises(AssertionError):
        hold_equal(run.entry.pooled, document["pooled"])


def test_the_order_is_by_kl_and_the_groups_are_those_of_the_ranking(tmp_path: Path) -> None:
    """As one comparison of all runs has them; p over the runs by statsmodels."""
    write_folder(tmp_path)
    board = board_of(tmp_path)
    names = [Path(run.folder).parts[0] for run in board.runs]
    together = compare(tmp_path / "baseline", *(tmp_path / name for name in names))
    ranking = together.ranking
    assert ranking is not None
    kls = [run.pooled.numbers["choice_kl"].value for run in together.compressed]
    assert kls == sorted(kls)
    assert [run.standing.place for run in board.runs] == [1, 2, 3]
    assert board.distance == "choice_kl"
    assert [run.ranked_score for run in board.runs] == list(ranking.scores)
    for i, run in enumerate(board.runs):
        inside = [place for place, group in enumerate(ranking.groups, 1) if i in group]
        assert run.groups == (inside[0], inside[-1])
    assert board.groups == len(ranking.groups) > 1
    adjusted = multipletests(
        [run.entry.pooled.value("p_value") for run in board.runs], method="holm"
    )[1]
    assert [run.p_holm_runs for run in board.runs] == pytest.approx(list(adjusted))


def test_runs_of_other_tasks_are_ranked_over_what_all_share(tmp_path: Path) -> None:
    """The order is over the shared tasks only; what a run lacks is not in its lines."""
    write_folder(tmp_path, {"int8": 0.2, "int4": 3.0})
    write_one(tmp_path, "nf4", 0.5, tasks=("arc",))
    board = board_of(tmp_path)
    assert board.ranked == ("arc",)
    assert board.ranked_n == 30
    assert [run.name for run in board.partial] == ["llama-nf4"]
    assert board.tasks == ("arc", "law", "maths")
    (partial,) = board.partial
    assert set(partial.entry.tasks) == {"arc"}
    assert partial.entry.not_compared == ("law", "maths")
    (int8,) = [run for run in board.runs if run.name == "llama-int8"]
    assert int8.entry.pooled.value("n") == 90
    assert int8.ranked_score == int8.entry.tasks["arc"].value("compressed_score")


def test_without_a_shared_task_there_is_no_ranking(tmp_path: Path) -> None:
    """Two runs of one task each: both are shown, the closest first, and none has a group."""
    write_folder(tmp_path, {})
    write_one(tmp_path, "int4", 3.0, tasks=("law",))
    write_one(tmp_path, "int8", 0.1, tasks=("arc",))
    board = board_of(tmp_path)
    assert board.ranked == ()
    assert [run.groups for run in board.runs] == [None, None]
    assert [run.name for run in board.runs] == ["llama-int8", "llama-int4"]


def test_one_run_has_no_group(tmp_path: Path) -> None:
    """Nothing to hold it against, but its numbers."""
    write_folder(tmp_path, {"int8": 0.2})
    (run,) = board_of(tmp_path).runs
    assert (run.standing.place, run.groups) == (1, None)
    assert isnan(run.ranked_score)
    assert run.entry.pooled.value("n") == 90


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    """Two runs of one model, and one whose name is its own."""
    write_folder(tmp_path, {"int8": 0.2})
    for name, noise in (("first", 1.0), ("second", 1.5)):
        write_one(tmp_path, name, noise, model="org/llama-awq")
    names = {run.name for run in board_of(tmp_path).runs}
    assert names == {
        "llama-int8",
        "llama-awq (first/org__llama-awq)",
        "llama-awq (second/org__llama-awq)",
    }


def test_a_run_that_cannot_be_compared_is_left_out_and_stops_nothing(tmp_path: Path) -> None:
    """Other prompts, no shared task, a log that is cut off, and a run that agrees in everything."""
    write_folder(tmp_path, {"int8": 0.2, "int4": 3.0})
    cut = write_one(tmp_path, "cut", 0.5).parent
    samples = next(cut.glob("samples_law_*"))
    samples.write_bytes(samples.read_bytes()[:-500])
    write_one(tmp_path, "same", 0.0)
    other = write_one(tmp_path, "prompts", 0.3).parent
    for file in other.glob("samples_*"):
        file.write_text(file.read_text().replace('"prompt_hash": "', '"prompt_hash": "00'))
    board = board_of(tmp_path)
    assert [run.name for run in board.runs] == ["llama-int8", "llama-int4"]
    reasons = {own.folder.split("/")[0]: own.reason for own in board.left_out}
    assert "line 30" in reasons["cut"] or "29 samples" in reasons["cut"]
    assert "agrees with the baseline in every log-likelihood" in reasons["same"]
    assert "prompt differs" in reasons["prompts"]
    assert board.left_out[0].model == "org/llama-cut"


def test_settings_that_differ_are_kept(tmp_path: Path) -> None:
    """With both values."""
    write_folder(tmp_path, {})
    write_one(tmp_path, "int8", 0.2, max_length=1024)
    (run,) = board_of(tmp_path).runs
    (setting,) = run.entry.settings
    assert (setting.setting, setting.baseline, setting.compressed) == ("max_length", 512, 1024)


def test_a_margin_is_on_the_board(tmp_path: Path) -> None:
    """And without one it is undefined, not 0."""
    write_folder(tmp_path, {"int8": 0.2})
    assert board_of(tmp_path, asked=Options(equivalence_margin=0.02)).margin == 0.02
    assert board_of(tmp_path).margin == pytest.approx(nan, nan_ok=True)
