"""What is said of answers that only a judge can grade, and that none did."""

from __future__ import annotations

from collections.abc import Iterator

from lm_eval_flips.errors import named
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.judged import JudgedValues
from lm_eval_flips.pairs.logged_metrics import shared_metrics
from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.unused import UNUSED

WAY_OUT = "Let a judge grade both runs: lm-eval-flips judge"


def not_judged(pairs: Pairs, judged: JudgedValues | None) -> Iterator[Finding]:
    """The samples of a conversation that count nowhere; of other tasks, which have scores, none.

    A conversation of which a turn has no verdict is one of them.
    """
    said = any(own.code == UNUSED for own in pairs.findings)
    if pairs.kind != "text" or said or shared_metrics(pairs):
        return
    if judged is None:
        yield _finding(pairs, UNUSED, "its answers have no score but a judge's, and none was asked")
        return
    values = (judged.baseline + judged.compressed) if judged.scored else judged.preference
    none = values.isnan().nonzero()[:, 0].cpu().numpy()
    if len(none):
        docs = named(pairs.doc_ids[none].tolist())
        yield _finding(
            pairs,
            "not-judged",
            f"{len(none)} of {len(values)} samples are left out, as the judge gave no verdict on "
            f"every turn of both (doc {docs})",
        )


def _finding(pairs: Pairs, code: str, text: str) -> Finding:
    return Finding(
        code=code,
        task=pairs.task,
        filter=pairs.filter,
        text=text,
        way_out=WAY_OUT,
        impossible=False,
        keeps_from_passing=False,
    )
