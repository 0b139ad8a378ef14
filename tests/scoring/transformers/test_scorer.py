"""Scoring many requests at once gives what each model says of each request by itself."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from lm_eval_flips.scoring.lm_head import UnreadableHeadError
from lm_eval_flips.scoring.prefix_tree import Branch, plan
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.transformers.causal_model import CausalModel, out_of_memory
from lm_eval_flips.scoring.transformers.scorer import Scorer
from tests.scoring import models

BUDGET = 64  # too small for all of `mixed` at once: its shared prefix is kept
CLOSE = 2e-5  # nats
ALLOCATOR = "[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"


def mixed() -> list[TokenRequest]:
    """Choices behind a few-shot prefix, alone, nested, long, and some that are asked twice."""
    shared = models.few_shot()
    alone = [
        TokenRequest.of(models.tokens(3, 7), models.tokens(2, 8), max_length=models.LONGEST),
        TokenRequest.of(models.tokens(1, 9), models.tokens(50, 10), max_length=models.LONGEST),
        TokenRequest.of(models.tokens(models.FEW_SHOT, 0)[:20], [5, 6], max_length=models.LONGEST),
        TokenRequest.of(models.tokens(90, 11), models.tokens(4, 12), max_length=70),
    ]
    return [*shared, shared[4], *alone, alone[1]]


def scored(scorer: Scorer, requests: Sequence[TokenRequest]) -> dict[int, Tensor]:
    """Log-probabilities after each scored position, by request; none comes twice."""
    found: dict[int, Tensor] = {}
    for rows in scorer.rows(requests):
        with torch.no_grad():
            whole = scorer.model.head.logits(rows.hidden).float().log_softmax(-1)
        for index, own in zip(rows.requests, rows.rows, strict=True):
            assert index not in found
            found[index] = whole[torch.from_numpy(own)]
    return found


def largest_difference(
    model: Any, requests: Sequence[TokenRequest], found: dict[int, Tensor]
) -> float:
    """From the model's own numbers, over all tokens of the vocabulary, in nats."""
    assert sorted(found) == list(range(len(requests)))
    differences = []
    for index, request in enumerate(requests):
        own = models.logprobs(model, request)
        assert found[index].shape == own.shape == (request.scored, models.TOKENS)
        differences.append(float((found[index] - own).abs().max()))
    return max(differences)


def tokens_read(model: Any, action: Callable[[], object]) -> int:
    """Tokens that the model was fed meanwhile."""
    read = 0

    def count(own: Any, **arguments: Any) -> Any:
        nonlocal read
        read += arguments["input_ids"].numel()
        return own(**arguments)

    with models.forward(model, count):
        action()
    return read


def limited(most: int, error: Callable[[], RuntimeError]) -> Callable[..., Any]:
    """A forward whose memory holds ``most`` tokens."""

    def forward(own: Any, **arguments: Any) -> Any:
        if arguments["input_ids"].numel() > most:
            raise error()
        return own(**arguments)

    return forward


@pytest.mark.parametrize(("name", "attention"), models.kinds(list(models.PACKED)))
def test_packed_requests_are_scored_as_by_the_model_itself(name: str, attention: str) -> None:
    """Shared prefixes, kept ones, sliding windows, soft caps, experts: the model's own numbers."""
    model = models.build(name, attention=attention)
    requests = mixed()
    assert plan(requests, budget=BUDGET).furthest is not None
    assert max(len(request.fed) for request in requests) > models.WINDOW
    scorer = Scorer(CausalModel(model), budget=BUDGET)
    found = scored(scorer, requests)
    assert scorer.refusal is None
    assert largest_difference(model, requests, found) < CLOSE


@pytest.mark.parametrize(("name", "attention"), models.kinds([*models.RECURRENT, *models.COUNTING]))
def test_a_model_that_cannot_be_packed_is_scored_plainly(name: str, attention: str) -> None:
    """Recurrent states, ALiBi, windows of places: refused with a reason, and the right numbers."""
    model = models.build(name, attention=attention)
    requests = mixed()
    scorer = Scorer(CausalModel(model), budget=BUDGET, batch_size=3)
    found = scored(scorer, requests)
    assert scorer.refusal is not None
    expected = "ALiBi" if name in {"mpt", "falcon alibi"} else "nats from plain|mask of its own"
    assert any(part in scorer.refusal for part in expected.split("|"))
    assert largest_difference(model, requests, found) < CLOSE


