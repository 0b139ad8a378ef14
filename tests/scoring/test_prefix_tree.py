"""The plan of shared prefixes: every pack is walked, token by token, back to its requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from lm_eval_flips import FlipsError
from lm_eval_flips.scoring.prefix_tree import WORTH_KEEPING, Branch, Pack, plain_batches, plan
from lm_eval_flips.scoring.requests import TokenRequest

LONGEST = 300


class Case(NamedTuple):
    """A request as the harness hands it over: a context and a continuation."""

    context: list[int]
    continuation: list[int]

    @property
    def read(self) -> list[int]:
        """What the model reads, and the last token, which it only predicts."""
        return (self.context + self.continuation)[-(LONGEST + 1) :]


def made(cases: Sequence[Case]) -> list[TokenRequest]:
    """The requests of some cases."""
    return [TokenRequest.of(*case, max_length=LONGEST) for case in cases]


def cases_of(seed: int, count: int = 60) -> list[Case]:
    """Cases that grow out of each other, so that they share prefixes of every length.

    Among them are duplicates, one-token choices of one context, and prefixes of others.
    """
    rng = np.random.default_rng(seed)
    texts = [rng.integers(0, 150_000, 2).tolist()]
    cases: list[Case] = []
    while len(cases) < count:
        parent = texts[rng.integers(len(texts))]
        kept = int(rng.integers(0, len(parent) + 1))
        new = rng.integers(0, rng.choice([2, 150_000]), rng.choice([0, 1, 3, 40, 100])).tolist()
        text = [*parent[:kept], *new]
        texts.append(text)
        if len(text) < 2:
            continue
        several = int(rng.integers(1, min(len(text), LONGEST + 1)))
        scored = several if rng.random() < 0.4 else 1
        cases.append(Case(text[:-scored], text[-scored:]))
        if rng.random() < 0.3:
            cases.append(Case(text[:-1], rng.integers(0, 150_000, 1).tolist()))
    return cases


def packs(branch: Branch, before: Sequence[int] = ()) -> Iterator[tuple[list[int], Pack]]:
    """All packs below, each with the tokens that are kept before it."""
    assert branch.base == len(before), "a branch begins where the tokens before it end"
    kept = [*before, *branch.tokens.tolist()]
    for step in branch.steps:
        if isinstance(step, Pack):
            yield kept, step
        else:
            yield from packs(step, kept)


def branches(branch: Branch) -> Iterator[Branch]:
    """All branches below."""
    for step in branch.steps:
        if isinstance(step, Branch):
            yield step
            yield from branches(step)


def planned_tokens(branch: Branch) -> int:
    """Tokens that are run."""
    kept = sum(len(below.tokens) for below in branches(branch))
    return kept + sum(len(pack) for _, pack in packs(branch, range(branch.base)))


def walk_pack(before: Sequence[int], pack: Pack, cases: Sequence[Case]) -> None:
    """Hold every token that a pack's requests see against what the harness feeds for them."""
    assert pack.base == len(before), "a pack begins where the tokens before it end"
    visible = pack.visible()
    assert len(pack.tokens) == len(pack.depths) == len(pack.ends) == len(pack)
    assert len(pack.requests) == len(pack.places)
    met: set[int] = set()
    for index, places in zip(pack.requests, pack.places, strict=True):
        case = cases[index]
        path = np.flatnonzero(visible[places[-1]])
        met.update(path.tolist())
        assert [*before, *pack.tokens[path]] == case.read[:-1], "the request's tokens are seen"
        assert pack.depths[path].tolist() == list(range(pack.base, len(case.read) - 1)), "depths"
        for at, place in enumerate(path.tolist()):
            assert np.flatnonzero(visible[place]).tolist() == path[: at + 1].tolist(), "ancestors"
        assert places.tolist() == path[len(path) - len(places) :].tolist(), "the last are scored"
        after = pack.base + visible[places].sum(1)
        assert [case.read[token] for token in after] == case.continuation, "what is predicted"
    assert met == set(range(len(pack))), "no token is run for nothing"


