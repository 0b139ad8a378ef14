"""Charts of a comparison, as Vega-Altair objects: one small module for each family.

``plot_*`` give one chart, for a notebook; ``charts_of`` all that have data, with captions. Without
the extra [report] importing this is a FlipsError.
"""

from __future__ import annotations

from importlib.util import find_spec

from lm_eval_flips.errors import FlipsError

NEEDED = "charts need altair and vl-convert: pip install 'lm-eval-flips[report]'"

if find_spec("altair") is None:
    raise FlipsError(NEEDED)

from lm_eval_flips.report.charts.all_charts import charts_of  # noqa: E402
from lm_eval_flips.report.charts.flips import plot_flips  # noqa: E402
from lm_eval_flips.report.charts.kl_flips import plot_kl_flips  # noqa: E402
from lm_eval_flips.report.charts.kl_histogram import plot_kl_histogram  # noqa: E402
from lm_eval_flips.report.charts.kl_quantiles import plot_kl_quantiles  # noqa: E402
from lm_eval_flips.report.charts.losses_gains import plot_losses_gains  # noqa: E402
from lm_eval_flips.report.charts.margin_histogram import plot_margin_histogram  # noqa: E402
from lm_eval_flips.report.charts.margin_rate import plot_margin_rate  # noqa: E402
from lm_eval_flips.report.charts.named_chart import NamedChart  # noqa: E402
from lm_eval_flips.report.charts.overlap import plot_overlap  # noqa: E402
from lm_eval_flips.report.charts.pareto import plot_pareto  # noqa: E402
from lm_eval_flips.report.charts.probability import plot_probability_change  # noqa: E402
from lm_eval_flips.report.charts.small_multiples import plot_small_multiples  # noqa: E402
from lm_eval_flips.report.charts.text_losses import plot_text_losses  # noqa: E402
from lm_eval_flips.report.charts.theme import vega_config  # noqa: E402
from lm_eval_flips.report.charts.volume import plot_volume_direction  # noqa: E402

__all__ = [
    "NamedChart",
    "charts_of",
    "plot_flips",
    "plot_kl_flips",
    "plot_kl_histogram",
    "plot_kl_quantiles",
    "plot_losses_gains",
    "plot_margin_histogram",
    "plot_margin_rate",
    "plot_overlap",
    "plot_pareto",
    "plot_probability_change",
    "plot_small_multiples",
    "plot_text_losses",
    "plot_volume_direction",
    "vega_config",
]
