"""A model is tried before its packs count: every way to misread a pack is found, none is made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lm_eval_flips.scoring.prefix_tree import plan
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.transformers.causal_model import CausalModel
from lm_eval_flips.scoring.transformers.packing_check import PackingCheck
from lm_eval_flips.scoring.transformers.scorer import Scorer
from tests.scoring import models

HALVES = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, *HALVES)
Kernel = Callable[..., tuple[Tensor, None]]


@contextmanager
def attending(kernel: Kernel, *, masks: bool = True) -> Iterator[str]:
    """The name under which models can be built that attend with a kernel of ours.

    Without ``masks`` transformers hands it none, as it does to kernels that it does not know.
    """
    name = f"test_{id(kernel)}"
    AttentionInterface.register(name, kernel)
    if masks:
        AttentionMaskInterface.register(name, sdpa_mask)
    try:
        yield name
    finally:
        AttentionInterface._global_mapping.pop(name)
        AttentionMaskInterface._global_mapping.pop(name, None)


def sdpa(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any
) -> tuple[Tensor, None]:
    """The kernel that all the others here change."""
    more.pop("is_causal", None)
    return sdpa_attention_forward(module, query, key, value, mask, **more)


def causal(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any
) -> tuple[Tensor, None]:
    """Sees all the places before a token, whatever the mask hides."""
    seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool)
    seen = seen.tril(key.shape[2] - query.shape[2])
    return sdpa(module, query, key, value, seen, **more)


def causal_when_long(module: Any, query: Tensor, key: Tensor, *args: Any, **more: Any) -> Any:
    """Minds the mask up to 100 places only."""
    kernel = causal if key.shape[2] > 100 else sdpa
    return kernel(module, query, key, *args, **more)


def leaking(weight: float) -> Kernel:
    """Sees a little of the earlier places that the mask hides."""

    def kernel(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any
    ) -> tuple[Tensor, None]:
        if added(mask):
            earlier = torch.ones(mask.shape[-2:]).tril(key.shape[2] - query.shape[2]) > 0
            mask = torch.where(earlier, mask.clamp(min=weight), mask)
        return sdpa(module, query, key, value, mask, **more)

    return kernel


def added(mask: Any) -> bool:
    """Whether a mask is one of ours: transformers' own are boolean here."""
    return isinstance(mask, Tensor) and mask.is_floating_point()


def nan_under_a_mask(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any
) -> Any:
    """Overflows where it is given an additive mask."""
    made, weights = sdpa(module, query, key, value, mask, **more)
    return made * (float("nan") if added(mask) else 1.0), weights


def speechless(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any
) -> Any:
    """Refuses an additive mask without a word."""
    if added(mask):
        raise NotImplementedError
    return sdpa(module, query, key, value, mask, **more)


def checked(
    model: Any,
    requests: Sequence[TokenRequest],
    *,
    budget: int = 1024,
    row: int = 96,
    check: PackingCheck | None = None,
) -> PackingCheck:
    """What the check finds on requests that are to be packed."""
    check = check or PackingCheck(CausalModel(model))
    check.run(requests, plan(requests, budget=budget, row=row))
    return check


def off(model: Any, requests: Sequence[TokenRequest], scorer: Scorer) -> float:
    """Largest difference (nats) of a log-probability from the model's own."""
    largest = 0.0
    for rows in scorer.rows(requests):
        found = scorer.model.head.logits(rows.hidden).detach().float().log_softmax(-1)
        for index, own in zip(rows.requests, rows.rows, strict=True):
            difference = found[torch.from_numpy(own)] - models.logprobs(model, requests[index])
            largest = max(largest, float(difference.abs().max()))
    return largest


