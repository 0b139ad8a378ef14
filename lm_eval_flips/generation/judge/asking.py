"""What a user asks of a judge -> the judging of each run, with everything checked before it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.generation.judge.endpoint import KEY as KEY_LENGTH
from lm_eval_flips.generation.judge.endpoint import Endpoint
from lm_eval_flips.generation.judge.judging import Judged, Judging, Plan
from lm_eval_flips.generation.judge.prompts import Prompts, prompts
from lm_eval_flips.generation.judge.questions import Question, pair_questions, questions_of
from lm_eval_flips.logs.addresses import refuse_address
from lm_eval_flips.logs.judgements import Settings, Store
from lm_eval_flips.logs.runs import JUDGEMENTS, Run, load_run

KEY = "OPENAI_API_KEY"
NO_KEY = "none"  # what a server of one's own is asked with


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The judging of one run: its questions, where judgements are kept, and the judge."""

    questions: Sequence[Question]
    judging: Judging
    endpoint: Endpoint
    file: Path
    warnings: tuple[str, ...]

    def plan(self, repeats: int) -> Plan:
        """What is to be judged."""
        return self.judging.plan(self.questions, repeats=repeats)

    def judge(self, plan: Plan, *, concurrency: int, told: Callable[[], None]) -> Judged:
        """Judge it.

        Raises:
            FlipsError: the judge cannot be asked, or a judgement cannot be kept.
        """
        return self.judging.judge(plan, self.endpoint, concurrency=concurrency, told=told)


class Asking:
    """A judge and what it is asked, for any number of runs.

    Raises:
        FlipsError: the library or the key is missing, prompts cannot be used, or there is no
            baseline to compare with.
    """

    def __init__(  # noqa: PLR0913  (an argument is an option)
        self,
        *,
        model: str,
        base_url: str | None,
        pairs: bool,
        baseline: Path | None,
        prompts: Path | None,
        references: bool,
        temperature: float,
        max_tokens: int,
        retries: int,
        timeout: float,
        told: Callable[[str], None],
    ) -> None:
        if pairs != (baseline is not None):
            raise FlipsError(
                "--pairs compares with a baseline: give --baseline RUN"
                if pairs
                else "--baseline is of use with --pairs alone: add that, or leave it out"
            )
        self._key = _key(base_url)
        self._endpoint = Endpoint(
            model, base_url=base_url, key=self._key, timeout=timeout, retries=retries, told=told
        )
        self._prompts = _prompts(pairs, prompts)
        self._baseline = None if baseline is None else load_run(baseline)
        self._settings = Settings(
            kind=self._prompts.kind,
            judge=model,
            prompts=self._prompts.digest,
            temperature=temperature,
            references=references,
        )
        self.max_tokens = max_tokens

    @contextmanager
    def of_run(self, path: Path, *, tasks: str, limit: int | None) -> Iterator[Work]:
        """The judging of a run, its file of judgements locked meanwhile.

        Raises:
            FlipsError: the run holds no generated answers, or judgements cannot be kept there, as
                at an address.
        """
        refuse_address(path, what="judgements in")
        run = load_run(path)
        if self._baseline is None:
            questions = questions_of(run, tasks=tasks, limit=limit)
        else:
            questions = pair_questions(self._baseline, run, tasks=tasks, limit=limit)
        folder = folder_of(run, path)
        secret = self._key if len(self._key) >= KEY_LENGTH else ""
        with Store(folder, self._settings, secret=secret) as store:
            yield Work(
                questions=questions,
                judging=Judging(
                    prompts=self._prompts,
                    settings=self._settings,
                    store=store,
                    max_tokens=self.max_tokens,
                ),
                endpoint=self._endpoint,
                file=store.file,
                warnings=tuple(_warnings(self._endpoint.model, run)),
            )


def folder_of(run: Run, path: Path) -> Path:
    """Where a run's judgements are kept: where they are already, else in the folder given."""
    if run.judgements is not None:
        return run.judgements
    beside = (run.path.parent.resolve(), run.path.parent.parent.resolve())
    return (path if path.resolve() in beside else run.path.parent) / JUDGEMENTS


def _prompts(pairs: bool, file: Path | None) -> Prompts:
    return prompts("pair" if pairs else "score", file)


def _key(base_url: str | None) -> str:
    """The key of the environment; a server of one's own may need none."""
    key = os.environ.get(KEY, "").strip()
    if not key and base_url is None:
        raise FlipsError(
            f"no key: set {KEY} in the environment, or name a server of your own with --base-url"
        )
    return key or NO_KEY


def _warnings(model: str, run: Run) -> Iterator[str]:
    names = {PurePath(name).name.casefold() for name in (model, run.model)}
    if len(names) == 1:
        yield f"the judge '{model}' is the judged model itself: it may favour its own answers"
