"""What flips-hf writes and reads beside the logs: a baseline's reference, a run's distances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.harness.recording_options import ModelIdentity, Options
from lm_eval_flips.logs.runs import DISTANCES, REFERENCE
from lm_eval_flips.scoring.baseline import Baseline
from lm_eval_flips.scoring.reference import (
    Recorded,
    Reference,
    ReferenceHeader,
    ReferenceWriter,
    States,
    lm_head_file,
)
from lm_eval_flips.scoring.requests import Answer
from lm_eval_flips.scoring.scored_rows import ScoredModel, ScoredRows
from lm_eval_flips.scoring.scores import RequestScore
from lm_eval_flips.scoring.token_distances import DistancesHeader, DistanceWriter
from lm_eval_flips.scoring.top_tokens import TopTokens, top_tokens


class Recording:
    """The open stores of one model.

    Args:
        options: what is asked for.
        model: the model, which has been probed.
        hidden: a hidden state of it, ``[1, width]``.
        identity: which model it is.
        rank: which of several processes this is; each has a folder of its own.
        writes: False in all but one of the processes over which a model is split: they have the
            same answers.

    Raises:
        FlipsError: a store holds something else or cannot be read or written; the baseline's
            tokenizer or vocabulary is another.
        UnreadableHeadError: lm_head cannot be stored.
    """

    def __init__(
        self,
        options: Options,
        *,
        model: ScoredModel,
        hidden: Tensor,
        identity: ModelIdentity,
        rank: int = 0,
        writes: bool = True,
    ) -> None:
        self._model, self._top, self.writes = model, options.top, writes
        self._first_only = options.positions == "last"
        self.baseline: Baseline | None = None
        self._distances: DistanceWriter | None = None
        self._writer: ReferenceWriter | None = None
        self.notes: list[str] = []
        self.splits_otherwise = False
        if options.record is not None:
            folder = part_of(options.record / REFERENCE, rank)
            self._writer = self._open_writer(options, folder, hidden, identity)
        if options.reference is not None:
            self.baseline = self._open_baseline(options.reference / REFERENCE, identity)
        if options.distances is not None and self.baseline is not None:
            header = _distances_header(self.baseline, identity)
            folder = part_of(options.distances / DISTANCES, rank)
            self._distances = DistanceWriter(folder, header, writes=writes)

    @property
    def keyed(self) -> bool:
        """Whether requests need their keys: something is recorded or measured."""
        return self._writer is not None or self.baseline is not None

    def answered(self, text: bytes) -> Answer | None:
        """A request's answer from an interrupted run, by the key of its text."""
        return None if self._distances is None else self._distances.answers.get(text)

    def answered_window(self, key: bytes) -> Answer | None:
        """A window's answer from an interrupted recording, by the key of its tokens."""
        if self._writer is None or self.baseline is not None:
            return None  # distances are not recorded there
        return self._writer.answers.get(key)

    def add_windows(
        self, rows: ScoredRows, scores: Sequence[RequestScore], keys: Sequence[bytes]
    ) -> None:
        """Record the states of some windows, if the baseline is being recorded."""
        if self._writer is None:
            return
        own = [score.rows[:1] if self._first_only else score.rows for score in scores]
        hidden = rows.hidden
        if self._top is None and rows.recorded is not None:
            hidden = rows.recorded
        if self._first_only:
            used = np.unique(np.concatenate(own))
            hidden = hidden[torch.from_numpy(used).to(hidden.device)]
            own = [np.searchsorted(used, kept) for kept in own]
        self._writer.add(
            Recorded(
                keys=[keys[score.request] for score in scores],
                answers=[Answer(score.loglikelihood, score.is_greedy) for score in scores],
                rows=own,
                logprobs=[
                    score.logprobs[: len(kept)] for score, kept in zip(scores, own, strict=True)
                ],
                states=self._states(hidden),
            )
        )

    def add_request(
        self,
        text: bytes,
        answer: Answer,
        windows: Sequence[RequestScore],
        keys: Sequence[bytes],
    ) -> None:
        """Record a request's answer and distances, if they are wanted."""
        if self._distances is None or self.baseline is None:
            return
        reference = self.baseline.reference
        self._distances.add(
            text,
            answer,
            [score.distances for score in windows if score.distances is not None],
            baseline_loglikelihood=sum((reference.loglikelihood(key) for key in keys), 0.0),
        )
        self._distances.flush_if_due()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # also when it was interrupted: what was finished is kept
        if kind is None or not issubclass(kind, FlipsError):
            for store in (self._writer, self._distances):
                if store is not None:
                    store.flush()

    def _states(self, hidden: Tensor) -> States:
        if self._top is None:
            return hidden
        with torch.no_grad():
            parts = [
                top_tokens(self._model.head.logits(part), self._top)
                for part in torch.split(hidden, 256)
            ]
        return TopTokens(
            ids=torch.cat([part.ids for part in parts]),
            logprobs=torch.cat([part.logprobs for part in parts]),
        )

    def _open_writer(
        self, options: Options, folder: Path, hidden: Tensor, identity: ModelIdentity
    ) -> ReferenceWriter:
        head = self._model.head
        scale, cap, widened = head.scale, head.cap, False
        file = content = None
        if options.top is None:
            stored = self._model.stored_head(hidden)
            scale, cap, widened = stored.scale, stored.cap, stored.widened
            file, content = lm_head_file(stored.weight, stored.bias)
        header = ReferenceHeader(
            model=identity.name,
            revision=identity.revision,
            dtype=identity.dtype,
            tokenizer=identity.tokenizer,
            vocabulary=head.tokens,
            width=hidden.shape[-1],
            max_length=identity.max_length,
            positions="last" if self._first_only else "all",
            top=options.top,
            scale=scale,
            cap=cap,
            lm_head=file,
            files=identity.files,
            widened=widened,
            entries=identity.vocabulary,
        )
        return ReferenceWriter(folder, header, lm_head=content, writes=self.writes)

    def _open_baseline(self, folder: Path, identity: ModelIdentity) -> Baseline:
        reference = Reference(folder, device=self._model.logits_device)
        header = reference.header
        same_entries = identity.vocabulary and header.entries == identity.vocabulary
        if header.tokenizer != identity.tokenizer and not same_entries:
            raise FlipsError(
                f"'{identity.name}' has another tokenizer than the baseline '{header.model}': "
                "their tokens cannot be compared; leave out reference, and compare choices"
            )
        tokens = self._model.head.tokens
        if tokens != header.vocabulary and min(tokens, header.vocabulary) < identity.entries:
            raise FlipsError(
                f"'{identity.name}' has {tokens} vocabulary entries, the baseline "
                f"'{header.model}' {header.vocabulary}: they are not the same vocabulary"
            )
        baseline = Baseline(reference, tokens=tokens)
        if header.tokenizer != identity.tokenizer:
            self.splits_otherwise = True
            self.notes.append(
                f"'{identity.name}' splits some texts into other tokens than the baseline "
                f"'{header.model}', with the same vocabulary: each request is held against it"
            )
        if tokens != header.vocabulary:
            self.notes.append(
                f"vocabularies padded to {header.vocabulary} and {tokens} entries: the first "
                f"{baseline.shared} are compared"
            )
        return baseline


def part_of(folder: Path, rank: int) -> Path:
    """The folder of one of several processes."""
    return folder / f"rank-{rank}" if rank else folder


def _distances_header(baseline: Baseline, identity: ModelIdentity) -> DistancesHeader:
    header = baseline.reference.header
    return DistancesHeader(
        model=identity.name,
        revision=identity.revision,
        dtype=identity.dtype,
        baseline=header.model,
        baseline_dtype=header.dtype,
        tokens=baseline.shared,
        max_length=identity.max_length,
        positions=header.positions,
        top=header.top,
        files=identity.files,
    )
