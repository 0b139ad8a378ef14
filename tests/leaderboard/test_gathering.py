"""What is in the cache is not computed again; what changed, or is damaged, is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from lm_eval_flips import FlipsError
from lm_eval_flips.comparison.options import Options
from lm_eval_flips.leaderboard import cache as cache_module
from lm_eval_flips.leaderboard import gathering
from lm_eval_flips.leaderboard.board import Board
from lm_eval_flips.leaderboard.cache import Cache
from lm_eval_flips.leaderboard.entry import Entry, from_bytes, to_bytes
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.report.files.leaderboard_table import to_csv
from tests.generators.folders import board_of, touch_later, write_folder, write_one


def again(folder: Path, *, asked: Options | None = None) -> tuple[Board, list[str]]:
    """The board with the cache, and the runs that were computed for it."""
    computed: list[str] = []
    board = board_of(folder, asked=asked, cached=True, computed=computed)
    return board, computed


def kept(folder: Path) -> list[Path]:
    """The files of the cache."""
    return sorted((folder / ".lm-eval-flips-cache").iterdir())


def test_a_second_board_computes_nothing_and_is_the_same(tmp_path: Path) -> None:
    """To the last byte, and the same as one without a cache."""
    write_folder(tmp_path)
    first, computed = again(tmp_path)
    assert sorted(computed) == ["gptq-w4a16", "int4", "int8"]
    second, computed = again(tmp_path)
    assert computed == []
    assert to_csv(first) == to_csv(second) == to_csv(board_of(tmp_path))
    assert len(kept(tmp_path)) == 3


def test_only_a_new_run_is_computed(tmp_path: Path) -> None:
    """And the board is the one that computing all gives."""
    write_folder(tmp_path)
    again(tmp_path)
    write_one(tmp_path, "nf4", 0.5)
    board, computed = again(tmp_path)
    assert computed == ["nf4"]
    assert to_csv(board) == to_csv(board_of(tmp_path))


def test_a_run_that_changed_is_computed_again(tmp_path: Path) -> None:
    """Other answers under the same names: its numbers are the new ones."""
    write_folder(tmp_path)
    before, _ = again(tmp_path)
    write_one(tmp_path, "int8", 0.2, seed=5)
    for file in (tmp_path / "int8").rglob("*.json*"):
        touch_later(file)
    after, computed = again(tmp_path)
    assert computed == ["int8"]
    assert to_csv(after) != to_csv(before)
    assert to_csv(after) == to_csv(board_of(tmp_path))


def test_any_file_of_the_baseline_or_another_option_computes_all_again(tmp_path: Path) -> None:
    """A touched samples file, another margin; the first margin's entries are still there."""
    write_folder(tmp_path, {"int8": 0.2, "int4": 3.0})
    again(tmp_path)
    assert len(again(tmp_path, asked=Options(equivalence_margin=0.02))[1]) == 2
    assert again(tmp_path)[1] == []
    touch_later(next((tmp_path / "baseline").rglob("samples_law_*")))
    assert len(again(tmp_path)[1]) == 2


def test_another_version_computes_all_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another version of this package kept is not taken."""
    write_folder(tmp_path, {"int8": 0.2})
    again(tmp_path)
    monkeypatch.setattr(cache_module, "_own_files", lambda: [("row.py", 1, 1)])
    assert again(tmp_path)[1] == ["int8"]


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "other", "whole"])
def test_a_damaged_cache_is_computed_again_and_replaced(tmp_path: Path, damage: str) -> None:
    """Cut off, one bit flipped, empty, another run's entry, and well-signed nonsense."""
    write_folder(tmp_path)
    wanted = to_csv(again(tmp_path)[0])
    file, other = kept(tmp_path)[:2]
    content = file.read_bytes()
    if damage == "whole":
        import hashlib

        inner = content[32:64] + msgspec.msgpack.encode({"lines": 3})
        file.write_bytes(hashlib.sha256(inner).digest() + inner)
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        file.write_bytes(
            {
                "cut": content[:-7],
                "bit": bytes(flipped),
                "empty": b"",
                "other": other.read_bytes(),
            }[damage]
        )
    board, computed = again(tmp_path)
    assert len(computed) == 1
    assert to_csv(board) == wanted
    assert file.read_bytes() == content
    assert again(tmp_path)[1] == []


