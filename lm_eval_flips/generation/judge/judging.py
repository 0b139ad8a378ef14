"""Questions -> judgements: several at once, each kept when it is made, none made twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice

from lm_eval_flips.generation.judge.endpoint import Endpoint
from lm_eval_flips.generation.judge.places import places_of
from lm_eval_flips.generation.judge.prompts import FIRST, SECOND, Prompts
from lm_eval_flips.generation.judge.questions import Question
from lm_eval_flips.logs.judgements import Judgement, Key, Settings, Store
from lm_eval_flips.logs.secrets import masked_text

BASELINE_FIRST, COMPRESSED_FIRST = "baseline first", "compressed first"
CHARACTERS = 4  # of a token, roughly
TRIES = 3  # of a reply without a verdict
UNPARSABLE = "no verdict in the reply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One judgement to be made: of which question, which time, in which order of a pair."""

    question: Question
    repeat: int
    order: str

    def key(self) -> Key:
        """That of its judgement."""
        own = self.question
        answers = " ".join(own.digests)
        return own.task, own.doc_id, answers, self.repeat, self.order, own.turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be judged: all of it, what is left, and about how many tokens that sends."""

    wanted: tuple[Asked, ...]
    left: tuple[Asked, ...]
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What came of it: judgements with a verdict, those without, and the tokens used now.

    ``unjudged`` are task, doc_id and turn of those without, ``why`` what the first of them says.
    """

    verdicts: int
    unjudged: tuple[tuple[str, int, int], ...]
    why: str
    tokens_in: int
    tokens_out: int


class Judging:
    """Judges the answers of one run.

    Args:
        prompts: what is asked.
        settings: what the judgements depend on.
        store: where they are kept.
        max_tokens: the most that the judge may write.
    """

    def __init__(
        self, *, prompts: Prompts, settings: Settings, store: Store, max_tokens: int
    ) -> None:
        self._prompts, self._settings, self._store = prompts, settings, store
        self._max_tokens = max_tokens

    def plan(self, questions: Sequence[Question], *, repeats: int) -> Plan:
        """What is to be judged, without what has a verdict already."""
        orders = (BASELINE_FIRST, COMPRESSED_FIRST) if self._prompts.kind == "pair" else ("",)
        wanted = tuple(
            Asked(question=question, repeat=repeat, order=order)
            for question in questions
            for repeat in range(repeats)
            for order in orders
        )
        known = self._store.known
        left = tuple(
            asked for asked in wanted if asked.key() not in known or not known[asked.key()].judged
        )
        letters = sum(
            len(message["content"])
            for asked in left
            if not asked.question.alike
            for message in self._messages(asked)
        )
        return Plan(wanted=wanted, left=left, tokens=letters // CHARACTERS)

    def judge(
        self, plan: Plan, endpoint: Endpoint, *, concurrency: int, told: Callable[[], None]
    ) -> Judged:
        """Make every judgement that is left.

        Args:
            plan: of ``plan``.
            endpoint: the judge.
            concurrency: how many are asked at once.
            told: called after each.

        Raises:
            FlipsError: the judge cannot be asked, or a judgement cannot be kept. What was judged
                is kept.
        """
        made: list[Judgement] = []
        for judgement in _at_once(plan.left, lambda asked: self._one(asked, endpoint), concurrency):
            made.append(judgement)
            told()
        known = [self._store.known[asked.key()] for asked in plan.wanted]
        none = [own for own in known if not own.judged]
        return Judged(
            verdicts=sum(own.judged for own in known),
            unjudged=tuple(dict.fromkeys((own.task, own.doc_id, own.turn) for own in none)),
            why=none[0].fault if none else "",
            tokens_in=sum(own.tokens_in for own in made),
            tokens_out=sum(own.tokens_out for own in made),
        )

    def _messages(self, asked: Asked) -> list[dict[str, str]]:
        own = asked.question
        return self._prompts.messages(
            places_of(own, swapped=asked.order == COMPRESSED_FIRST),
            reference=own.turns[-1].reference if self._settings.references else "",
            turn=len(own.turns),
        )

    def _one(self, asked: Asked, endpoint: Endpoint) -> Judgement:
        own = asked.question
        judgement = Judgement(
            settings=self._settings,
            task=own.task,
            doc_id=own.doc_id,
            answers=list(own.digests),
            repeat=asked.repeat,
            order=asked.order,
            turn=own.turn,
        )
        if own.alike:
            judgement.better, judgement.alike = "neither", True
        else:
            self._ask(judgement, asked, endpoint)
        self._store.add(judgement)
        return judgement

    def _ask(self, judgement: Judgement, asked: Asked, endpoint: Endpoint) -> None:
        sent = {
            "messages": self._messages(asked),
            "temperature": self._settings.temperature,
            "max_tokens": self._max_tokens,
        }
        judgement.sent = sent
        for _ in range(TRIES):
            reply = endpoint.ask(sent)
            judgement.replies.append(reply.raw)
            judgement.tokens_in += reply.tokens_in
            judgement.tokens_out += reply.tokens_out
            verdict = None if reply.said is None else self._prompts.plain.verdict(reply.said)
            if isinstance(verdict, float):
                judgement.score = verdict
            elif isinstance(verdict, str):
                judgement.better = _better(verdict, asked.order)
            if verdict is not None:
                return
            if reply.refused:
                judgement.fault = f"refused: {masked_text(reply.raw):.300}"
                return
        judgement.fault = UNPARSABLE


def _better(letter: str, order: str) -> str:
    """Whose answer the letter names, in the order in which the answers stood."""
    if letter not in (FIRST, SECOND):
        return "neither"
    return "baseline" if (letter == FIRST) == (order == BASELINE_FIRST) else "compressed"


def _at_once(
    asked: Sequence[Asked], work: Callable[[Asked], Judgement], workers: int
) -> Iterator[Judgement]:
    """The work's results as they come, never more of it begun than there are workers."""
    waiting = iter(asked)
    pool = ThreadPoolExecutor(workers)
    running: set[Future[Judgement]] = set()
    try:
        running |= {pool.submit(work, own) for own in islice(waiting, workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(work, own) for own in islice(waiting, len(done))}
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
