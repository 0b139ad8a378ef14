"""What the plug-in's models have in common: requests scored by an engine, recorded and measured.

Tokenising, truncation and the order of requests are the harness's. A baseline can record its
states; a compressed model, given such a reference, measures its distance from them while it is
scored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import isnan
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from lm_eval_flips.errors import FlipsError, HarnessError
from lm_eval_flips.harness.answering import Answering
from lm_eval_flips.harness.measured_answer import as_logged
from lm_eval_flips.harness.models.refusals import names_of, refuse_lengths, refuse_missing
from lm_eval_flips.harness.recording import Recording
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.scored_rows import RowScorer

logger = logging.getLogger(__name__)

ENCODED = 256  # strings whose tokens are remembered


class ScoredLM(TemplateLM):  # type: ignore[misc]  # lm_eval ships no types
    """A model of the harness whose log-likelihoods are an engine's.

    Without a scorer it is what it would be without this class: the one that stands behind it in
    the order of bases answers.
    """

    _scorer: RowScorer | None = None
    _recording: Recording | None = None
    _asked: Sequence[Instance] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._encoded: dict[Any, list[int]] = {}  # asked for while hf is set up
        super().__init__(*args, **kwargs)

    @property
    def _most_read(self) -> int:
        """Tokens of a request that are read at most; the continuation's last one is not read."""
        return int(self.max_length)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-likelihoods of continuations, as the harness expects them."""
        self._asked = requests
        answers: list[tuple[float, bool]] = super().loglikelihood(
            requests, disable_tqdm=disable_tqdm
        )
        return answers

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihoods of whole texts, window by window, as the harness expects them."""
        if self._scorer is None:
            plain: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
            return plain
        self._asked = requests
        windows = [
            [
                TokenRequest.of(*window, max_length=self._most_read)
                for window in self._rolling_windows(request.args[0])
            ]
            for request in requests
        ]
        texts = [request.args for request in requests]
        return self._answers("loglikelihood_rolling", windows, texts, disable_tqdm=disable_tqdm)

    def tok_encode(self, string: Any, *args: Any, **kwargs: Any) -> Any:
        """Token ids of a string; the choices of a question ask for its context again and again.

        Of several strings, as many lists, where the model behind this class takes them.
        """
        if not isinstance(string, str):
            return super().tok_encode(string, *args, **kwargs)
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
        refuse_lengths(lengths, self._asked, most=self._most_read)
        windows = [
            [TokenRequest.of(context, continuation, max_length=self._most_read)]
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

    def _answers(
        self,
        kind: str,
        windows: Sequence[Sequence[TokenRequest]],
        texts: Sequence[tuple[str, ...]],
        *,
        disable_tqdm: bool,
    ) -> list[Any]:
        if self._scorer is None or self._recording is None:
            raise HarnessError("the model was asked for scores before it was set up")
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
                otherwise = self._recording.splits_otherwise
                missing = answering.missing()
                refuse_missing(missing, self._asked, folder, splits_otherwise=otherwise)
            for place in answering.run():
                answer = as_logged(answering.found[place], kind)
                self.cache_hook.add_partial(kind, texts[place], answer)
                bar.update(1)
        except FlipsError as error:
            raise HarnessError(str(error)) from None
        finally:
            bar.close()
        if self._scorer.refusal is not None:
            _say_once(f"the requests are scored one by one: {self._scorer.refusal}")
        answers = [answering.found[place] for place in range(len(texts))]
        if broken := [place for place, answer in enumerate(answers) if isnan(answer.loglikelihood)]:
            logger.warning(
                "%d log-likelihoods are nan: %s", len(broken), names_of(self._asked, broken)
            )
        return [as_logged(answer, kind) for answer in answers]


@lru_cache
def _say_once(message: str) -> None:
    logger.warning("%s", message)