class Blind(CausalModel):
    """Lets every token of a pack see every other."""

    def _masks(self, *args: Any) -> Any:
        masks = super()._masks(*args)
        if isinstance(masks, dict):
            return {kind: torch.zeros_like(mask) for kind, mask in masks.items()}
        return torch.zeros_like(masks)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_wrong_mask_is_noticed(name: str) -> None:
    """Control: the comparison sees it, and so does the check, which then reads plainly."""
    model = models.build(name)
    requests = mixed()
    root = plan(requests, budget=BUDGET)
    unchecked = Scorer(Blind(model), budget=BUDGET)
    found: dict[int, Tensor] = {}
    for rows in unchecked._branch(requests, root, None):
        logits = unchecked.model.head.logits(rows.hidden).detach()
        for index, own in zip(rows.requests, rows.rows, strict=True):
            found[index] = logits.float().log_softmax(-1)[torch.from_numpy(own)]
    assert largest_difference(model, requests, found) > 0.1
    checked = Scorer(Blind(model), budget=BUDGET)
    assert largest_difference(model, requests, scored(checked, requests)) < CLOSE
    assert "nats from plain ones" in str(checked.refusal)


@pytest.mark.parametrize("name", ["mistral", "gemma3_text", "gpt_oss"])
def test_a_window_that_is_not_minded_is_noticed(name: str) -> None:
    """Control: without the window in its masks, a sliding layer gives other numbers."""
    model = models.build(name)
    reader = CausalModel(model)
    reader.window = None
    scorer = Scorer(reader, budget=BUDGET)
    assert largest_difference(model, mixed(), scored(scorer, mixed())) < CLOSE
    assert scorer.refusal is not None


def test_what_requests_share_is_read_once() -> None:
    """Fifteen choices behind forty tokens cost little more than those forty; plain ones cost all.

    Except that the same question twice costs nothing more.
    """
    model = models.build("llama")
    requests = models.few_shot()
    every = sum(len(request.fed) for request in requests)
    scorer = Scorer(CausalModel(model), budget=BUDGET)
    list(scorer.rows(requests))
    distinct = len({tuple(r.fed[: i + 1]) for r in requests for i in range(len(r.fed))})
    assert tokens_read(model, lambda: list(scorer.rows(requests))) < 1.3 * distinct < 0.3 * every
    refused = models.build("bloom")
    plainly = Scorer(CausalModel(refused), budget=BUDGET)
    requests = [*requests, *requests[::2]]
    list(plainly.rows(requests))
    fed = {request.fed.tobytes(): len(request.fed) for request in requests}
    assert tokens_read(refused, lambda: list(plainly.rows(requests))) == sum(fed.values())


def test_prefixes_nest() -> None:
    """Two subjects behind one preface: its keys and values serve both, and are not run again."""
    preface = models.tokens(36, 0)
    requests = [
        TokenRequest.of(
            [*preface, *models.tokens(36, 1 + subject), *models.tokens(6, 10 * subject + question)],
            models.tokens(2, 50 + choice),
            max_length=models.LONGEST,
        )
        for subject in range(2)
        for question in range(4)
        for choice in range(2)
    ]
    root = plan(requests, budget=40)
    (outer,) = (step for step in root.steps if isinstance(step, Branch))
    assert sum(isinstance(step, Branch) for step in outer.steps) == 2
    for name in ("llama", "gemma3_text", "gpt2"):
        model = models.build(name)
        scorer = Scorer(CausalModel(model), budget=40)
        assert largest_difference(model, requests, scored(scorer, requests)) < CLOSE
        assert scorer.refusal is None


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_every_request_comes_back_once(name: str) -> None:
    """None at all, one alone, the same one thrice, and one that is the beginning of another."""
    model = models.build(name)
    scorer = Scorer(CausalModel(model), budget=BUDGET, batch_size=2)
    assert list(scorer.rows([])) == []
    one = TokenRequest.of([5, 6, 7], [8, 9], max_length=models.LONGEST)
    beginning = TokenRequest.of([5, 6], [7], max_length=models.LONGEST)
    whole = TokenRequest.of([5], [6, 7, 8, 9], max_length=models.LONGEST)
    for requests in ([one], [one, one, one], [one, beginning, whole, one]):
        assert largest_difference(model, requests, scored(scorer, requests)) < CLOSE


