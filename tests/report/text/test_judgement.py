"""Verdicts on several scores: by Holm over all of them, so that chance is not called better."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from lm_eval_flips import Comparison, compare
from lm_eval_flips.measures.equivalence import Verdict
from lm_eval_flips.report.text.judgement import judged, judged_rows, verdict_of
from tests.report.text.test_terminal import runs

MOVED = {"luck": (2, 11), "far": (30, 2), "even": (5, 4), "small": (3, 4)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """One whose score is higher at 5 % alone, one that is worse, and two of which nobody knows."""
    return compare(*runs(tmp_path_factory.mktemp("four"), MOVED), metric="acc")


def test_a_score_that_is_higher_by_chance_is_not_called_better(found: Comparison) -> None:
    """Scipy's exact test, statsmodels' Holm; control: alone it is called better."""
    p_values = [binomtest(won, lost + won).pvalue for lost, won in MOVED.values()]
    adjusted = multipletests(p_values, method="holm")[1]
    assert p_values[0] < 0.05 < adjusted[0]
    rows = [run.pooled for run in found.compressed]
    luck, far, *others = judged_rows(rows)
    assert judged(rows[0]).code == "better"
    assert luck.code == "open"
    assert luck.words.endswith(f"(p {p_values[0]:.4f}, by Holm over 4 models {adjusted[0]:.4f})")
    assert adjusted[1] < 0.05
    assert far.code == "worse"
    assert [own.code for own in others] == ["open", "open"]
    assert not any("Holm" in own.words for own in (far, *others))


@pytest.mark.parametrize(
    ("equivalence", "different", "code"),
    [
        (None, False, "open"),
        (None, True, "worse"),
        ("equivalent", False, "same"),
        ("both", True, "worse"),
        ("both", False, "same"),
        ("different", True, "worse"),
        ("different", False, "open"),
        ("undecided", False, "open"),
    ],
)
def test_a_margin_goes_with_what_is_told_apart(
    equivalence: Verdict | None, different: bool, code: str
) -> None:
    """What Holm takes back is no difference, and what lies within the margin still does."""
    verdict = verdict_of(rose=False, different=different, equivalence=equivalence, margin=0.1)
    assert verdict.code == code
