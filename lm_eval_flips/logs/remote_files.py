"""Which files of a run's folder are read, and so fetched where the folder is at an address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lm_eval_flips.logs.names import OLD_SAMPLES_NAME, RESULTS_NAME, SAMPLES_NAME

Progress = Callable[[int, int], None]  # the bytes fetched since the last call, and those of all

# Folders of ours that comparing reads; the others hold what only evaluating does, and are large.
READ_FOLDERS = frozenset({"token_distances", "answer_distances", "judgements"})
# Files of ours: how the model was compressed, how far its evaluation is, in which order it goes.
READ_FILES = frozenset({"compression.json", "evaluation.json", "order.json"})
MODEL_DEPTH = 2  # the harness puts a run into a folder named after the model
SEVERAL_DEPTH = 3  # results that lie there say that a folder holds several runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Says of each path below a folder whether the file is read.

    Args:
        tree: a folder of runs at any depth.
        beside: one file of a run, that alone being read and the results of its date.
        own: only what is ours, in the folder itself.
    """

    tree: bool = False
    beside: str = ""
    own: bool = False

    def __call__(self, name: str) -> bool:
        """Whether the file of this path below the folder is read."""
        *folders, last = name.split("/")
        if any(folder.startswith(".") for folder in folders):
            return False
        if self._is_own(folders, last):
            return True
        if self.own or (self.beside and folders):
            return False
        if self.beside:
            return _date(last) == _date(self.beside) and (last == self.beside or _results(last))
        depth = len(folders) + 1
        if self.tree or depth <= MODEL_DEPTH:
            return _results(last) or _samples(last)
        return depth == SEVERAL_DEPTH and _results(last)

    def _is_own(self, folders: list[str], last: str) -> bool:
        above = [place for place, folder in enumerate(folders) if folder in READ_FOLDERS]
        deepest = 0 if self.own or self.beside else MODEL_DEPTH - 1
        if above:
            return self.tree or above[0] <= deepest
        return last in READ_FILES and (self.tree or len(folders) <= deepest)


def _results(name: str) -> bool:
    return RESULTS_NAME.fullmatch(name) is not None


def _samples(name: str) -> bool:
    return bool(SAMPLES_NAME.fullmatch(name) or OLD_SAMPLES_NAME.fullmatch(name))


def _date(name: str) -> str | None:
    match = RESULTS_NAME.fullmatch(name) or SAMPLES_NAME.fullmatch(name)
    return match["date"] if match else None