def test_a_hidden_state_that_requests_share_is_given_once() -> None:
    """The choices of a question are all predicted, at first, by the same row."""
    scorer = Scorer(CausalModel(models.build("llama")), budget=256)
    requests = models.few_shot(questions=1, choices=4)
    (rows,) = scorer.rows(requests)
    assert len({int(own[0]) for own in rows.rows}) == 1
    # one, two, three and four tokens, of which all but the first have a row of their own
    assert len(rows.hidden) == 1 + 0 + 1 + 2 + 3


@pytest.mark.parametrize(
    "error", [lambda: torch.OutOfMemoryError("CUDA out of memory"), lambda: RuntimeError(ALLOCATOR)]
)
@pytest.mark.parametrize("most", [60, 68, 75])
@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_packs_become_smaller_when_memory_runs_out(
    name: str, most: int, error: Callable[[], RuntimeError]
) -> None:
    """All are scored, rightly, still packed, and the next requests begin with what fitted."""
    model = models.build(name)
    requests = models.few_shot()
    scorer = Scorer(CausalModel(model), budget=1024)
    with models.forward(model, limited(most, error)):
        found = scored(scorer, requests)
        smaller = scorer.budget
        again = scored(scorer, requests)
    assert most / 4 < scorer.budget <= smaller <= most
    assert scorer.refusal is None
    for each in (found, again):
        assert largest_difference(model, requests, each) < CLOSE


def test_a_check_that_does_not_fit_leaves_the_plain_path() -> None:
    """A memory that holds single requests only: no pack, and no error."""
    model = models.build("llama")
    requests = models.few_shot()
    longest = max(len(request.fed) for request in requests)
    scorer = Scorer(CausalModel(model), budget=1024, batch_size=4)
    with models.forward(model, limited(longest, lambda: torch.OutOfMemoryError("full"))):
        found = scored(scorer, requests)
    assert largest_difference(model, requests, found) < CLOSE
    assert "memory" in str(scorer.refusal)
    assert scorer.batch_size == 1


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_a_request_that_fits_no_memory_is_an_error(name: str) -> None:
    """Nothing smaller is left to try."""
    model = models.build(name)
    scorer = Scorer(CausalModel(model), budget=1024, batch_size=4)
    with (
        models.forward(model, limited(8, lambda: torch.OutOfMemoryError("full"))),
        pytest.raises(torch.OutOfMemoryError, match="full"),
    ):
        list(scorer.rows(models.few_shot()))


def test_plain_batches_become_smaller_when_memory_runs_out() -> None:
    """A batch is halved until it fits, once for all the batches that are as large."""
    model = models.build("bloom")
    requests = [
        TokenRequest.of(models.tokens(6, i), [5, 6], max_length=models.LONGEST) for i in range(24)
    ]
    scorer = Scorer(CausalModel(model), batch_size=8)
    list(scorer.rows(requests))
    assert scorer.refusal is not None
    with models.forward(model, limited(4 * 7, lambda: torch.OutOfMemoryError("full"))):
        found = scored(scorer, requests)
    assert largest_difference(model, requests, found) < CLOSE
    assert scorer.batch_size == 4


def test_what_a_failed_pass_held_is_free_before_the_next() -> None:
    """Otherwise the smaller packs would have less memory than the large one had."""
    model = models.build("llama")
    requests = models.few_shot()
    held: list[weakref.ref[Tensor]] = []
    still_held = []

    def forward(own: Any, **arguments: Any) -> Any:
        still_held.append(any(reference() is not None for reference in held))
        if arguments["input_ids"].numel() > 75:
            activations = torch.zeros(9)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("full")
        return own(**arguments)

    scorer = Scorer(CausalModel(model), budget=1024)
    list(scorer.rows(requests))
    with models.forward(model, forward):
        list(scorer.rows(requests))
    assert held
    assert not any(still_held)


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_other_errors_are_not_swallowed(name: str) -> None:
    """What is no lack of memory stops the run, packed or plain, though less at once would do."""
    model = models.build(name)
    scorer = Scorer(CausalModel(model), budget=1024, batch_size=4)
    list(scorer.rows(models.few_shot()))
    broken = limited(60, lambda: RuntimeError("device-side assert"))
    with models.forward(model, broken), pytest.raises(RuntimeError, match="device-side assert"):
        list(scorer.rows(models.few_shot()))


