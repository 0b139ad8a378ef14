"""What a judge said of the pairs' answers, sample by sample.

That a judgement is of these answers is proven: it holds a digest of all that was written to the
sample, which must be that of the samples file. One of other answers counts nowhere, and is said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lm_eval_flips.pairs.findings import Finding

if TYPE_CHECKING:
    from lm_eval_flips.logs.judgements import Judgement, Judgements
    from lm_eval_flips.pairs.pairing import Pairs
    from lm_eval_flips.pairs.sides import Side

Answers = tuple[str, int, str]  # task, doc_id, digests
VALUE = {"baseline": -1.0, "neither": 0.0, "compressed": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedValues:
    """A row a sample of the pairs, nan where it was not judged; means where it was repeatedly.

    ``baseline`` and ``compressed`` are scores 1 to 10, ``preference`` is above 0 where the
    compressed run's answer was held for the better one in both orders, below 0 where the
    baseline's was, 0 where the orders disagree or neither is better. ``variances`` are those of
    each answer's repeated scores.
    """

    baseline: Tensor
    compressed: Tensor
    preference: Tensor
    variances: Tensor


def judged_values(
    pairs: Pairs, ours: Sequence[Judgements], theirs: Sequence[Judgements]
) -> tuple[JudgedValues | None, tuple[Finding, ...]]:
    """What the judge of most of a run's judgements said of the pairs, and what was left out.

    Args:
        pairs: generated samples.
        ours: the baseline's judgements.
        theirs: the compressed run's.

    Returns:
        None where nothing was judged of these answers.
    """
    if pairs.kind != "text":
        return None, ()
    before, after = (_digests(side) for side in (pairs.baseline, pairs.compressed))
    scored = [own for own in theirs if own.settings in {other.settings for other in ours}]
    score = _most(scored, "score")
    preferred = _most(theirs, "pair")
    settings = None if score is None else score.settings
    base = next((own for own in ours if own.settings == settings), None)
    sides = [_scores(pairs, before, base), _scores(pairs, after, score)]
    preference = _preferences(pairs, before, after, preferred)
    used = [own for own in (score, preferred) if own is not None]
    unjudged = torch.stack([side[0] for side in sides]).isnan().any(0) & preference.isnan()
    found = _findings(pairs, ours, theirs, used, (before, after), unjudged.tolist())
    if all(value.isnan().all() for value in (*(side[0] for side in sides), preference)):
        return None, found
    device = pairs.clusters.device
    values = JudgedValues(
        baseline=sides[0][0].to(device),
        compressed=sides[1][0].to(device),
        preference=preference.to(device),
        variances=torch.cat([side[1] for side in sides]),
    )
    return values, found


def _digests(side: Side) -> list[str]:
    return [row.tobytes().hex() for row in side.response.cpu().numpy()]


def _most(judged: Sequence[Judgements], kind: str) -> Judgements | None:
    """Those of this kind of which there are most."""
    own = [found for found in judged if found.settings.kind == kind]
    return max(own, key=lambda found: len(found.by_key), default=None)


def _by_answers(judged: Judgements | None) -> Mapping[Answers, list[Judgement]]:
    found: defaultdict[Answers, list[Judgement]] = defaultdict(list)
    for judgement in () if judged is None else judged.by_key.values():
        found[judgement.key[:3]].append(judgement)
    return found


def _scores(
    pairs: Pairs, digests: Sequence[str], judged: Judgements | None
) -> tuple[Tensor, Tensor]:
    """Each sample's mean score, and the variances of those that have several."""
    known, means, variances = _by_answers(judged), [], []
    for doc, digest in zip(pairs.doc_ids.tolist(), digests, strict=True):
        own = known.get((pairs.task, doc, digest), [])
        scores = [judgement.score for judgement in own if judgement.score is not None]
        means.append(fmean(scores) if scores else torch.nan)
        if len(scores) > 1:
            variances.append(variance(scores))
    return torch.tensor(means, dtype=torch.float64), torch.tensor(variances, dtype=torch.float64)


def _preferences(
    pairs: Pairs, before: Sequence[str], after: Sequence[str], judged: Judgements | None
) -> Tensor:
    """The mean over repeats of what both orders agree on."""
    known, values = _by_answers(judged), []
    for doc, ours, theirs in zip(pairs.doc_ids.tolist(), before, after, strict=True):
        orders: defaultdict[int, list[float]] = defaultdict(list)
        for judgement in known.get((pairs.task, doc, f"{ours} {theirs}"), ()):
            if judgement.better is not None:
                orders[judgement.repeat].append(VALUE[judgement.better])
        agreed = [own[0] if own[0] == own[1] else 0.0 for own in orders.values() if len(own) > 1]
        values.append(fmean(agreed) if agreed else torch.nan)
    return torch.tensor(values, dtype=torch.float64)


def _of_others(own: Judgement, before: str, now: str) -> bool:
    """Whether a judgement is of other answers than the runs hold now."""
    return own.answers[-1] != now or (own.settings.kind == "pair" and own.answers[0] != before)


def _findings(
    pairs: Pairs,
    ours: Sequence[Judgements],
    theirs: Sequence[Judgements],
    used: Sequence[Judgements],
    digests: tuple[Sequence[str], Sequence[str]],
    unjudged: Sequence[bool],
) -> tuple[Finding, ...]:
    """Judgements of other answers, or by another judge, which count nowhere."""
    docs = pairs.doc_ids.tolist()
    none = {doc for doc, missing in zip(docs, unjudged, strict=True) if missing}
    before, after = (dict(zip(docs, own, strict=True)) for own in digests)
    stale = {
        own.doc_id
        for judged, now in ((ours, before), (theirs, after))
        for found in judged
        for own in found.by_key.values()
        if own.task == pairs.task
        and own.doc_id in none
        # of a pair the compressed run keeps the judgement
        and (own.settings.kind != "pair" or judged is theirs)
        and _of_others(own, before[own.doc_id], now[own.doc_id])
    }
    others = sorted({own.settings.judge for own in theirs if own not in used})
    told = []
    if stale:
        told.append(
            ("judged-other-answers", f"{len(stale)} answers were judged that the runs have no more")
        )
    if others:
        names = ", ".join(f"'{name}'" for name in others)
        told.append(
            ("other-judges", f"judgements of {names} are left out: other prompts or judges")
        )
    return tuple(
        Finding(
            code=code,
            task=pairs.task,
            filter=pairs.filter,
            text=text,
            way_out="Judge both runs alike: lm-eval-flips judge",
            impossible=False,
            keeps_from_passing=False,
        )
        for code, text in told
    )
