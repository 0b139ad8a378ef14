"""Log-likelihoods and distances of requests from their states, against sums made one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lm_eval_flips.scoring import scores as module
from lm_eval_flips.scoring.baseline import Baseline
from lm_eval_flips.scoring.lm_head import LMHead
from lm_eval_flips.scoring.reference import Reference
from lm_eval_flips.scoring.requests import TokenRequest, key_of
from lm_eval_flips.scoring.scored_rows import ScoredRows
from lm_eval_flips.scoring.scores import RequestScore, score_rows
from lm_eval_flips.scoring.token_distances import FIELDS, TokenDistances
from tests.scoring.test_baseline import oracle
from tests.scoring.test_reference import LONGEST, TOKENS, Toy, questions, record

REQUESTS = questions(5)
BEFORE, AFTER = Toy(1), Toy(2)


def score(
    toy: Toy,
    requests: Sequence[TokenRequest] = REQUESTS,
    *,
    chosen: Sequence[int] = (),
    reference: Reference | None = None,
    rows: ScoredRows | None = None,
) -> dict[int, RequestScore]:
    """The scores of a toy's requests by their places; distances if a reference is given."""
    baseline = None if reference is None else Baseline(reference, tokens=toy.head.tokens)
    found = score_rows(
        rows or toy.rows(requests, chosen),
        requests,
        toy.head,
        baseline=baseline,
        keys=[] if reference is None else list(map(key_of, requests)),
    )
    return {score.request: score for score in found}


def measured(score: RequestScore) -> TokenDistances:
    """The distances of a score that has some."""
    assert score.distances is not None
    return score.distances


def expected_distances(before: Toy, after: Toy, request: TokenRequest) -> dict[str, Tensor]:
    """All distances at a request's positions, float64."""
    one, other = before.logprobs(request), after.logprobs(request)
    found = {name: torch.from_numpy(values) for name, values in oracle(one, other).items()}
    change = after.of_tokens(request) - before.of_tokens(request)
    return {**found, "same_top": one.argmax(-1) == other.argmax(-1), "logprob_change": change}


def assert_distances(found: TokenDistances, expected: dict[str, Tensor], positions: int) -> None:
    """The first positions' distances, all of them."""
    assert len(found) == positions
    for name in FIELDS:
        values, wanted = getattr(found, name), expected[name][:positions]
        if name == "same_top":
            assert torch.equal(values, wanted)
        else:
            torch.testing.assert_close(values.double(), wanted, atol=3e-6, rtol=1e-5)


def greedy(toy: Toy, context: Sequence[int], size: int) -> list[int]:
    """The toy's own continuation of a context."""
    said: list[int] = []
    for _ in range(size):
        request = TokenRequest.of([*context, *said], [0], max_length=LONGEST)
        said.append(int(toy.logprobs(request)[0].argmax()))
    return said


@pytest.mark.parametrize("measuring", [False, True])
def test_loglikelihoods_are_sums_over_a_request_s_own_tokens(
    tmp_path: Path, measuring: bool
) -> None:
    """Token by token and together, with and without a baseline beside them."""
    reference = record(tmp_path, BEFORE, REQUESTS) if measuring else None
    found = score(AFTER, reference=reference)
    assert sorted(found) == list(range(len(REQUESTS)))
    for place, request in enumerate(REQUESTS):
        own = AFTER.of_tokens(request)
        torch.testing.assert_close(found[place].logprobs.double(), own, atol=3e-6, rtol=0)
        assert found[place].loglikelihood == pytest.approx(float(own.sum()), abs=1e-5)
        assert (found[place].distances is not None) == measuring


def test_the_check_of_loglikelihoods_can_fail() -> None:
    """Control: another model's are nowhere near."""
    found = score(AFTER)
    off = [
        abs(found[i].loglikelihood - float(BEFORE.of_tokens(request).sum()))
        for i, request in enumerate(REQUESTS)
    ]
    assert min(off) > 1e-3


def test_measuring_changes_no_answer(tmp_path: Path) -> None:
    """To the last bit, also where a chunk holds positions that are not measured."""
    alone = score(AFTER)
    for last in (False, True):
        reference = record(tmp_path / str(last), BEFORE, REQUESTS, last=last)
        beside = score(AFTER, reference=reference)
        assert all(torch.equal(alone[i].logprobs, beside[i].logprobs) for i in alone)


def test_a_continuation_is_greedy_if_every_token_is_the_most_likely() -> None:
    """The model's own continuation is; one with another token anywhere is not."""
    context = [1, 2, 3]
    own = greedy(AFTER, context, 4)
    others = [[*own[:i], (own[i] + 1) % TOKENS, *own[i + 1 :]] for i in range(4)]
    requests = [
        TokenRequest.of(context, said, max_length=LONGEST)
        for said in (own, *others, own[:1], own[:3])
    ]
    found = score(AFTER, requests)
    flags = [found[i].is_greedy for i in range(len(requests))]
    assert flags == [True, False, False, False, False, True, True]