def with_zero(requests: Sequence[TokenRequest]) -> list[TokenRequest]:
    """The requests with token 0, which is what the check's strangers are made of, as their first."""
    return [
        TokenRequest.of(
            [0, *request.fed[1 : request.first_scored + 1].tolist()],
            request.continuation.tolist(),
            max_length=models.LONGEST,
        )
        for request in requests
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gemma3_text", "gpt_neox", "cohere"])
def test_rounding_is_no_reason_to_refuse(name: str, attention: str, dtype: torch.dtype) -> None:
    """A model that reads packs rightly is packed in every dtype, behind kept prefixes as well."""
    model = models.build(name, attention=attention, dtype=dtype)
    for requests in (models.few_shot(), with_zero(models.few_shot())):
        for budget in (64, 1024):
            check = checked(model, requests, budget=budget)
            assert check.refusal is None
            assert check.prefixes_can_be_kept


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("masks", [True, False], ids=["ignores", "is given none"])
def test_a_kernel_that_ignores_the_mask_is_refused(dtype: torch.dtype, masks: bool) -> None:
    """The numbers are then those of the plain path, which needs no mask."""
    requests = models.few_shot()
    with attending(causal, masks=masks) as name:
        model = models.build("llama", attention=name, dtype=dtype)
        scorer = Scorer(CausalModel(model), budget=64)
        assert off(model, requests, scorer) < (2e-5 if dtype == torch.float32 else 0.05)
    assert "nats from plain ones" in str(scorer.refusal)


@pytest.mark.parametrize(("dtype", "leak"), [(torch.bfloat16, -6.5), (torch.float16, -7.5)])
def test_a_slight_leak_is_found_in_half_precision(dtype: torch.dtype, leak: float) -> None:
    """Too little to stand out from rounding, it shows when only strange tokens change.

    Control: the same kernel without the leak is packed.
    """
    requests = models.few_shot()
    told = {}
    for weight in (leak, float("-inf")):
        with attending(leaking(weight)) as name:
            model = models.build("llama", attention=name, dtype=dtype)
            told[weight] = checked(model, requests).refusal
    assert told[float("-inf")] is None
    assert "its attention sees tokens of other requests" in str(told[leak])


def test_a_slight_leak_is_found_in_full_precision() -> None:
    """There it stands out by itself, however small."""
    with attending(leaking(-9.0)) as name:
        model = models.build("llama", attention=name)
        assert "nats from plain ones" in str(checked(model, models.few_shot()).refusal)


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (nan_under_a_mask, "packed requests are nan nats from plain ones"),
        (speechless, "it does not take a mask of its own: NotImplementedError"),
    ],
)
def test_a_kernel_that_fails_on_masks_is_refused(kernel: Kernel, said: str) -> None:
    """By an error that says nothing, or by numbers that are none."""
    requests = models.few_shot()
    with attending(kernel) as name:
        model = models.build("llama", attention=name)
        scorer = Scorer(CausalModel(model), budget=64)
        assert off(model, requests, scorer) < 2e-5
    assert scorer.refusal == said


def test_larger_packs_are_tried_again() -> None:
    """A kernel that minds the mask in short packs only passes until longer ones are to be read."""
    few, many = models.few_shot(questions=2), models.few_shot(questions=12)
    with attending(causal_when_long) as name:
        check = checked(models.build("llama", attention=name), few)
        assert check.refusal is None
        assert plan(many, budget=1024).largest > 100
        checked(models.build("llama", attention=name), many, check=check)
    assert "nats from plain ones" in str(check.refusal)


def test_requests_beyond_the_window_are_tried_again() -> None:
    """Requests within it say nothing of how a sliding layer reads a pack."""
    model = models.build("mistral")
    reader = CausalModel(model)
    within = models.few_shot(shots=2, questions=9)
    assert max(len(request.fed) for request in within) <= models.WINDOW

    class Unwindowed(CausalModel):
        def _masks(self, *args: Any) -> Any:
            window, self.window = self.window, None
            try:
                return super()._masks(*args)
            finally:
                self.window = window

    for kind, refused in ((CausalModel, False), (Unwindowed, True)):
        check = PackingCheck(kind(model))
        checked(model, within, check=check)
        assert check.refusal is None
        beyond = [*models.few_shot(shots=2), *models.few_shot(shots=20, questions=1)]
        assert plan(beyond, budget=1024).largest < plan(within, budget=1024).largest
        checked(model, beyond, check=check)
        assert (check.refusal is not None) == refused
    assert reader.window == models.WINDOW


