"""One call of the harness: its requests scored window by window, recorded, and put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import nan

import torch

from lm_eval_flips.harness.recording import Recording
from lm_eval_flips.logs.records import Request, request_digest
from lm_eval_flips.scoring.requests import Answer, TokenRequest, key_of
from lm_eval_flips.scoring.scored_rows import RowScorer
from lm_eval_flips.scoring.scores import RequestScore, score_rows


class Answering:
    """Answers requests, each of one window or, for a rolling text, of several.

    ``found`` holds the answers by place; what an interrupted run answered is there at once.
    Requests of the same text, as of a document that stands twice or where the harness fills up the
    share of one of several processes, are answered once: in other batches a number may round
    otherwise, and only one is kept with the distances.

    Args:
        scorer: runs the model.
        recording: what is recorded and measured.
        windows: what the model reads of each request.
        texts: each request's arguments, by which its distances are found again.
    """

    def __init__(
        self,
        scorer: RowScorer,
        recording: Recording,
        windows: Sequence[Sequence[TokenRequest]],
        texts: Sequence[tuple[str, ...]],
    ) -> None:
        self._scorer, self._recording = scorer, recording
        self._texts = [request_digest(Request(*text)) for text in texts]
        answers = {place: recording.answered(text) for place, text in enumerate(self._texts)}
        self.found = {place: answer for place, answer in answers.items() if answer is not None}
        # the windows of all others, one request after the other
        self._windows: list[TokenRequest] = []
        self._owner: list[int] = []
        self._own: dict[int, range] = {}
        self._alike: dict[bytes, list[int]] = {}  # places of the same text
        for place, own in enumerate(windows):
            if place in self.found:
                continue
            alike = self._alike.setdefault(self._texts[place], [])
            alike.append(place)
            if alike == [place]:
                self._own[place] = range(len(self._windows), len(self._windows) + len(own))
                self._windows += own
                self._owner += [place] * len(own)
        self._keys = [key_of(window) for window in self._windows] if recording.keyed else []
        self._parts: dict[int, RequestScore | Answer] = {}

    def missing(self) -> list[int]:
        """Requests that the baseline's reference does not hold."""
        if self._recording.baseline is None:
            return []
        reference = self._recording.baseline.reference
        keyed = zip(self._owner, self._keys, strict=True)
        missing = {self._texts[place] for place, key in keyed if key not in reference}
        return sorted(place for text in missing for place in self._alike[text])

    def run(self) -> Iterator[int]:
        """Answer the others; yields each one's place when it is done.

        Raises:
            FlipsError: something cannot be recorded.
        """
        with self._recording:
            for place in [place for place, own in self._own.items() if not own]:
                yield from self._finished(place)  # an empty text
            yield from self._resume()
            todo = [index for index in range(len(self._windows)) if index not in self._parts]
            requests = [self._windows[index] for index in todo]
            keys = [self._keys[index] for index in todo] if self._keys else []
            for rows in self._scorer.rows(requests):
                scores = list(
                    score_rows(
                        rows,
                        requests,
                        self._scorer.model.head,
                        baseline=self._recording.baseline,
                        keys=keys,
                    )
                )
                self._recording.add_windows(rows, scores, keys)
                for score in scores:
                    yield from self._enter(todo[score.request], score)

    def _resume(self) -> Iterator[int]:
        for index, key in enumerate(self._keys):
            if (answer := self._recording.answered_window(key)) is not None:
                yield from self._enter(index, answer)

    def _enter(self, index: int, part: RequestScore | Answer) -> Iterator[int]:
        """Note a window's score; if it is its request's last, the request is answered."""
        self._parts[index] = part
        place = self._owner[index]
        if all(other in self._parts for other in self._own[place]):
            yield from self._finished(place)

    def _finished(self, place: int) -> Iterator[int]:
        own = self._own[place]
        parts = [self._parts[other] for other in own]
        scores = [part for part in parts if isinstance(part, RequestScore)]
        answer = Answer(
            loglikelihood=sum((part.loglikelihood for part in parts), 0.0),
            is_greedy=all(part.is_greedy for part in parts),
            token_kl=_mean_kl(scores),
        )
        keys = [self._keys[other] for other in own] if self._keys else []
        self._recording.add_request(self._texts[place], answer, scores, keys)
        for other in own:
            self._parts[other] = Answer(nan, False)  # its tensors are no longer needed
        for alike in self._alike[self._texts[place]]:
            self.found[alike] = answer
            yield alike


def _mean_kl(scores: Sequence[RequestScore]) -> float:
    measured = [score.distances.kl for score in scores if score.distances is not None]
    return float(torch.cat(measured).double().mean()) if measured else nan
