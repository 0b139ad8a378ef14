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
SCORED, PREFERRED = "judge_score", "judge_preference"  # metrics of what has no score of its own
VALUE = {"baseline": -1.0, "neither": 0.0, "compressed": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedValues:
    """A row a sample of the pairs, nan where it was not judged; means where it was repeatedly.

    ``baseline`` and ``compressed`` are scores 1 to 10, of a conversation the mean of its turns if
    all of them were judged; ``first_turn`` and ``later_turns`` are both sides' scores of these
    turns, ``[samples, 2]``, nan of what is no conversation. ``preference`` is above 0 where the
    compressed run's answer was held for the better one in both orders, below 0 where the
    baseline's was, 0 where the orders disagree or neither is better; of a conversation it is the
    mean of its turns. ``variances`` are those of each answer's repeated scores. ``judge`` is the
    name of who said so, ``verdicts`` what it said of the baseline's and of the compressed run's
    answers: the judgements by doc_id and digest.
    """

    baseline: Tensor
    compressed: Tensor
    preference: Tensor
    variances: Tensor
    first_turn: Tensor
    later_turns: Tensor
    judge: str
    verdicts: tuple[Mapping[Answers, Sequence[Judgement]], Mapping[Answers, Sequence[Judgement]]]

    @property
    def scored(self) -> bool:
        """Whether both sides of some sample have a score."""
        return not bool((self.baseline.isnan() | self.compressed.isnan()).all())


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
    unjudged = torch.stack([side.whole for side in sides]).isnan().any(0) & preference.isnan()
    found = _findings(pairs, ours, theirs, used, (before, after), unjudged.tolist())
    if all(value.isnan().all() for value in (*(side.whole for side in sides), preference)):
        return None, found
    device = pairs.clusters.device
    values = JudgedValues(
        baseline=sides[0].whole.to(device),
        compressed=sides[1].whole.to(device),
        preference=preference.to(device),
        variances=torch.cat([side.variances for side in sides]),
        first_turn=torch.stack([side.first for side in sides], -1).to(device),
        later_turns=torch.stack([side.later for side in sides], -1).to(device),
        judge=used[0].settings.judge,
        verdicts=(_by_answers(base), _by_answers(score)),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scores:
    """One side's: each sample's mean, the parts of a conversation, and variances of repetitions."""

    whole: Tensor
    first: Tensor
    later: Tensor
    variances: Tensor


def _turns(pairs: Pairs) -> list[int]:
    """How many answers each sample has, all of which are judged or none is."""
    turns = pairs.baseline.signs.get("turns")
    return [1] * len(pairs.doc_ids) if turns is None else turns.int().tolist()


def _scores(pairs: Pairs, digests: Sequence[str], judged: Judgements | None) -> _Scores:
    """Each sample's mean score over its turns; nan where one of them has none."""
    known = _by_answers(judged)
    rows: list[tuple[float, float, float]] = []
    variances: list[float] = []
    for doc, digest, count in zip(pairs.doc_ids.tolist(), digests, _turns(pairs), strict=True):
        by_turn: defaultdict[int, list[float]] = defaultdict(list)
        for judgement in known.get((pairs.task, doc, digest), ()):
            if judgement.score is not None:
                by_turn[judgement.turn].append(judgement.score)
        variances += [variance(scores) for scores in by_turn.values() if len(scores) > 1]
        means = {turn: fmean(scores) for turn, scores in by_turn.items()}
        if len(means) < count:
            rows.append((torch.nan, torch.nan, torch.nan))
            continue
        later = [mean for turn, mean in means.items() if turn > 1]
        rows.append(
            (
                fmean(means.values()),
                means.get(1, torch.nan),
                fmean(later) if later else torch.nan,
            )
        )
    columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
    return _Scores(
        whole=columns[:, 0],
        first=columns[:, 1],
        later=columns[:, 2],
        variances=torch.tensor(variances, dtype=torch.float64),
    )


def _preferences(
    pairs: Pairs, before: Sequence[str], after: Sequence[str], judged: Judgements | None
) -> Tensor:
    """The mean over repeats, and turns, of what both orders agree on."""
    known, values = _by_answers(judged), []
    rows = zip(pairs.doc_ids.tolist(), before, after, _turns(pairs), strict=True)
    for doc, ours, theirs, count in rows:
        orders: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
        for judgement in known.get((pairs.task, doc, f"{ours} {theirs}"), ()):
            if judgement.better is not None:
                orders[judgement.turn, judgement.repeat].append(VALUE[judgement.better])
        agreed: defaultdict[int, list[float]] = defaultdict(list)
        for (turn, _), own in orders.items():
            if len(own) > 1:
                agreed[turn].append(own[0] if own[0] == own[1] else 0.0)
        whole = len(agreed) >= count
        values.append(fmean(map(fmean, agreed.values())) if whole else torch.nan)
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
