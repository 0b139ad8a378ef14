"""The judgements of a run: a line each in `judgements/`, written when it is made and never lost."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

import msgspec

from lm_eval_flips.errors import FlipsError

Kind = Literal["score", "pair"]
Key: TypeAlias = tuple[str, int, str, int, str, int]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a judgement depends on beside the answers; judgements of others are kept apart."""

    kind: Kind
    judge: str
    prompts: str  # digest
    temperature: float
    references: bool

    @property
    def file_name(self) -> str:
        """Name of the file of such judgements: the kind, the judge's name, and a hash of all."""
        digest = hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]
        return f"{self.kind}-{re.sub(r'[^A-Za-z0-9.-]+', '-', self.judge)[:60]}-{digest}.jsonl"


class Judgement(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One judgement: of which answers, what was sent, what came back, and the verdict.

    ``answers`` are digests of all that was written: one for a score, of a pair the baseline's, then
    the compressed run's. ``order`` is that of a pair: "baseline first" or "compressed first".
    ``turn`` is that of a conversation, from 1; 0 of any other answer, which is the only one.
    ``score`` is 1 to 10; ``better`` "baseline", "compressed" or "neither". ``fault`` says why there
    is neither. ``alike`` are two equal answers, which no judge was asked about.
    """

    settings: Settings
    task: str
    doc_id: int
    answers: list[str]
    repeat: int = 0
    order: str = ""
    turn: int = 0
    score: float | None = None
    better: str | None = None
    fault: str = ""
    alike: bool = False
    sent: dict[str, Any] = {}
    replies: list[Any] = []
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def key(self) -> Key:
        """Which judgement it is; a later one of the same key takes its place."""
        answers = " ".join(self.answers)
        return self.task, self.doc_id, answers, self.repeat, self.order, self.turn

    @property
    def judged(self) -> bool:
        """Whether there is a verdict."""
        return self.score is not None or self.better is not None

    @property
    def reasons(self) -> str:
        """What the judge wrote in its last reply; "" where that is none of the protocol."""
        return said_in(self.replies[-1]) if self.replies else ""


def said_in(reply: Any) -> str:
    """The words of a reply as it was received; "" of anything else.

    Example:
        >>> said_in('{"choices": [{"message": {"content": "Right. [[9]]"}}]}')
        'Right. [[9]]'
        >>> said_in("<html>Bad gateway</html>"), said_in(None)
        ('', '')
    """
    try:
        said = json.loads(reply)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return said if isinstance(said, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgements:
    """The judgements of one kind by one judge, the last of each key."""

    settings: Settings
    by_key: dict[Key, Judgement]


def load_judgements(folder: Path) -> list[Judgements]:
    """All that a run's folder of judgements holds, by the files' names.

    A line that a kill cut off at the end of a file was never a judgement.

    Raises:
        FlipsError: a file cannot be read, or holds something else.
    """
    return [
        Judgements(settings=first.settings, by_key=by_key)
        for file in sorted(folder.glob("*.jsonl"))
        if (by_key := {own.key: own for own in _read(file)})
        for first in [next(iter(by_key.values()))]
    ]


def _read(file: Path) -> Iterator[Judgement]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise FlipsError(f"'{file}' cannot be read: {error.strerror}") from None
    whole = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            yield msgspec.json.decode(line, type=Judgement)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise FlipsError(
                f"'{file}' line {number} is no judgement: {error}; remove that line, or the file "
                "to judge anew"
            ) from None


class Store:
    """The file of one kind of judgements, to add to: locked while it is open.

    Args:
        folder: the run's folder of judgements; made if need be.
        settings: what is judged, by whom and how.
        secret: what must never be written, such as the key; nothing if empty.

    Raises:
        FlipsError: the folder cannot be written, or another process judges this run.
    """

    def __init__(self, folder: Path, settings: Settings, *, secret: str = "") -> None:
        self._lock, self._secret = threading.Lock(), secret
        self.file = folder / settings.file_name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = self.file.open("a+b")
        except OSError as error:
            raise FlipsError(f"'{self.file}' cannot be written: {error.strerror}") from None
        with ExitStack() as unless_read:
            unless_read.callback(self._stream.close)
            self._locked()
            self.known = {own.key: own for own in _read(self.file)}
            self._cut_off()
            unless_read.pop_all()

    def _locked(self) -> None:
        import fcntl

        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FlipsError(
                f"another process is judging into '{self.file}'; wait until it has ended"
            ) from None

    def _cut_off(self) -> None:
        """Remove what a kill left of a last line."""
        content = self.file.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(self._stream.fileno(), content.rfind(b"\n") + 1)

    def add(self, judgement: Judgement) -> None:
        """Write one judgement, at once; from any thread.

        Raises:
            FlipsError: the disk is full, or gone.
        """
        line = json.dumps(msgspec.to_builtins(judgement), ensure_ascii=True)
        if self._secret:
            line = line.replace(json.dumps(self._secret)[1:-1], "***")
        with self._lock:
            try:
                self._stream.write(line.encode() + b"\n")
                self._stream.flush()
            except OSError as error:
                raise FlipsError(f"'{self.file}' cannot be written: {error.strerror}") from None
            self.known[judgement.key] = judgement

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
