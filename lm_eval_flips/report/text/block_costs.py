"""What blocks cost, in a table and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import msgspec

from lm_eval_flips.compression.block_costs import BlockCosts
from lm_eval_flips.report.overview import size_text
from lm_eval_flips.report.text.fitted_table import FittedTable, ShownColumn
from lm_eval_flips.report.text.numbers import nats, percent


def block_table(costs: BlockCosts) -> FittedTable:
    """A row a block, the most expensive first."""
    shown = costs.worst
    cells = {
        "KL alone": [nats(own.alone.kl) for own in shown],
        "changed alone": [percent(own.alone.changed) for own in shown],
        "KL without it": [nats(own.without.kl) for own in shown],
        "changed without it": [percent(own.without.changed) for own in shown],
        "saves": [_saved(own.baseline_bytes - own.compressed_bytes) for own in shown],
    }
    return FittedTable(
        label="block",
        names=[str(own.block) for own in shown],
        columns=[ShownColumn(label=label, cells=texts) for label, texts in cells.items()],
        styles=[None] * len(shown),
    )


def block_lines(costs: BlockCosts) -> Iterator[str]:
    """The whole model, what a mixed scheme would gain, and what the numbers are."""
    yield (
        f"the compressed model: KL {nats(costs.whole.kl)} nats, the likeliest token another one at "
        f"{percent(costs.whole.changed)} of {costs.positions:,} positions; with all blocks as they "
        f"were {nats(costs.outside.kl)} nats are left"
    )
    for mixture in costs.mixtures:
        kept = ", ".join(map(str, sorted(mixture.kept)))
        share = 1 - mixture.distance.kl / costs.whole.kl if costs.whole.kl > 0 else 0.0
        more = "no" if mixture.more_bytes <= 0 else size_text(mixture.more_bytes)
        yield (
            f"with block{'s' * (len(mixture.kept) > 1)} {kept} as before: KL "
            f"{nats(mixture.distance.kl)} nats, {percent(share)} less, {more} more memory"
        )
    yield (
        "alone: the baseline with this block compressed; without it: the compressed model with "
        "this block as it was; changed: positions whose likeliest token is another one than the "
        "baseline's; saves: memory of its weights"
    )


def _saved(saved: int) -> str:
    return f"−{size_text(-saved)}" if saved < 0 else size_text(saved)


def block_json(costs: BlockCosts) -> bytes:
    """All of it as JSON: nats, shares 0..1, bytes."""
    content = msgspec.json.encode({"version": 1, **asdict(costs)})
    return msgspec.json.format(content, indent=2) + b"\n"
