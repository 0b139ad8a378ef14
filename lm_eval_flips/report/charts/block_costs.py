"""What each block costs, in the order of the model."""

from __future__ import annotations

import altair as alt

from lm_eval_flips.compression.block_costs import BlockCosts
from lm_eval_flips.report.charts.marks import base
from lm_eval_flips.report.charts.named_chart import NamedChart, finished
from lm_eval_flips.report.charts.theme import LOSS

AXIS = "KL alone, nats"


def block_costs_chart(costs: BlockCosts) -> NamedChart:
    """KL(baseline ‖ baseline with one block compressed) (y) of every block (x)."""
    rows = [
        {
            "block": own.block,
            "kl": own.alone.kl,
            "changed": own.alone.changed,
            "without": own.without.kl,
        }
        for own in costs.blocks
    ]
    chart = (
        base(rows, height=260)
        .mark_bar(color=LOSS)
        .encode(
            x=alt.X("block:O", title="block", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("kl:Q", title=AXIS),
            tooltip=[
                alt.Tooltip("block:O", title="block"),
                alt.Tooltip("kl:Q", title=AXIS, format=".4g"),
                alt.Tooltip("changed:Q", title="likeliest token changed", format=".2%"),
                alt.Tooltip("without:Q", title="KL without it, nats", format=".4g"),
            ],
        )
    )
    worst = costs.worst[0]
    return finished(
        chart,
        slug="block-costs",
        title="What each block costs",
        caption=(
            f"The baseline with one block compressed, over {costs.positions:,} positions. Block "
            f"{worst.block} costs most: {worst.alone.kl:.4g} nats."
        ),
    )
