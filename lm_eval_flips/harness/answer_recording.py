"""What flips-hf keeps of greedy answers: a baseline's tokens, a compressed model's distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lm_eval_flips.harness.recording import Recording, part_of
from lm_eval_flips.harness.recording_options import ModelIdentity, Options
from lm_eval_flips.logs.records import content_digest
from lm_eval_flips.logs.runs import ANSWER_DISTANCES, ANSWERS
from lm_eval_flips.scoring.answer_distances import (
    AnswerDistance,
    AnswerDistancesHeader,
    AnswerDistanceWriter,
)
from lm_eval_flips.scoring.answers import (
    AnswersHeader,
    AnswerWriter,
    End,
    GreedyAnswer,
    GreedyAnswers,
)
from lm_eval_flips.scoring.partings import ReadAnswer, best_two, read_answers
from lm_eval_flips.scoring.requests import Ints, TokenRequest, key_of
from lm_eval_flips.scoring.token_distances import NOTHING
from lm_eval_flips.scoring.transformers.drafted import DraftedDecoding, Propose
from lm_eval_flips.scoring.transformers.scorer import Scorer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Written:
    """An answer as it was written: see ``GreedyAnswer``."""

    key: bytes
    prompt: Ints
    ids: Ints
    end: End
    limit: int
    text: str


class AnswerRecording:
    """The open stores of one model that writes.

    ``baseline`` are the answers to measure distances on; None where there are none.

    Args:
        options: what is asked for.
        recording: the model's other stores, of which the reference keeps the answers' states.
        scorer: runs the model.
        identity: which model it is.
        rank: which of several processes this is; each has a folder of its own.

    Raises:
        FlipsError: the baseline's answers cannot be read.
    """

    def __init__(
        self,
        options: Options,
        *,
        recording: Recording,
        scorer: Scorer,
        identity: ModelIdentity,
        rank: int = 0,
    ) -> None:
        self._recording, self._scorer, self._identity = recording, scorer, identity
        kept = options.positions == "all"  # of an answer, its first position tells little
        self._record = part_of(options.record / ANSWERS, rank) if options.record and kept else None
        self._distances = options.distances and part_of(options.distances / ANSWER_DISTANCES, rank)
        self._writer: AnswerWriter | None = None
        self._distance_writer: AnswerDistanceWriter | None = None
        self.baseline: GreedyAnswers | None = None
        if options.reference is not None and (options.reference / ANSWERS).is_dir():
            found = GreedyAnswers(options.reference / ANSWERS)
            self.baseline = found if len(found) else None

    @property
    def records(self) -> bool:
        """Whether this model is recorded as a baseline."""
        return self._record is not None

    def drafted(self, propose: Propose) -> DraftedDecoding | None:
        """How the model writes from a draft; None for one that is not known to read many alike."""
        return self._scorer.drafted(propose)

    def record(self, written: Sequence[Written]) -> None:
        """Record answers, with what the model chooses and holds when it reads them again.

        Raises:
            FlipsError: they cannot be written.
        """
        if self._record is None:
            return
        writer = self._writer = self._writer or self._open_answers(self._record)
        new = list({own.key: own for own in written if own.key not in writer}.values())
        requests = [self._request(own.prompt, own.ids) for own in new]
        keys = list(map(key_of, requests))
        try:
            with self._recording:
                for rows, read in read_answers(self._scorer, requests):
                    scores = [own.score for own in read]
                    # an interrupted recording may hold the states of answers that it lacks
                    held = self._recording.answered_window
                    if left := [one for one in scores if held(keys[one.request]) is None]:
                        self._recording.add_windows(rows, left, keys)
                    for own in read:
                        of = new[own.score.request]
                        gaps = best_two(rows.hidden[own.score.rows], self._scorer.model.head)
                        writer.add(
                            GreedyAnswer(
                                key=of.key,
                                prompt=of.prompt,
                                ids=of.ids,
                                end=of.end,
                                limit=of.limit,
                                text=of.text,
                                hits=own.score.hits,
                                gaps=gaps,
                            )
                        )
        finally:
            writer.flush()

    def holds(self, answer: GreedyAnswer) -> bool:
        """Whether the reference holds what the baseline said along an answer."""
        baseline = self._recording.baseline
        request = self._request(answer.prompt, answer.ids)
        return baseline is not None and key_of(request) in baseline.reference

    def read(self, answers: Sequence[GreedyAnswer]) -> dict[bytes, ReadAnswer]:
        """The baseline's answers as this model reads them, by their requests' keys.

        Raises:
            FlipsError: the reference cannot be read.
        """
        requests = [self._request(own.prompt, own.ids) for own in answers]
        found: dict[bytes, ReadAnswer] = {}
        for _, read in read_answers(
            self._scorer,
            requests,
            baseline=self._recording.baseline,
            keys=list(map(key_of, requests)),
        ):
            found.update((answers[own.score.request].key, own) for own in read)
        return found

    def add(self, answer: GreedyAnswer, read: ReadAnswer, text: str) -> None:
        """Record how far this model is from the baseline along an answer.

        Args:
            answer: the baseline's.
            read: the same as this model reads it.
            text: what this model wrote itself.

        Raises:
            FlipsError: the folder holds another pair's distances, or cannot be written.
        """
        if self._distance_writer is None:
            self._distance_writer = self._open_distances()
        if self._distance_writer is None:
            return
        self._distance_writer.add(
            AnswerDistance(
                key=answer.key,
                baseline_response=response_digest(answer.text),
                response=response_digest(text),
                parting=read.parting,
                gap=read.gap,
                distances=read.score.distances or NOTHING,
            )
        )

    def flush(self) -> None:
        """Write what waits. Raises what ``add`` raises."""
        if self._distance_writer is not None:
            self._distance_writer.flush()

    def _request(self, prompt: Ints, ids: Ints) -> TokenRequest:
        return TokenRequest.of(prompt.tolist(), ids.tolist(), max_length=self._identity.max_length)

    def _open_answers(self, folder: Path) -> AnswerWriter:
        identity = self._identity
        return AnswerWriter(
            folder,
            AnswersHeader(
                model=identity.name,
                revision=identity.revision,
                dtype=identity.dtype,
                tokenizer=identity.tokenizer,
                max_length=identity.max_length,
                files=identity.files,
            ),
            writes=self._recording.writes,
        )

    def _open_distances(self) -> AnswerDistanceWriter | None:
        baseline, answers = self._recording.baseline, self.baseline
        if self._distances is None or baseline is None or answers is None:
            return None
        identity, header, noise = self._identity, baseline.reference.header, answers.noise
        return AnswerDistanceWriter(
            self._distances,
            AnswerDistancesHeader(
                model=identity.name,
                revision=identity.revision,
                dtype=identity.dtype,
                baseline=header.model,
                baseline_dtype=header.dtype,
                tokens=baseline.shared,
                max_length=identity.max_length,
                top=header.top,
                noise=noise.gap,
                near_ties=noise.near_ties,
                files=identity.files,
            ),
            writes=self._recording.writes,
        )


def response_digest(text: str) -> bytes:
    """The hash of what a model wrote, as the log's lines give it of a sample of one answer."""
    return content_digest([[text]])
