"""One pass over answers that were written before: where a model would have written another token.

Greedy decoding writes, token by token, what the model holds likeliest behind the prompt and what
it has written so far. As long as that is the answer that is read, the pass chooses the same tokens:
the first position where it chooses another is the one where the two answers part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from lm_eval_flips.scoring.baseline import Baseline
from lm_eval_flips.scoring.lm_head import LMHead
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.scored_rows import RowScorer, ScoredRows
from lm_eval_flips.scoring.scores import RequestScore, score_rows
from lm_eval_flips.shapes import Bool, Float

STEP = 256  # hidden states whose logits are made at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadAnswer:
    """An answer as a model reads it.

    ``parting`` is the first position at which the model chooses another token than the answer's,
    None where it never does; ``gap`` how far its two best tokens lie apart there (nats), nan
    where it never does.
    """

    score: RequestScore
    parting: int | None
    gap: float

    @property
    def mean_kl(self) -> float:
        """Mean over the answer of KL(baseline || compressed), in nats; nan without a baseline."""
        distances = self.score.distances
        return nan if distances is None else float(distances.kl.double().mean())


def read_answers(
    scorer: RowScorer,
    answers: Sequence[TokenRequest],
    *,
    baseline: Baseline | None = None,
    keys: Sequence[bytes] = (),
) -> Iterator[tuple[ScoredRows, list[ReadAnswer]]]:
    """Read answers behind their prompts, some at a time, in an order of their own.

    Args:
        scorer: runs the model.
        answers: prompts and answers.
        baseline: what to measure distances from.
        keys: the answers' keys in the baseline's reference.
    """
    for rows in scorer.rows(answers):
        head = scorer.model.head
        scores = list(score_rows(rows, answers, head, baseline=baseline, keys=keys))
        yield rows, list(_read(rows, scores, head))


def _read(rows: ScoredRows, scores: Sequence[RequestScore], head: LMHead) -> Iterator[ReadAnswer]:
    partings = [first_miss(score.hits) for score in scores]
    places = [
        int(score.rows[parting])
        for score, parting in zip(scores, partings, strict=True)
        if parting is not None
    ]
    gaps = iter(best_two(rows.hidden[places], head).tolist())
    for score, parting in zip(scores, partings, strict=True):
        yield ReadAnswer(score=score, parting=parting, gap=nan if parting is None else next(gaps))


def first_miss(hits: Bool[Tensor, " positions"]) -> int | None:
    """The first position at which the choice is another; None where there is none.

    Example:
        >>> first_miss(torch.tensor([True, True, False, True])), first_miss(torch.tensor([True]))
        (2, None)
    """
    missed = (~hits).nonzero()
    return int(missed[0]) if len(missed) else None


def best_two(hidden: Float[Tensor, "positions width"], head: LMHead) -> Float[Tensor, " positions"]:
    """How far the two best tokens lie apart at each position (nats), on the CPU."""
    gaps = [torch.empty(0)]
    for part in torch.split(hidden, STEP):
        if len(part):
            with torch.no_grad():
                best = head.logits(part).float().topk(2, -1).values
            gaps.append((best[:, 0] - best[:, 1]).cpu())
    return torch.cat(gaps)