def test_requests_that_share_states_are_told_apart() -> None:
    """Choices of a question are different tokens of one row; some are asked twice."""
    requests = [REQUESTS[0], REQUESTS[3], REQUESTS[0], *REQUESTS]
    rows = AFTER.rows(requests)
    assert len(rows.hidden) < sum(request.scored for request in requests)
    found = score(AFTER, requests, rows=rows)
    for place, request in enumerate(requests):
        torch.testing.assert_close(
            found[place].logprobs.double(), AFTER.of_tokens(request), atol=3e-6, rtol=0
        )
        assert found[place].rows.tolist() == rows.rows[place].tolist()
        torch.testing.assert_close(
            rows.hidden[torch.from_numpy(found[place].rows)], AFTER.states(request)
        )


def test_some_of_the_requests_are_scored_under_their_own_places(tmp_path: Path) -> None:
    """A batch holds requests in any order."""
    reference = record(tmp_path, BEFORE, REQUESTS)
    whole, chosen = score(AFTER, reference=reference), (7, 2, 11)
    found = score(AFTER, chosen=chosen, reference=reference)
    assert tuple(found) == chosen
    for place in chosen:
        torch.testing.assert_close(found[place].logprobs, whole[place].logprobs)
        torch.testing.assert_close(measured(found[place]).kl, measured(whole[place]).kl)


def test_distances_are_those_of_each_position(tmp_path: Path) -> None:
    """All six, request by request, though positions are measured once for all that share them."""
    reference = record(tmp_path, BEFORE, REQUESTS)
    for place, found in score(AFTER, reference=reference).items():
        request = REQUESTS[place]
        expected = expected_distances(BEFORE, AFTER, request)
        assert_distances(measured(found), expected, request.scored)


def test_the_check_of_distances_can_fail(tmp_path: Path) -> None:
    """Control: the models swapped, or another request's distances, are seen."""
    reference = record(tmp_path, BEFORE, REQUESTS)
    found = measured(score(AFTER, reference=reference)[5])
    assert_distances(found, expected_distances(BEFORE, AFTER, REQUESTS[5]), len(found))
    for wrong in (
        expected_distances(AFTER, BEFORE, REQUESTS[5]),
        expected_distances(BEFORE, AFTER, REQUESTS[8]),
    ):
        with pytest.raises(AssertionError):
            assert_distances(found, wrong, len(found))


def test_swapping_the_models_swaps_the_distances(tmp_path: Path) -> None:
    """Forward and reverse KL change places, the change of a log-probability its sign."""
    there = score(AFTER, reference=record(tmp_path / "a", BEFORE, REQUESTS))
    back = score(BEFORE, reference=record(tmp_path / "b", AFTER, REQUESTS))
    for place in there:
        one, other = measured(there[place]), measured(back[place])
        torch.testing.assert_close(one.kl, other.reverse_kl, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(one.reverse_kl, other.kl, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(one.logprob_change, -other.logprob_change, atol=1e-5, rtol=0)


def test_a_model_is_at_no_distance_from_itself(tmp_path: Path) -> None:
    """Distances of rounding only, and the same token on top everywhere."""
    found = score(AFTER, reference=record(tmp_path, AFTER, REQUESTS))
    for own in map(measured, found.values()):
        assert float(own.kl.max()) < 1e-6
        assert float(own.logprob_change.abs().max()) < 1e-5
        assert bool(own.same_top.all())


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("positions", [1, 3, 7])
def test_a_few_positions_at_a_time_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, positions: int, last: bool
) -> None:
    """However many logits exist at once."""
    reference = record(tmp_path, BEFORE, REQUESTS, last=last)
    whole = score(AFTER, reference=reference)
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * TOKENS * positions)
    made: list[int] = []

    def project(hidden: Tensor) -> Tensor:
        made.append(len(hidden))
        return AFTER.head.project(hidden)

    counting = Toy(2)
    counting.head = LMHead(project=project, tokens=TOKENS)
    found = score(counting, reference=reference)
    assert max(made) == positions
    assert sum(made) == len(AFTER.rows(REQUESTS).hidden)
    for place in whole:
        assert found[place].is_greedy == whole[place].is_greedy
        torch.testing.assert_close(found[place].logprobs, whole[place].logprobs, atol=1e-6, rtol=0)
        for name in FIELDS:
            values = getattr(measured(found[place]), name)
            expected = getattr(measured(whole[place]), name)
            torch.testing.assert_close(values, expected, atol=1e-6, rtol=1e-5)