def walk(
    branch: Branch,
    cases: Sequence[Case],
    *,
    among: Sequence[int] | None = None,
    before: Sequence[int] = (),
) -> None:
    """Walk a whole plan; every request is scored exactly once."""
    scored: Counter[int] = Counter()
    for kept, pack in packs(branch, before):
        walk_pack(kept, pack, cases)
        scored.update(pack.requests)
    assert scored == Counter(range(len(cases)) if among is None else among), "once each"


@pytest.mark.parametrize(
    ("context", "continuation", "max_length", "fed", "first_scored"),
    [
        ([1, 2, 3], [4, 5], 9, [1, 2, 3, 4], 2),
        ([1, 2, 3], [4, 5], 4, [1, 2, 3, 4], 2),
        ([1, 2, 3], [4, 5], 3, [2, 3, 4], 1),
        ([1, 2, 3], [4, 5], 2, [3, 4], 0),
        ([1, 2, 3], [4], 9, [1, 2, 3], 2),
        ([1, 2, 3], [4], 1, [3], 0),
        ([7], [4, 5, 6], 3, [7, 4, 5], 0),
    ],
)
def test_request_is_cut_from_the_left_and_loses_its_last_token(
    context: list[int], continuation: list[int], max_length: int, fed: list[int], first_scored: int
) -> None:
    """As lm_eval 0.4.13 feeds a causal model, counted by hand; the continuation stays whole."""
    request = TokenRequest.of(context, continuation, max_length=max_length)
    assert request.fed.tolist() == fed
    assert request.continuation.tolist() == continuation
    assert (request.scored, request.first_scored) == (len(continuation), first_scored)


@pytest.mark.parametrize("seed", range(3))
def test_last_fed_positions_predict_the_continuation(seed: int) -> None:
    """Whatever was cut off, the token after each scored position is the continuation's."""
    for case, request in zip(cases_of(seed), made(cases_of(seed)), strict=True):
        whole = case.context + case.continuation
        assert request.fed.tolist() == whole[-LONGEST - 1 :][:-1]
        after = [*request.fed[1:].tolist(), whole[-1]]
        assert after[request.first_scored :] == case.continuation


@pytest.mark.parametrize(
    ("context", "continuation", "message"),
    [
        ([1, 2], [3, 4, 5, 6], "continuation of 4 tokens behind a context of 2 .* reads 3 tokens"),
        ([1, 2], [], "continuation of 0 tokens behind a context of 2"),
        ([], [1, 2], "continuation of 2 tokens behind a context of 0"),
    ],
)
def test_request_whose_tokens_cannot_all_be_predicted_is_refused(
    context: list[int], continuation: list[int], message: str
) -> None:
    """What the harness asserts: a context, a continuation, and one that fits the model."""
    with pytest.raises(FlipsError, match=message):
        TokenRequest.of(context, continuation, max_length=3)


@pytest.mark.parametrize("keep_prefixes", [True, False])
@pytest.mark.parametrize("budget", [1, 20, 100, 400, 5000])
@pytest.mark.parametrize("seed", range(5))
def test_every_request_is_read_back_from_the_plan(
    seed: int, budget: int, keep_prefixes: bool
) -> None:
    """Tokens, positions and predictions of each request are as fed, each scored once.

    No pack holds more than the budget but for one request; nothing is run that a plain pass over
    the requests would not run, and each distinct prefix at least once.
    """
    cases = cases_of(seed)
    root = plan(made(cases), budget=budget, keep_prefixes=keep_prefixes)
    walk(root, cases)
    for _, pack in packs(root):
        assert len(pack) <= budget or len(pack.requests) == 1
    prefixes = {tuple(case.read[:size]) for case in cases for size in range(1, len(case.read))}
    plain = sum(len(case.read) - 1 for case in cases)
    assert len(prefixes) <= planned_tokens(root) <= plain


