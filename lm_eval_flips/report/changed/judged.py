"""What a judge said of a sample's two answers: its scores, and its reasons in its own words."""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval_flips.pairs.metric import PairedMetric

MOST = 2000  # characters of reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAnswers:
    """The judge's name, its mean score of both answers, 1 to 10, and why, turn by turn."""

    judge: str
    scores: tuple[float, float]
    reasons: tuple[str, str]


def judged_answers(metric: PairedMetric, row: int) -> JudgedAnswers | None:
    """Those of one row of a metric; None where either answer has no score."""
    pairs, judged = metric.pairs, metric.pairs.judged
    if judged is None:
        return None
    place = int(metric.rows[row])
    scores = (float(judged.baseline[place]), float(judged.compressed[place]))
    if any(score != score for score in scores):  # nan
        return None
    digests = [
        side.response[place].cpu().numpy().tobytes().hex()
        for side in (pairs.baseline, pairs.compressed)
    ]
    doc = int(pairs.doc_ids[place])
    reasons = [
        "\n\n".join(
            f"Turn {own.turn}: {own.reasons}" if own.turn else own.reasons
            for own in sorted(known.get((pairs.task, doc, digest), ()), key=lambda own: own.turn)
            if own.score is not None
        )
        for known, digest in zip(judged.verdicts, digests, strict=True)
    ]
    return JudgedAnswers(
        judge=judged.judge, scores=scores, reasons=(reasons[0][:MOST], reasons[1][:MOST])
    )