def test_where_only_last_positions_were_recorded_those_are_measured(tmp_path: Path) -> None:
    """One distance a request, and the log-likelihood of all its tokens."""
    reference = record(tmp_path, BEFORE, REQUESTS, last=True)
    for place, found in score(AFTER, reference=reference).items():
        request = REQUESTS[place]
        assert_distances(measured(found), expected_distances(BEFORE, AFTER, request), 1)
        assert found.loglikelihood == pytest.approx(float(AFTER.of_tokens(request).sum()), abs=1e-5)


def test_the_bounded_mode_gives_lower_bounds_and_the_exact_rest(tmp_path: Path) -> None:
    """Top tokens and the change of log-probabilities are exact; KL is at most the whole one."""
    reference = record(tmp_path, BEFORE, REQUESTS, top=3)
    gaps = []
    for place, score_ in score(AFTER, reference=reference).items():
        expected = expected_distances(BEFORE, AFTER, REQUESTS[place])
        found = measured(score_)
        assert torch.equal(found.same_top, expected["same_top"])
        torch.testing.assert_close(
            found.logprob_change.double(), expected["logprob_change"], atol=3e-6, rtol=1e-5
        )
        gaps.append(expected["kl"] - found.kl.double())
    assert float(torch.cat(gaps).min()) > -1e-6
    assert float(torch.cat(gaps).max()) > 0.01


def test_a_padded_vocabulary_is_normalised_over_all_of_it(tmp_path: Path) -> None:
    """The answer is the compressed model's own, the distance that of the shared tokens."""
    after = Toy(2, tokens=TOKENS + 6)
    reference = record(tmp_path, BEFORE, REQUESTS)
    for place, found in score(after, reference=reference).items():
        request = REQUESTS[place]
        torch.testing.assert_close(
            found.logprobs.double(), after.of_tokens(request), atol=3e-6, rtol=0
        )
        own = after.logprobs(request)[:, :TOKENS]
        expected = torch.from_numpy(oracle(BEFORE.logprobs(request), own)["kl"])
        torch.testing.assert_close(measured(found).kl.double(), expected, atol=1e-6, rtol=1e-5)


def without(states: Tensor, row: int) -> Tensor:
    """States of which one is nan."""
    return states.index_fill(0, torch.tensor([row]), nan)


@pytest.mark.parametrize("measuring", [False, True])
def test_a_nan_is_only_in_the_requests_that_it_predicts(tmp_path: Path, measuring: bool) -> None:
    """A position whose state overflowed makes its own requests nan, and no others."""
    reference = record(tmp_path, BEFORE, REQUESTS) if measuring else None
    rows = AFTER.rows(REQUESTS)
    broken = int(rows.rows[4][1])
    whole = score(AFTER, reference=reference)
    found = score(
        AFTER, reference=reference, rows=replace(rows, hidden=without(rows.hidden, broken))
    )
    touched = {place for place, own in enumerate(rows.rows) if broken in own}
    assert 4 in touched
    assert len(touched) < len(REQUESTS)
    for place, request in enumerate(REQUESTS):
        assert isnan(found[place].loglikelihood) == (place in touched)
        hit = np.flatnonzero(rows.rows[place] == broken)
        kept = np.setdiff1d(np.arange(request.scored), hit)
        assert bool(found[place].logprobs[hit].isnan().all())
        torch.testing.assert_close(found[place].logprobs[kept], whole[place].logprobs[kept])
        if measuring:
            kl = measured(found[place]).kl
            assert bool(kl[hit].isnan().all())
            torch.testing.assert_close(
                kl[kept], measured(whole[place]).kl[kept], atol=1e-6, rtol=1e-5
            )


def test_a_token_that_is_ruled_out_is_impossible(tmp_path: Path) -> None:
    """A log-likelihood of -inf, an infinite KL, and a finite reverse one."""
    request = TokenRequest.of([1, 2], [5], max_length=LONGEST)
    reference = record(tmp_path, BEFORE, [request])
    ruled_out = torch.zeros(TOKENS).index_fill(0, torch.tensor([5]), -torch.inf)
    head = LMHead(project=lambda hidden: AFTER.head.project(hidden) + ruled_out, tokens=TOKENS)
    (found,) = score_rows(
        AFTER.rows([request]),
        [request],
        head,
        baseline=Baseline(reference, tokens=TOKENS),
        keys=[key_of(request)],
    )
    assert found.loglikelihood == -torch.inf
    assert measured(found).kl.tolist() == [torch.inf]
    assert measured(found).logprob_change.tolist() == [-torch.inf]
    assert bool(measured(found).reverse_kl.isfinite().all())