@pytest.mark.parametrize("seed", range(3))
def test_with_room_for_all_each_distinct_prefix_is_run_once(seed: int) -> None:
    """One pack, as large as the number of distinct prefixes."""
    cases = cases_of(seed)
    plain = sum(len(case.read) - 1 for case in cases)
    root = plan(made(cases), budget=plain, row=plain)
    (pack,) = root.steps
    assert isinstance(pack, Pack)
    prefixes = {tuple(case.read[:size]) for case in cases for size in range(1, len(case.read))}
    assert len(pack) == len(prefixes) < plain


def test_choices_of_questions_with_shared_examples_counted_by_hand() -> None:
    """Examples of 40 tokens, 2 questions of 5, 2 choices of 2 each: 40 + 2 (5 + 2) = 54 tokens.

    Plain, it is 4 times 40 + 5 + 1 = 184. Where a pack holds 20, the examples are kept.
    """
    examples = list(range(100, 140))
    cases = [
        Case([*examples, question, 1, 2, 3, 4], [choice, 9])
        for question in (50, 51)
        for choice in (60, 61)
    ]
    assert sum(len(request.fed) for request in made(cases)) == 184
    together, apart = (plan(made(cases), budget=budget) for budget in (96, 20))
    assert planned_tokens(together) == planned_tokens(apart) == 54
    assert (together.largest, together.furthest is not None) == (54, False)
    assert (apart.largest, apart.furthest is not None) == (14, True)
    (kept,) = branches(apart)
    assert (kept.base, kept.tokens.tolist()) == (0, examples)
    assert [(pack.base, len(pack)) for _, pack in packs(apart)] == [(40, 14)]
    assert (together.furthest, [apart.furthest]) == (None, [*apart.packs()])


def test_choices_of_one_token_share_one_row() -> None:
    """Four choices of one token each are fed the same 5 tokens, which are run once."""
    cases = [Case([1, 2, 3, 4, 5], [choice]) for choice in range(10, 14)]
    (pack,) = plan(made(cases), budget=100).steps
    assert isinstance(pack, Pack)
    assert pack.tokens.tolist() == [1, 2, 3, 4, 5]
    assert [places.tolist() for places in pack.places] == [[4]] * 4


@pytest.mark.parametrize("seed", range(5))
def test_without_kept_prefixes_nothing_is_run_by_itself(seed: int) -> None:
    """The plan has packs only, all at the base; with them, the same requests have branches."""
    requests = made(cases_of(seed))
    without = plan(requests, budget=100, keep_prefixes=False)
    assert without.furthest is None
    assert all(isinstance(step, Pack) and step.base == 0 for step in without.steps)
    kept = plan(requests, budget=100)
    assert kept.furthest is not None
    assert all(len(branch.tokens) >= WORTH_KEEPING for branch in branches(kept))
    assert planned_tokens(kept) < planned_tokens(without)


def test_kept_prefix_ends_before_the_first_scored_token() -> None:
    """Of 69 shared tokens 39 are kept: the last of the context predicts, as do those behind it."""
    context, start = list(range(40)), list(range(200, 230))
    cases = [Case(context, [*start, *range(end, end + 30)]) for end in (300, 400, 500)]
    root = plan(made(cases), budget=100)
    walk(root, cases)
    (kept,) = branches(root)
    assert kept.tokens.tolist() == context[:-1]
    assert {pack.base for _, pack in packs(root)} == {39}


@pytest.mark.parametrize("seed", range(5))
def test_kept_prefixes_are_never_scored(seed: int) -> None:
    """Below any branch, the first scored position lies behind all that is kept."""
    requests = made(cases_of(seed))
    below = [pack for kept, pack in packs(plan(requests, budget=60)) if kept]
    assert below
    for pack in below:
        assert all(requests[index].first_scored >= pack.base for index in pack.requests)