def test_no_pack_is_refused_for_want_of_positions() -> None:
    """A pack is larger than any request may be; its tokens' positions are the requests' own."""
    requests = models.few_shot(questions=12)
    longest = max(len(request.fed) for request in requests)
    assert plan(requests, budget=1024).largest > 2 * longest
    for name in ("gpt2", "opt"):
        model = models.build(name, n_positions=longest, max_position_embeddings=longest)
        scorer = Scorer(CausalModel(model), budget=1024)
        assert off(model, requests, scorer) < 2e-5
        assert scorer.refusal is None


def kept(arguments: dict[str, Any]) -> int:
    """Tokens before those that a model is called with; its parameter has two names."""
    cache = arguments.get("cache") or arguments.get("past_key_values")
    return 0 if cache is None else int(cache.get_seq_length())


def cacheless(own: Any, **arguments: Any) -> Any:
    """A forward that takes no keys and values kept before."""
    if kept(arguments):
        raise ValueError("no cache, please")
    return own(**arguments)


def forgetful(own: Any, **arguments: Any) -> Any:
    """A forward that drops what was kept, and what its mask says of it."""
    if places := kept(arguments):
        mask = arguments["attention_mask"][..., places:]
        arguments = {"input_ids": arguments["input_ids"], "attention_mask": mask}
    return own(**arguments)


@pytest.mark.parametrize("kind", [cacheless, forgetful])
@pytest.mark.parametrize("first", ["shared", "apart"])
def test_a_prefix_that_cannot_be_kept_is_repeated(kind: Callable[..., Any], first: str) -> None:
    """Packs are read whole then, wherever among the requests those stand that share it."""
    requests = models.few_shot()
    apart = [
        TokenRequest.of(models.tokens(6, seed), [7, 8], max_length=models.LONGEST)
        for seed in range(70, 76)
    ]
    requests = [*apart, *requests] if first == "apart" else [*requests, *apart]
    model = models.build("llama")
    reader = CausalModel(model)
    with models.forward(model, kind):
        scorer = Scorer(reader, budget=64)
        assert off(model, requests, scorer) < 2e-5
    assert scorer.refusal is None


def test_a_window_of_places_is_found_behind_a_long_prefix() -> None:
    """Few places from a prefix to its pack are none to judge from when a longer one is kept."""
    short = models.few_shot(shots=33, questions=4)
    long = models.few_shot(shots=80, questions=4)
    model = models.build("gpt_neo", window_size=70)
    scorer = Scorer(CausalModel(model), budget=50)
    assert off(model, short, scorer) < 2e-5
    assert off(model, [*short, *long], scorer) < 2e-5


@pytest.mark.parametrize(
    "requests",
    [
        [],
        models.few_shot()[:1],
        [models.few_shot()[0]] * 3,
    ],
    ids=["none", "one", "thrice the same"],
)
def test_a_request_by_itself_needs_no_check(requests: list[TokenRequest]) -> None:
    """Nothing is read, so even a model that no pack suits is not refused yet."""
    check = checked(models.build("bloom"), requests)
    assert check.refusal is None
    checked(models.build("bloom"), models.few_shot(), check=check)
    assert "mask of its own" in str(check.refusal)


def test_a_model_that_says_nan_is_not_refused_for_it() -> None:
    """Where both are nan there is no difference."""
    model = models.build("llama")
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    check = checked(model, models.few_shot())
    assert check.refusal is None


def test_what_was_tried_is_not_tried_again() -> None:
    """The same requests once more, or fewer of them, cost no pass of the model."""
    model = models.build("llama")
    requests = models.few_shot()
    check = checked(model, requests)
    checked(model, requests, budget=64, check=check)

    def unasked(own: Any, **arguments: Any) -> Any:
        raise AssertionError("the model was read")

    with models.forward(model, unasked):
        checked(model, requests, check=check)
        checked(model, requests[:9], check=check)
        checked(model, requests, budget=64, check=check)
