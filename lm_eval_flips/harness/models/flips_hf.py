"""FlipsHF: the harness's `hf` model with `scoring/` inside, registered as `flips-hf`.

Only what asks for log-likelihoods is scored in another way; loading, tokenising, truncation,
generation and the rest are the harness's. A baseline can record its hidden states; a compressed
model, given such a reference, measures its distance from them while it is scored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import isnan
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from lm_eval_flips.errors import FlipsError, HarnessError
from lm_eval_flips.harness.answering import Answering
from lm_eval_flips.harness.measured_answer import as_logged
from lm_eval_flips.harness.models.refusals import names_of, refuse_lengths, refuse_missing
from lm_eval_flips.harness.recording import Recording
from lm_eval_flips.harness.recording_options import ModelIdentity, Options
from lm_eval_flips.scoring.lm_head import UnreadableHeadError
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.transformers.causal_model import CausalModel
from lm_eval_flips.scoring.transformers.scorer import Scorer

logger = logging.getLogger(__name__)

LARGEST_BATCH = 64  # the harness's own, where it looks for a batch size itself
ENCODED = 256  # strings whose tokens are remembered


@register_model("flips-hf")
class FlipsHF(HFLM):  # type: ignore[misc]  # lm_eval ships no types
    """The harness's `hf` model, scoring requests that share a prefix once.

    Takes every model argument of `hf`, and:

    Args:
        pretrained: as for `hf`.
        record: run folder in which to record this model as a baseline (``RUN/reference/``).
        reference: run folder of a recorded baseline to measure distances from.
        distances: run folder for these distances (``RUN/token_distances/``).
        positions: "all" records every scored position, "last" a context's last one only.
        top: record this many of the most likely tokens instead of hidden states.
        pack_tokens: most tokens that are read at once; by default 1024 on a CPU, else 4096.
        softmax_dtype: of the model's plain path; this one's softmaxes are float32 always.

    Raises:
        HarnessError: what is asked for cannot be done with this model or these folders.
    """

    def __init__(
        self,
        pretrained: Any,
        *,
        record: str | None = None,
        reference: str | None = None,
        distances: str | None = None,
        positions: str = "all",
        top: int | None = None,
        pack_tokens: int | None = None,
        softmax_dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        self._encoded: dict[Any, list[int]] = {}
        super().__init__(pretrained=pretrained, softmax_dtype=softmax_dtype, **kwargs)
        self._scorer: Scorer | None = None
        self._recording: Recording | None = None
        self._asked: Sequence[Instance] = ()
        try:
            options = Options.of(
                record=record,
                reference=reference,
                distances=distances,
                positions=positions,
                top=top,
            )
            self._set_up(options, pack_tokens)
        except FlipsError as error:
            raise HarnessError(str(error)) from None

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-likelihoods of continuations, as `hf` gives them."""
        self._asked = requests
        answers: list[tuple[float, bool]] = super().loglikelihood(
            requests, disable_tqdm=disable_tqdm
        )
        return answers

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihoods of whole texts, window by window, as `hf` gives them."""
        if self._scorer is None:
            plain: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
            return plain
        self._asked = requests
        windows = [
            [
                TokenRequest.of(*window, max_length=self.max_length)
                for window in self._rolling_windows(request.args[0])
            ]
            for request in requests
        ]
        texts = [request.args for request in requests]
        return self._answers("loglikelihood_rolling", windows, texts, disable_tqdm=disable_tqdm)

    def get_model_info(self) -> dict[str, Any]:
        """What the harness logs of the model, and how its requests were scored."""
        info: dict[str, Any] = super().get_model_info()
        if self._scorer is None:
            return {**info, "scoring": "plain"}
        verdict = self._scorer.verdict
        tried = {"packing_check": verdict} if verdict else {}
        return {**info, "scoring": self._scorer.refusal or "packed", **tried}

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        """Token ids of a string; the choices of a question ask for its context again and again."""
        key = (string, args, tuple(sorted(kwargs.items())))
        if key not in self._encoded:
            if len(self._encoded) >= ENCODED:
                self._encoded.clear()
            self._encoded[key] = super().tok_encode(string, *args, **kwargs)
        return list(self._encoded[key])

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        if self._scorer is None:
            plain: list[tuple[float, bool]] = super()._loglikelihood_tokens(
                requests, disable_tqdm=disable_tqdm, override_bs=override_bs
            )
            return plain
        lengths = [len(continuation) for _, _, continuation in requests]
        refuse_lengths(lengths, self._asked, most=self.max_length)
        windows = [
            [TokenRequest.of(context, continuation, max_length=self.max_length)]
            for _, context, continuation in requests
        ]
        texts = [text for text, _, _ in requests]
        return self._answers("loglikelihood", windows, texts, disable_tqdm=disable_tqdm)

    def _rolling_windows(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        windows = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self.max_length,
            context_len=1,
        )
        return map(make_disjoint_window, windows)

    def _set_up(self, options: Options, pack_tokens: int | None) -> None:
        """Prepare for scoring; without what that needs the model stays the plain `hf` one."""
        if self.backend != "causal":
            self._stay_plain("it is no causal language model", options)
            return
        if self.mixed_precision_dtype is not None:
            self._stay_plain("mixed_precision_dtype is set", options)
            return
        model = CausalModel(self.model)
        try:
            hidden = model.probe(self.prefix_token_id)
            if len(hidden) != 1:
                raise UnreadableHeadError("it adds tokens of its own to what it reads")
            identity = ModelIdentity.of(self, name=self._name)
            self._recording = Recording(
                options, model=model, hidden=hidden, identity=identity, rank=self.rank
            )
        except UnreadableHeadError as error:
            self._stay_plain(str(error), options)
            return
        if self._recording.note:
            logger.warning("%s", self._recording.note)
        size = self.batch_size if isinstance(self.batch_size, int) else LARGEST_BATCH
        self._scorer = Scorer(model, budget=pack_tokens and int(pack_tokens), batch_size=size)

    def _stay_plain(self, why: str, options: Options) -> None:
        asked = [name for name in ("record", "reference") if getattr(options, name) is not None]
        if asked:
            raise FlipsError(
                f"'{self._name}' cannot be scored with {' and '.join(asked)}: {why}; use "
                "--model hf, and compare choices"
            )
        logger.warning("flips-hf scores '%s' as hf does: %s", self._name, why)

    @property
    def _name(self) -> str:
        return str(getattr(self.model, "name_or_path", "") or type(self.model).__name__)

    def _answers(
        self,
        kind: str,
        windows: Sequence[Sequence[TokenRequest]],
        texts: Sequence[tuple[str, ...]],
        *,
        disable_tqdm: bool,
    ) -> list[Any]:
        if self._scorer is None or self._recording is None:
            raise HarnessError("flips-hf was asked for scores before it was set up")
        answering = Answering(self._scorer, self._recording, windows, texts)
        bar = tqdm(
            total=len(texts),
            initial=len(answering.found),
            disable=disable_tqdm or self.rank != 0,
            desc="Running loglikelihood requests",
        )
        try:
            if self._recording.baseline is not None:
                folder = self._recording.baseline.reference.folder
                refuse_missing(answering.missing(), self._asked, folder)
            for place in answering.run():
                answer = as_logged(answering.found[place], kind)
                self.cache_hook.add_partial(kind, texts[place], answer)
                bar.update(1)
        except FlipsError as error:
            raise HarnessError(str(error)) from None
        finally:
            bar.close()
        if self._scorer.refusal is not None:
            _say_once(f"flips-hf scores the requests one by one: {self._scorer.refusal}")
        answers = [answering.found[place] for place in range(len(texts))]
        if broken := [place for place, answer in enumerate(answers) if isnan(answer.loglikelihood)]:
            logger.warning(
                "%d log-likelihoods are nan: %s", len(broken), names_of(self._asked, broken)
            )
        return [as_logged(answer, kind) for answer in answers]


@lru_cache
def _say_once(message: str) -> None:
    logger.warning("%s", message)