@pytest.mark.parametrize("seed", range(5))
def test_some_requests_are_planned_again_behind_what_is_kept(seed: int) -> None:
    """Each pack of a plan, laid out anew in half its size behind the same prefix."""
    cases = cases_of(seed)
    requests = made(cases)
    again = 0
    for kept, pack in packs(plan(requests, budget=100)):
        half = max(1, len(pack) // 2)
        smaller = plan(requests, budget=half, among=pack.requests, base=pack.base)
        walk(smaller, cases, among=pack.requests, before=kept)
        assert smaller.largest <= half or len(pack.requests) == 1 or _alone(smaller, half)
        again += bool(kept) and len(pack.requests) > 1
    assert again


def _alone(branch: Branch, budget: int) -> bool:
    """Whether what is larger than the budget is one request each."""
    found = [pack for _, pack in packs(branch, range(branch.base)) if len(pack) > budget]
    return all(len(pack.requests) == 1 for pack in found)


def test_nothing_to_plan_is_an_empty_plan() -> None:
    """No requests at all, or none among them."""
    requests = made([Case([1], [2])])
    for root in (plan([], budget=9), plan(requests, budget=9, among=[])):
        assert (root.steps, root.largest, root.furthest) == ((), 0, None)


@pytest.mark.parametrize(
    ("base", "budget", "sizes"),
    [
        (10, 1000, [80] * 5),
        (200, 1000, [200, 200]),
        (1000, 1000, [400]),
        (1000, 210, [200, 200]),
    ],
)
def test_a_row_is_as_long_as_the_prefix_before_it(base: int, budget: int, sizes: list[int]) -> None:
    """Twenty tails of 20 tokens: rows of at most 96, or fewer where each copies a long prefix."""
    prefix = [0] * base
    requests = [
        TokenRequest.of([*prefix, tail, *range(18)], [7, 8], max_length=2000) for tail in range(20)
    ]
    root = plan(requests, budget=budget, base=base)
    assert [len(pack) for _, pack in packs(root, prefix)] == sizes


@pytest.mark.parametrize("budget", [64, 1024])
def test_many_requests_that_each_extend_the_last_are_planned(budget: int) -> None:
    """Every token of a text behind all before it: more levels than Python has stack frames."""
    text = np.random.default_rng(0).integers(0, 1000, 1502).tolist()
    requests = [
        TokenRequest.of(text[:size], text[size : size + 1], max_length=2000)
        for size in range(1, 1501)
    ]
    root = plan(requests, budget=budget)
    assert planned_tokens(root) < sum(len(request.fed) for request in requests) / 40
    assert Counter(i for _, pack in packs(root) for i in pack.requests) == Counter(range(1500))
    for kept, pack in packs(root):
        assert pack.chain
        for index, places in zip(pack.requests, pack.places, strict=True):
            seen = pack.tokens[: places[-1] + 1].tolist()
            assert [*kept, *seen] == text[: index + 1]


@pytest.mark.parametrize("seed", range(5))
def test_chain_says_whether_nothing_is_hidden(seed: int) -> None:
    """A pack is a chain exactly where a token sees all before it."""
    found = []
    for _, pack in packs(plan(made(cases_of(seed)), budget=100)):
        below = np.tri(len(pack), dtype=bool)
        assert pack.chain == bool((pack.visible() == below).all())
        found.append(pack.chain)
    assert True in found
    assert False in found


def test_request_that_is_the_start_of_another_is_in_its_chain() -> None:
    """Both are scored in one pack in which nothing is hidden."""
    cases = [Case([1, 2, 3, 4], [5]), Case([1, 2], [3])]
    root = plan(made(cases), budget=100)
    (pack,) = root.steps
    assert isinstance(pack, Pack)
    assert pack.chain
    assert pack.tokens.tolist() == [1, 2, 3, 4]
    assert dict(zip(pack.requests, [p.tolist() for p in pack.places], strict=True)) == {
        0: [3],
        1: [1],
    }


@pytest.mark.parametrize("seed", range(3))
def test_packs_of_a_plan_and_the_largest_and_furthest_of_them(seed: int) -> None:
    """As found by going through all steps, at every branch."""
    root = plan(made(cases_of(seed)), budget=60)
    for branch in (root, *branches(root)):
        found = [pack for _, pack in packs(branch, range(branch.base))]
        assert [*branch.packs()] == found
        assert branch.largest == max(map(len, found))
        ends = [pack.base + len(pack) for pack in found if pack.base > branch.base]
        furthest = branch.furthest
        assert (furthest is None) == (ends == [])
        assert furthest is None or furthest.base + len(furthest) == max(ends)
        below = any(isinstance(step, Branch) for step in branch.steps)
        assert below == bool([*branches(branch)])


Corruption = Callable[[Pack], Pack]


def _tokens(pack: Pack) -> Pack:
    tokens = pack.tokens.copy()
    tokens[[0, -1]] = tokens[[-1, 0]]
    return replace(pack, tokens=tokens)


def _ends(pack: Pack) -> Pack:
    ends = pack.ends.copy()
    ends[[3, -1]] = ends[[-1, 3]]
    return replace(pack, ends=ends)


def _all_seen(pack: Pack) -> Pack:
    return replace(pack, ends=np.full_like(pack.ends, len(pack)))


def _depths(pack: Pack) -> Pack:
    return replace(pack, depths=np.arange(len(pack)))


def _places(pack: Pack) -> Pack:
    return replace(pack, places=pack.places[::-1])


def _requests(pack: Pack) -> Pack:
    return replace(pack, requests=pack.requests[::-1])


def _twice(pack: Pack) -> Pack:
    return replace(
        pack,
        requests=(*pack.requests, pack.requests[0]),
        places=(*pack.places, pack.places[0]),
    )


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (_tokens, "the request's tokens are seen"),
        (_ends, "the request's tokens are seen"),
        (_all_seen, "the request's tokens are seen"),
        (_depths, "depths"),
        (_places, "the request's tokens are seen"),
        (_requests, "the request's tokens are seen"),
        (_twice, "once each"),
    ],
)
def test_walk_can_fail(corrupt: Corruption, message: str) -> None:
    """Control for the tests above: one thing wrong in one pack is noticed."""
    cases = [Case([7, 8, 9], [tail, 1, 2]) for tail in (3, 4)]
    root = plan(made(cases), budget=100)
    (pack,) = root.steps
    assert isinstance(pack, Pack)
    walk(root, cases)
    with pytest.raises(AssertionError, match=message):
        walk(replace(root, steps=(corrupt(pack),)), cases)