def test_a_run_that_cannot_be_compared_is_tried_again(tmp_path: Path) -> None:
    """Its reason may be gone next time; the others are not computed again for it."""
    write_folder(tmp_path, {"int8": 0.2})
    write_one(tmp_path, "same", 0.0)
    first, computed = again(tmp_path)
    assert sorted(computed) == ["int8", "same"]
    second, computed = again(tmp_path)
    assert computed == ["same"]
    assert first.left_out == second.left_out
    assert len(second.left_out) == 1
    write_one(tmp_path, "same", 0.3)
    mended, computed = again(tmp_path)
    assert computed == ["same"]
    assert len(mended.left_out) == 0
    assert again(tmp_path)[1] == []


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    """A file in the place of its folder: the board is made, and the problem is known."""
    write_folder(tmp_path, {"int8": 0.2})
    base = load_run(tmp_path / "baseline")
    (tmp_path / "taken").write_text("")
    cache = Cache(tmp_path / "taken" / "cache", base, Options())
    run = load_run(tmp_path / "int8")
    assert cache.load(run) is None
    cache.store(run, b"entry", key=cache.key(run))
    assert cache.problem is not None
    assert "cannot be written" in cache.problem


@pytest.mark.parametrize("few", [0, 4])
def test_processes_of_their_own_give_the_same_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Whether two workers compute, or only read; the same bytes."""
    monkeypatch.setattr(gathering, "FEW", few)
    write_folder(tmp_path, {"int8": 0.2, "int4": 3.0})
    assert to_csv(board_of(tmp_path, workers=2)) == to_csv(board_of(tmp_path))


def test_an_entry_survives_its_bytes() -> None:
    """One that only says why."""
    assert from_bytes(to_bytes(Entry(reason="other prompts"))).reason == "other prompts"


def test_tasks_that_are_not_there_are_an_error_at_once(tmp_path: Path) -> None:
    """Not a board on which every run is left out."""
    write_folder(tmp_path, {"int8": 0.2})
    with pytest.raises(FlipsError, match="matches 'mmlu'"):
        board_of(tmp_path, asked=Options(tasks="mmlu"))


def test_a_process_that_is_killed_is_told() -> None:
    """In a line, not as a traceback."""
    from concurrent.futures import Future
    from concurrent.futures.process import BrokenProcessPool

    from lm_eval_flips.leaderboard.gathering import _result

    waiting: Future[bytes] = Future()
    waiting.set_exception(BrokenProcessPool("killed"))
    with pytest.raises(FlipsError, match="was killed, as for lack of memory"):
        _result(waiting)


def test_an_entry_comes_back_whole(tmp_path: Path) -> None:
    """Numbers, nan and all, settings and scores; an array that was cut is none."""
    write_folder(tmp_path)
    write_one(tmp_path, "nf4", 0.5, max_length=1024)
    run = next(run for run in board_of(tmp_path).runs if run.folder.startswith("nf4"))
    back = from_bytes(to_bytes(run.entry))
    for line, kept_line in zip(run.entry.lines, back.lines, strict=True):
        assert repr(line) == repr(kept_line)
    assert back.settings == run.entry.settings != ()
    assert back.warnings == run.entry.warnings != ()
    for scores, kept_scores in zip(run.entry.scores, back.scores, strict=True):
        assert torch.equal(scores.scores, kept_scores.scores)
        assert torch.equal(scores.clusters, kept_scores.clusters)
        assert scores.doc_ids.tolist() == kept_scores.doc_ids.tolist()
    whole = to_bytes(run.entry)
    numbers = run.entry.scores[0].scores.numpy().tobytes()
    place = whole.index(numbers)
    cut = (
        whole[: place - 1]
        + bytes([len(numbers) - 1])
        + numbers[:-1]
        + whole[place + len(numbers) :]
    )
    with pytest.raises(msgspec.MsgspecError):
        from_bytes(cut)
