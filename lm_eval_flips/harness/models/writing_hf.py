"""The harness's `hf` model that keeps what it writes, token by token, and measures what it reads.

Writing is the harness's own: batches, stop strings, limits. A baseline's answers are noted on their
way and read once more by the model itself. A compressed model reads the baseline's answers before
it writes: in float32, an answer that it would write to the last token is not written again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.utils import normalize_gen_kwargs
from torch import Tensor

from lm_eval_flips.errors import FlipsError, HarnessError
from lm_eval_flips.generation.drafts import Draft
from lm_eval_flips.generation.greedy import why_not_greedy
from lm_eval_flips.harness.answer_recording import AnswerRecording
from lm_eval_flips.harness.measured_answer import MeasuredWriting
from lm_eval_flips.harness.models.noted_writing import NotedRow, Notes
from lm_eval_flips.harness.models.ranks import RankedHF
from lm_eval_flips.harness.models.refusals import names_of
from lm_eval_flips.logs.records import Request, request_digest
from lm_eval_flips.scoring.answer_ends import answer_end
from lm_eval_flips.scoring.answers import End, GreedyAnswer
from lm_eval_flips.scoring.partings import ReadAnswer
from lm_eval_flips.scoring.transformers.drafted import DraftedDecoding

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Saved:
    """What was measured, what was not written again, and what was written from a draft.

    Of ``drafted`` answers ``written`` tokens took so many ``passes``, where one by one each token
    takes one.
    """

    measured: int = 0
    answers: int = 0
    tokens: int = 0
    drafted: int = 0
    written: int = 0
    passes: int = 0


class WritingHF(RankedHF):
    """A model that writes, and is held against what another one wrote.

    Without a recording, ``writing``, it is the harness's `hf`.
    """

    writing: AnswerRecording | None = None
    _notes: Notes | None = None
    cache_hook: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.saved = Saved()
        self._drafts: dict[tuple[int, ...], Draft] = {}
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
        drafted = self._drafted(context) if self._drafts and len(context) == 1 else None
        if drafted is not None:
            settings["custom_generate"] = drafted
        made: Tensor = super()._model_generate(context, max_length, stop, **settings)
        if drafted is not None:
            self.saved.drafted += 1
            self.saved.written += made.shape[1] - context.shape[1]
            self.saved.passes += drafted.passes
        if self._notes is not None:
            mask = settings.get("attention_mask")
            for place, (row, whole) in enumerate(zip(context, made, strict=True)):
                own = row if mask is None else row[mask[place].bool()]
                ids = whole[len(row) :].tolist()
                size, end = answer_end(ids, ending=self._ending, stops=stop, decode=self.tok_decode)
                self._notes.rows.append(
                    NotedRow(
                        prompt=own.cpu().numpy().astype(np.int64),
                        ids=np.array(ids[:size], np.int64),
                        end=end,
                        limit=max_length - len(row),
                    )
                )
        return made

    @contextmanager
    def _noting(self) -> Iterator[Notes]:
        """Note what is written meanwhile."""
        hook = self.cache_hook
        self._notes = self.cache_hook = Notes(hook)
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
            self._drafts = self._drafts_of(wanted, read)
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
        return (
            read.parting is None
            and self._exact
            and self.think_end_token is None
            and self.most_written(request.args[1]) == answer.limit
            and answer.end is not End.UNKNOWN
            and (answer.end is not End.TOKEN or int(answer.ids[-1]) in self._ending)
        )

    def _drafts_of(
        self, wanted: Mapping[int, GreedyAnswer], read: Mapping[bytes, ReadAnswer]
    ) -> dict[tuple[int, ...], Draft]:
        """The baseline's answers as drafts, by their prompts' tokens, where each is exact."""
        if not self._exact:
            return {}
        found = {}
        for answer in wanted.values():
            parting = read[answer.key].parting
            known = len(answer.ids) if parting is None else parting
            prompt = answer.prompt.tolist()
            found[tuple(prompt)] = Draft(answer.ids.tolist(), known=known, prompt=prompt)
        return found

    def _drafted(self, context: Tensor) -> DraftedDecoding | None:
        """How to write behind a prompt, which is asked for once, with the baseline's answer."""
        draft = self._drafts.pop(tuple(context[0].tolist()), None)
        writing = self.writing
        return None if draft is None or writing is None else writing.drafted(draft.propose)

    @property
    def _exact(self) -> bool:
        """Whether many tokens read at once are chosen as they are one by one."""
        in_8_bit = getattr(self.model, "is_loaded_in_8bit", False)
        return self.model.dtype == torch.float32 and not in_8_bit

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