@pytest.mark.parametrize("name", ["llama", "gemma2", "bloom"])
def test_a_model_that_says_nan_is_scored_as_nan(name: str) -> None:
    """The numbers are nan; whether that is an error is for those who read them to say."""
    model = models.build(name)
    with torch.no_grad():
        model.get_output_embeddings().weight[3, 0] = float("nan")
    requests = mixed()
    scorer = Scorer(CausalModel(model), budget=BUDGET)
    found = scored(scorer, requests)
    assert sorted(found) == list(range(len(requests)))
    assert all(values.isnan().all() for values in found.values())
    assert (scorer.refusal is None) == (name != "bloom")


@pytest.mark.parametrize("poisoned", [1, 13])
def test_nan_stays_with_the_requests_that_hold_its_token(poisoned: int) -> None:
    """A broken embedding spoils what comes behind its token, and nothing else of the pack.

    Whether the check has met it or not.
    """
    model = models.build("llama")
    requests = models.few_shot()
    token = int(requests[poisoned].continuation[0])
    holds = [token in request.fed for request in requests]
    assert holds[poisoned]
    assert sum(holds) < 3
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = float("nan")
    scorer = Scorer(CausalModel(model), budget=BUDGET, batch_size=4)
    found = scored(scorer, requests)
    for index, request in enumerate(requests):
        own = models.logprobs(model, request)
        assert bool(own.isnan().any()) == holds[index]
        torch.testing.assert_close(found[index], own, rtol=0, atol=CLOSE, equal_nan=True)


def test_logits_that_no_head_makes_are_an_error() -> None:
    """A model with a step of its own after lm_head cannot be read through hidden states."""
    model = models.build("llama")

    def squared(own: Any, **arguments: Any) -> Any:
        made = own(**arguments)
        made.logits = made.logits**2
        return made

    scorer = Scorer(CausalModel(model), budget=BUDGET)
    with models.forward(model, squared), pytest.raises(UnreadableHeadError, match="scaled or soft"):
        list(scorer.rows(models.few_shot()))


@pytest.mark.parametrize(
    ("name", "rope"),
    [
        ("llama", {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}),
        (
            "phi3",
            {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [2.0, 3.0, 4.0, 8.0],
            },
        ),
    ],
)
def test_positions_that_are_rescaled_are_read_plainly(name: str, rope: dict[str, Any]) -> None:
    """Up to the original length requests are packed; a pack of longer ones would rescale all."""
    original = 32
    positions = original if rope["rope_type"] == "dynamic" else models.LONGEST
    model = models.build(
        name,
        max_position_embeddings=positions,
        original_max_position_embeddings=original,
        rope_parameters={**rope, "original_max_position_embeddings": original},
    )
    short = models.few_shot(shots=20)
    longer = models.few_shot(shots=60, choices=1)
    assert max(len(request.fed) for request in short) < original < len(longer[0].fed)
    scorer = Scorer(CausalModel(model), budget=256)
    assert largest_difference(model, short, scored(scorer, short)) < CLOSE
    assert scorer.refusal is None
    together = [*short, *longer]
    assert largest_difference(model, together, scored(scorer, together)) < CLOSE
    assert scorer.refusal == "its positions are rescaled for requests of more than 32 tokens"
    packed = CausalModel(model)
    packed.rescaled_beyond = None
    unaware = Scorer(packed, budget=256)
    list(unaware.rows(together))
    assert unaware.refusal != scorer.refusal


def test_the_allocators_own_error_is_a_lack_of_memory() -> None:
    """As torch raises it on a CPU, and as it does on a device."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
