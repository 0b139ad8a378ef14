"""FlipsVLLM: the harness's `vllm` model, scored with vLLM's prefix cache, as `flips-vllm`.

Only log-likelihoods of choices are asked in another way; loading, tokenising, truncation, whole
texts, writing and chat templates are the harness's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model

from lm_eval_flips.errors import FlipsError, HarnessError
from lm_eval_flips.evaluation.model_files import files_fingerprint
from lm_eval_flips.harness.models.scored_lm import ScoredLM
from lm_eval_flips.harness.models.stock_vllm import VLLM, refuse_unusable
from lm_eval_flips.harness.recording import Recording
from lm_eval_flips.harness.recording_options import (
    ModelIdentity,
    Options,
    tokenizer_fingerprint,
    vocabulary_fingerprint,
)
from lm_eval_flips.scoring.vllm.engine import Engine, EngineFacts
from lm_eval_flips.scoring.vllm.library import DEFAULT_MAX_LOGPROBS, refuse_small, way_out
from lm_eval_flips.scoring.vllm.scorer import VllmScorer

logger = logging.getLogger(__name__)

CPU_BLOCK = 32  # the smallest that is fast there; of 128, its default, half are computed again
BLOCK = 16  # tokens of a block of the prefix cache, where there is no engine here to ask
SHOWN = 400  # characters of what vLLM says


@register_model("flips-vllm")
class FlipsVLLM(ScoredLM, VLLM):  # type: ignore[misc]  # lm_eval ships no types
    """The harness's `vllm` model, computing what requests share once.

    Takes every model argument of `vllm`, and:

    Args:
        pretrained: as for `vllm`.
        record: run folder in which to record this model as a baseline (``RUN/reference/``); needs
            ``top``.
        reference: run folder of a recorded baseline to measure distances from; it was recorded with
            ``top``.
        distances: run folder for these distances (``RUN/token_distances/``).
        positions: "all" records every scored position, "last" a context's last one only.
        top: record this many of the most likely tokens.

    Raises:
        HarnessError: vLLM cannot load the model, or what is asked for cannot be done with it or
            with these folders.
    """

    def __new__(cls, *_: Any, **__: Any) -> FlipsVLLM:
        """Refuse where there is no vLLM."""
        refuse_unusable()
        made: FlipsVLLM = super().__new__(cls)
        return made

    def __init__(
        self,
        pretrained: str,
        *,
        record: str | None = None,
        reference: str | None = None,
        distances: str | None = None,
        positions: str = "all",
        top: int | None = None,
        **kwargs: Any,
    ) -> None:
        try:
            options = Options.of(
                record=record,
                reference=reference,
                distances=distances,
                positions=positions,
                top=top,
            )
            kwargs = _fit(options, kwargs)
            self._load(pretrained, kwargs)
            self._set_up(pretrained, options)
        except FlipsError as error:
            raise HarnessError(str(error)) from error.__cause__

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihoods of whole texts, as the harness's `vllm` gives them."""
        if self._recording is not None and self._recording.keyed:
            logger.warning(
                "flips-vllm records and measures choices; of whole texts (%d) there are no "
                "distances",
                len(requests),
            )
        found: list[float] = VLLM.loglikelihood_rolling(self, requests, disable_tqdm=disable_tqdm)
        return found

    def get_model_info(self) -> dict[str, Any]:
        """What the harness logs of the model, and how its requests were scored."""
        scorer = self._scorer
        if not isinstance(scorer, VllmScorer):
            return {}
        counted = scorer.engine.counted
        tried = {"cache_check": scorer.verdict} if scorer.verdict else {}
        return {
            "model_dtype": scorer.engine.facts.dtype,
            "vllm": version("vllm"),
            "scoring": scorer.refusal or "prefix cache",
            "prompt_tokens": {"asked": counted.asked, "cached": counted.cached},
            **tried,
        }

    @property
    def _most_read(self) -> int:
        """The harness gives vLLM a token less than it reads, since it has to write one."""
        return int(self.max_length) - 2

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        if all(text is None for text, _, _ in requests):  # windows of whole texts
            plain: list[tuple[float, bool]] = VLLM._loglikelihood_tokens(
                self, requests, disable_tqdm=disable_tqdm
            )
            return plain
        room = self._most_read + 1
        lengths = [len(context) + len(continuation) for _, context, continuation in requests]
        if cut := sum(length > room for length in lengths):
            logger.warning(
                "%d of %d requests are longer than max_model_len=%d: the beginnings of their "
                "contexts are cut off, as by vllm; the longest has %d tokens",
                cut,
                len(requests),
                self.max_length,
                max(lengths),
            )
        return super()._loglikelihood_tokens(requests, disable_tqdm=disable_tqdm)

    def _load(self, pretrained: str, given: dict[str, Any]) -> None:
        try:
            super().__init__(pretrained=pretrained, **given)
        except FlipsError:
            raise
        except (ValueError, RuntimeError, OSError, MemoryError, ImportError) as error:
            raise _failure(f"vLLM cannot load '{pretrained}'", error) from error

    def _generate(self, prompts: list[list[int]], params: list[Any]) -> Sequence[Any]:
        try:
            outputs: Sequence[Any] = self._model_generate(
                requests=prompts, generate=True, sampling_params=params
            )
        except RuntimeError as error:
            raise _failure("vLLM failed", error) from error
        return outputs

    def _set_up(self, pretrained: str, options: Options) -> None:
        facts = self._facts()
        scorer = VllmScorer(Engine(self._generate, facts), top=options.top)
        identity = ModelIdentity(
            name=pretrained,
            revision=str(self.model_args["revision"] or "main"),
            dtype=facts.dtype,
            tokenizer=tokenizer_fingerprint(self.tokenizer),
            entries=len(self.tokenizer),
            max_length=int(self.max_length),
            files=files_fingerprint(pretrained),
            vocabulary=vocabulary_fingerprint(self.tokenizer),
        )
        self._recording = Recording(
            options,
            model=scorer.model,
            hidden=torch.empty(1, 1),
            identity=identity,
            rank=self.rank,
        )
        for note in self._recording.notes:
            logger.warning("%s", note)
        baseline = self._recording.baseline
        if baseline is not None and baseline.reference.header.top is None:
            raise FlipsError(
                f"the reference '{baseline.reference.folder}' holds hidden states, which vLLM does "
                "not give: record the baseline with top=100, or leave out reference and compare "
                "choices"
            )
        scorer.baseline = baseline
        self._scorer = scorer

    def _facts(self) -> EngineFacts:
        if self.data_parallel_size <= 1:
            return EngineFacts.of(self.model.llm_engine.vllm_config)
        text = self._config.get_text_config()
        cached = self.model_args.get("enable_prefix_caching", True)
        return EngineFacts(
            block=int(self.model_args.get("block_size") or BLOCK) if cached else None,
            tokens=int(text.vocab_size),
            dtype=str(getattr(text, "dtype", "")).removeprefix("torch."),
            replicas=self.data_parallel_size,
        )


def _fit(options: Options, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of vLLM, fit for what is asked for; refuses what it cannot give."""
    if given.get("max_length") is not None and given.get("max_model_len") is not None:
        raise FlipsError("max_length and max_model_len are the same; give one of them")
    if options.record is not None and options.top is None:
        raise FlipsError(
            f"record={options.record} needs top=100: vLLM gives a model's most likely tokens, not "
            "its hidden states"
        )
    from vllm.platforms import current_platform

    if current_platform.is_cpu() and given.get("block_size") is None:
        given = {**given, "block_size": CPU_BLOCK}
    limit = given.get("max_logprobs")
    if (why := refuse_small(None if limit is None else int(limit), top=options.top)) is not None:
        raise FlipsError(why)
    if limit is None and options.top is not None:
        return {**given, "max_logprobs": max(DEFAULT_MAX_LOGPROBS, options.top)}
    return given


def _failure(what: str, error: BaseException) -> FlipsError:
    said = " ".join(str(error).split()) or type(error).__name__
    return FlipsError(f"{what}: {said[:SHOWN]}{way_out(said)}")