def test_walk_notices_a_place_that_predicts_another_token() -> None:
    """Control: the places of two tokens of one continuation exchanged, or one of them lost."""
    cases = [Case([7, 8, 9], [3, 1, 2])]
    root = plan(made(cases), budget=100)
    (pack,) = root.steps
    assert isinstance(pack, Pack)
    for places, message in (
        (pack.places[0][[1, 0, 2]], "the last are scored"),
        (pack.places[0][1:], "what is predicted"),
        (pack.places[0][:-1], "the request's tokens are seen"),
    ):
        wrong = replace(pack, places=(places,))
        with pytest.raises(AssertionError, match=message):
            walk(replace(root, steps=(wrong,)), cases)


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("seed", range(3))
def test_plain_batches_hold_every_request_once_the_longest_first(seed: int, size: int) -> None:
    """At most ``size`` rows a batch; requests that are fed the same share one."""
    requests = made(cases_of(seed))
    batches = list(plain_batches(requests, size=size))
    assert Counter(i for batch in batches for i in batch) == Counter(range(len(requests)))
    rows = [{requests[index].fed.tobytes() for index in batch} for batch in batches]
    assert all(len(row) == size for row in rows[:-1])
    assert 1 <= len(rows[-1]) <= size
    assert sum(map(len, rows)) == len(set[bytes]().union(*rows)) < len(requests)
    lengths = [len(requests[index].fed) for batch in batches for index in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_plain_batches_counted_by_hand() -> None:
    """Requests 0 and 3 are fed the same; 2 is the longest; 1 is not asked for."""
    cases = [Case([1, 2], [3]), Case([5], [6]), Case([1, 2, 3], [4]), Case([1, 2], [9])]
    requests = made(cases)
    assert list(plain_batches(requests, size=1, among=[0, 2, 3])) == [[2], [0, 3]]
    assert list(plain_batches(requests, size=2)) == [[2, 0, 3], [1]]
    assert list(plain_batches([], size=2)) == []
