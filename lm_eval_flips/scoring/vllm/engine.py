"""Prompts -> what vLLM says behind them. All that is asked of vLLM is asked here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.requests import Ints, TokenRequest
from lm_eval_flips.scoring.vllm.known import Known

# Prompts of token ids and the sampling parameters of each -> vLLM's outputs, in order.
Generate = Callable[[list[list[int]], list[Any]], Sequence[Any]]
MOST_TOKENS = 128  # that vLLM scores behind one prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What a loaded engine is like.

    ``block`` is the tokens of a block of its prefix cache, None without one; ``tokens`` the size of
    the vocabulary; ``dtype`` what it computes in; ``replicas`` how many copies answer.
    """

    block: int | None
    tokens: int
    dtype: str
    replicas: int = 1

    @classmethod
    def of(cls, config: Any) -> EngineFacts:
        """Of the configuration of a loaded engine, vLLM's ``VllmConfig``.

        Raises:
            FlipsError: it gives something else than log-probabilities.
        """
        model, cache = config.model_config, config.cache_config
        if "logprobs" not in (mode := str(model.logprobs_mode)):
            raise FlipsError(f"logprobs_mode={mode} gives no log-probabilities; leave it out")
        return cls(
            block=int(cache.block_size) if cache.enable_prefix_caching else None,
            tokens=int(model.get_vocab_size()),
            dtype=str(model.dtype).removeprefix("torch."),
        )


@dataclass(slots=True)
class Counted:
    """Tokens of the prompts that were asked, and how many of them stood in the prefix cache."""

    asked: int = 0
    cached: int = 0


class Engine:
    """Asks vLLM.

    Args:
        generate: asks some prompts.
        facts: what the engine is like.
    """

    def __init__(self, generate: Generate, facts: EngineFacts) -> None:
        self.facts, self.counted = facts, Counted()
        self._generate = generate

    def chosen(
        self,
        prompts: Sequence[Ints],
        tokens: Sequence[Sequence[int]],
        *,
        cached: bool = True,
    ) -> list[Known]:
        """What some tokens have behind each prompt, at most 128 behind one.

        Args:
            prompts: token ids.
            tokens: behind each of them.
            cached: read the prefix cache.
        """
        wanted = [{"logprob_token_ids": list(own)} for own in tokens]
        return self._behind(prompts, wanted, cached=cached)

    def likeliest(self, prompts: Sequence[Ints], count: int, *, cached: bool = True) -> list[Known]:
        """The likeliest tokens behind each prompt, by what they have."""
        return self._behind(prompts, [{"logprobs": count}] * len(prompts), cached=cached)

    def whole(self, requests: Sequence[TokenRequest], count: int = 1) -> list[list[Known]]:
        """What requests' own tokens have, and the ``count`` likeliest ones, position by position.

        All of a request is computed; the prefix cache is not read.
        """
        prompts = [[*request.fed.tolist(), int(request.continuation[-1])] for request in requests]
        wanted: list[dict[str, Any]] = [{"prompt_logprobs": count}] * len(prompts)
        return [
            _whole(request, output)
            for request, output in zip(requests, self._outputs(prompts, wanted), strict=True)
        ]

    def _behind(
        self, prompts: Sequence[Ints], wanted: Sequence[dict[str, Any]], *, cached: bool
    ) -> list[Known]:
        without: dict[str, Any] = {} if cached else {"skip_reading_prefix_cache": True}
        lists = [prompt.tolist() for prompt in prompts]
        asked = [{**own, **without} for own in wanted]
        found = [_behind(output) for output in self._outputs(lists, asked)]
        if missing := [place for place, one in enumerate(found) if one is None]:
            again = [{**wanted[place], "skip_reading_prefix_cache": True} for place in missing]
            outputs = self._outputs([lists[place] for place in missing], again)
            for place, output in zip(missing, outputs, strict=True):
                found[place] = _behind(output)
        return list(_all_found(found, lists))

    def _outputs(self, prompts: list[list[int]], wanted: Sequence[dict[str, Any]]) -> Sequence[Any]:
        from vllm import SamplingParams

        if not prompts:
            return []
        params = [
            SamplingParams(temperature=0.0, max_tokens=1, detokenize=False, **own) for own in wanted
        ]
        outputs = self._generate(prompts, params)
        self.counted.asked += sum(map(len, prompts))
        self.counted.cached += sum(output.num_cached_tokens or 0 for output in outputs)
        return outputs


def _behind(output: Any) -> Known | None:
    """What one written token tells; None where vLLM gives no log-probabilities."""
    written = output.outputs[0]
    if not written.logprobs or written.logprobs[0] is None:
        return None
    found = {token: one.logprob for token, one in written.logprobs[0].items()}
    return Known(logprobs=found, top=int(written.token_ids[0]))


def _whole(request: TokenRequest, output: Any) -> list[Known]:
    rows = (output.prompt_logprobs or [])[request.first_scored + 1 :]
    if len(rows) != request.scored or None in rows:
        raise _no_scores(len(request.fed) + 1)
    return [
        Known(
            logprobs={token: one.logprob for token, one in row.items()},
            top=max(row, key=lambda token: row[token].logprob),
        )
        for row in rows
    ]


def _all_found(found: Sequence[Known | None], prompts: Sequence[list[int]]) -> Iterator[Known]:
    for one, prompt in zip(found, prompts, strict=True):
        if one is None:
            raise _no_scores(len(prompt))
        yield one


def _no_scores(length: int) -> FlipsError:
    return FlipsError(
        f"vLLM gives no log-probabilities for a prompt of {length} tokens, with its prefix cache "
        "or without; use --model vllm"
    )
