"""The harness's `hf` model that keeps what it writes, token by token, and measures what it reads.

Writing is the harness's own: batches, stop strings, limits. A baseline's answers are noted on their
way and read once more by the model itself. A compressed model reads the baseline's answers before
it writes: in float32, an answer that it would write to the last token is not written again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.utils import normalize_gen_kwargs
from torch import Tensor

from lm_eval_flips.errors import FlipsError, HarnessError
from lm_eval_flips.generation.ends import answer_end
from lm_eval_flips.generation.greedy import why_not_greedy
from lm_eval_flips.generation.partings import ReadAnswer
from lm_eval_flips.harness.answer_recording import AnswerRecording, Written
from lm_eval_flips.harness.measured_answer import MeasuredWriting
from lm_eval_flips.harness.models.ranks import RankedHF
from lm_eval_flips.harness.models.refusals import names_of
from lm_eval_flips.logs.records import Request, request_digest
from lm_eval_flips.scoring.answers import End, GreedyAnswer
from lm_eval_flips.scoring.requests import Ints

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Row:
    """What one generation wrote behind a prompt."""

    prompt: Ints
    ids: Ints
    end: End
    limit: int


@dataclass(slots=True)
class _Notes:
    """What the harness hands to its cache, answer by answer, in the order of the rows."""

    hook: Any
    rows: list[_Row] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)

    def add_partial(self, kind: str, asked: Any, answer: Any) -> None:
        """Take an answer, with what was asked, on its way to the cache."""
        self.hook.add_partial(kind, asked, answer)
        if kind != "generate_until" or not self.rows:
            return
        row = self.rows.pop(0)
        if len(row.prompt):
            self.written.append(
                Written(
                    key=request_digest(Request(*asked)),
                    prompt=row.prompt,
                    ids=row.ids,
                    end=row.end,
                    limit=row.limit,
                    text=answer,
                )
            )


@dataclass(slots=True)
class Saved:
    """What was measured, and what was not written again."""

    measured: int = 0
    answers: int = 0
    tokens: int = 0


class WritingHF(RankedHF):
    """A model that writes, and is held against what another one wrote.

    Without a recording, ``writing``, it is the harness's `hf`.
    """

    writing: AnswerRecording | None = None
    _notes: _Notes | None = None
    cache_hook: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.saved = Saved()
        super().__init__(*args, **kwargs)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes behind each context, up to a stop string."""
        answers = self.writing
        try:
            if answers is not None and answers.baseline is not None:
                return self._measured(answers, requests, disable_tqdm=disable_tqdm)
            if answers is None or not answers.records:
                return self._plain(requests, disable_tqdm=disable_tqdm)
            with self._noting() as notes:
                texts = self._plain(requests, disable_tqdm=disable_tqdm)
            greedy = self._greedy_keys(requests)
            answers.record([own for own in notes.written if own.key in greedy])
        except FlipsError as error:
            raise HarnessError(str(error)) from None
        return texts

    def most_written(self, settings: dict[str, Any]) -> int:
        """The most tokens that a request's settings allow."""
        most: int = normalize_gen_kwargs(dict(settings), self.max_gen_toks)["max_gen_toks"]
        return most

    def prompt_tokens(self, context: str, limit: int) -> list[int]:
        """What the model reads of a context before it writes up to so many tokens."""
        ids, mask = self.tok_batch_encode(
            [context], left_truncate_len=self.max_length - limit, truncation=self.truncation
        )
        tokens: list[int] = ids[0][mask[0].bool()].tolist()
        return tokens

    def _plain(self, requests: list[Instance], *, disable_tqdm: bool) -> list[str]:
        texts: list[str] = super().generate_until(requests, disable_tqdm=disable_tqdm)
        return texts

    def _model_generate(
        self, context: Tensor, max_length: int, stop: list[str], **settings: Any
    ) -> Tensor:
        made: Tensor = super()._model_generate(context, max_length, stop, **settings)
        if self._notes is not None:
            mask = settings.get("attention_mask")
            for place, (row, whole) in enumerate(zip(context, made, strict=True)):
                own = row if mask is None else row[mask[place].bool()]
                ids = whole[len(row) :].tolist()
                size, end = answer_end(ids, ending=self._ending, stops=stop, decode=self.tok_decode)
                self._notes.rows.append(
                    _Row(
                        prompt=own.cpu().numpy().astype(np.int64),
                        ids=np.array(ids[:size], np.int64),
                        end=end,
                        limit=max_length - len(row),
                    )
                )
        return made

    @contextmanager
    def _noting(self) -> Iterator[_Notes]:
        """Note what is written meanwhile."""
        hook = self.cache_hook
        self._notes = self.cache_hook = _Notes(hook)
        try:
            yield self._notes
        finally:
            self._notes, self.cache_hook = None, hook

    def _measured(
        self, answers: AnswerRecording, requests: list[Instance], *, disable_tqdm: bool
    ) -> list[str]:
        """Read the baseline's answers; write what is not known from that."""
        wanted = self._wanted(answers, requests)
        read = answers.read(list({own.key: own for own in wanted.values()}.values()))
        texts = {
            place: own.text
            for place, own in wanted.items()
            if self._would_write(requests[place], own, read[own.key])
        }
        rest = [place for place in range(len(requests)) if place not in texts]
        if rest:
            asked = [requests[place] for place in rest]
            new = self._plain(asked, disable_tqdm=disable_tqdm)
            texts.update(zip(rest, new, strict=True))
        for place in sorted(set(texts) - set(rest)):
            self.cache_hook.add_partial("generate_until", requests[place].args, texts[place])
        for place, own in wanted.items():
            answers.add(own, read[own.key], texts[place])
        answers.flush()
        kept = [own for place, own in wanted.items() if place not in set(rest)]
        self.saved.measured += len(wanted)
        self.saved.answers += len(kept)
        self.saved.tokens += sum(len(own.ids) for own in kept)
        for place, own in wanted.items():
            found = read[own.key]
            texts[place] = MeasuredWriting(texts[place], found.mean_kl, found.parting)
        return [texts[place] for place in range(len(requests))]

    def _wanted(
        self, answers: AnswerRecording, requests: Sequence[Instance]
    ) -> dict[int, GreedyAnswer]:
        """The baseline's answers that this model can be held against, by place."""
        left: dict[str, list[int]] = defaultdict(list)
        wanted: dict[int, GreedyAnswer] = {}
        for place, request in enumerate(requests):
            own = self._key_of(request)
            answer = None if answers.baseline is None else answers.baseline.get(own)
            if (why := self._unmeasurable(request)) is not None:
                left[why].append(place)
            elif answer is None or not answers.holds(answer):
                left["the baseline's answer was not recorded"].append(place)
            elif self.prompt_tokens(request.args[0], answer.limit) != answer.prompt.tolist():
                left["its tokens are not those that the baseline read"].append(place)
            else:
                wanted[place] = answer
        for why, places in left.items():
            logger.warning(
                "%d answers are not measured: %s (%s)", len(places), why, names_of(requests, places)
            )
        return wanted

    def _would_write(self, request: Instance, answer: GreedyAnswer, read: ReadAnswer) -> bool:
        """Whether this model's own answer is known to be the baseline's, to the last token."""
        exact = self.model.dtype == torch.float32 and not getattr(
            self.model, "is_loaded_in_8bit", False
        )
        return (
            read.parting is None
            and exact
            and self.think_end_token is None
            and self.most_written(request.args[1]) == answer.limit
            and answer.end is not End.UNKNOWN
            and (answer.end is not End.TOKEN or int(answer.ids[-1]) in self._ending)
        )

    def _greedy_keys(self, requests: Sequence[Instance]) -> set[bytes]:
        return {self._key_of(own) for own in requests if self._unmeasurable(own) is None}

    def _unmeasurable(self, request: Instance) -> str | None:
        if request.repeats > 1:
            return f"each question is asked {request.repeats} times"
        defaults = self.model.generation_config.to_diff_dict()
        return why_not_greedy(request.args[1], defaults)

    @staticmethod
    def _key_of(request: Instance) -> bytes:
        return request_digest(Request(*request.args))

    @property
    def _ending(self) -> frozenset[int]:
        """The tokens that end a text."""
        given = self.model.generation_config.eos_token_id
        more = given if isinstance(given, list) else [] if given is None else [given]
        return frozenset({self.eot_token_id, *more})
