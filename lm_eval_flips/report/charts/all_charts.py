"""Every chart of a comparison that has data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lm_eval_flips.comparison.model_sizes import model_sizes
from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.report.charts.flips import flips_chart
from lm_eval_flips.report.charts.kl_flips import kl_flips_chart
from lm_eval_flips.report.charts.kl_histogram import kl_histogram_chart
from lm_eval_flips.report.charts.kl_quantiles import kl_quantiles_chart
from lm_eval_flips.report.charts.losses_gains import losses_gains_chart
from lm_eval_flips.report.charts.margin_histogram import margin_histogram_chart
from lm_eval_flips.report.charts.margin_rate import margin_rate_chart
from lm_eval_flips.report.charts.named_chart import NamedChart
from lm_eval_flips.report.charts.overlap import overlap_chart
from lm_eval_flips.report.charts.pareto import pareto_chart
from lm_eval_flips.report.charts.probability import probability_chart
from lm_eval_flips.report.charts.small_multiples import small_multiples_chart
from lm_eval_flips.report.charts.text_losses import text_losses_chart
from lm_eval_flips.report.charts.volume import volume_chart


def charts_of(
    comparison: Comparison, *, sizes: Mapping[str, int] | None = None
) -> Mapping[str, NamedChart]:
    """Every chart that the comparison has data for, by its slug, in the order to be read.

    Args:
        comparison: what ``compare`` returned.
        sizes: bytes of models that are not found on this machine, by name; see ``model_sizes``.

    Raises:
        FlipsError: a size is of no model of the comparison.

    Example:
        >>> list(charts_of(comparison))  # doctest: +SKIP
        ['flips-score-change', 'losses-gains', 'volume-direction', ...]
    """
    return {named.slug: named for named in _charts(comparison, sizes) if named is not None}


def _charts(comparison: Comparison, sizes: Mapping[str, int] | None) -> Iterator[NamedChart | None]:
    yield flips_chart(comparison)
    yield losses_gains_chart(comparison)
    yield small_multiples_chart(comparison)
    yield volume_chart(comparison)
    yield kl_flips_chart(comparison, distance="choice_kl")
    yield kl_flips_chart(comparison, distance="token_kl")
    yield text_losses_chart(comparison)
    yield margin_rate_chart(comparison)
    yield probability_chart(comparison)
    yield margin_histogram_chart(comparison)
    yield kl_histogram_chart(comparison, distance="choice_kl")
    yield kl_quantiles_chart(comparison, distance="choice_kl")
    yield kl_histogram_chart(comparison, distance="token_kl")
    yield kl_quantiles_chart(comparison, distance="token_kl")
    yield overlap_chart(comparison)
    known = model_sizes(comparison, given=sizes)
    near = [pareto_chart(comparison, quality=own, sizes=known) for own in ("flips", "choice_kl")]
    yield from near
    if not any(near):  # else a model would stand on the front whose score chance has raised
        yield pareto_chart(comparison, quality="score_change", sizes=known)
