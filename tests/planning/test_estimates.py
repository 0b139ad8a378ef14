"""Estimates that rows of synthetic logs do not have: token KL as a mean over requests."""

from __future__ import annotations

from dataclasses import replace
from math import inf, isnan

import numpy as np
import pytest
import torch

from lm_eval_flips import compare_planned
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.measures.sampling.design import Design
from lm_eval_flips.measures.tokens import summarise_tokens
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.tokens import TokenValues
from lm_eval_flips.planning.drawn import Drawn
from lm_eval_flips.planning.estimates import negative_flip_rate, shares, token_kl
from lm_eval_flips.planning.pairs import PlannedSamples
from lm_eval_flips.planning.rows import PlannedRows
from tests.generators.worlds import Planned


@pytest.fixture(scope="module")
def samples(drawn: Planned) -> PlannedSamples:
    """The plan, held to its baseline."""
    return PlannedSamples(drawn.plan, drawn.file, load_run(drawn.baseline))


@pytest.fixture(scope="module")
def metrics(drawn: Planned) -> list[PairedMetric]:
    """The first metric of the two tasks of choices, drawn samples only."""
    (run,) = compare_planned(drawn.file, drawn.baseline, drawn.compressed).compressed
    return [metric for metric in run.metrics if metric.metric == "acc"]


def measured(metric: PairedMetric, seed: int, *, first_only: bool = False) -> PairedMetric:
    """The metric with distances at one to four positions of each sample's two to four requests."""
    generator = torch.Generator().manual_seed(seed)
    requests = torch.randint(2, 5, (len(metric.rows),), generator=generator)
    counts = torch.randint(1, 5, (int(requests.sum()),), generator=generator)
    values = torch.rand(int(counts.sum()), generator=generator, dtype=torch.float64)
    tokens = TokenValues(
        samples=torch.repeat_interleave(torch.arange(len(requests)), requests),
        counts=counts,
        values={"kl": values},
        top=None,
        first_only=first_only,
    )
    return replace(metric, tokens=tokens)


def by_hand(metric: PairedMetric, weights: list[float], *, first: bool) -> tuple[float, float]:
    """Weighted sum over requests of their means (or first values), and weighted number of them."""
    tokens = metric.tokens
    assert tokens is not None
    parts = tokens.values["kl"].split(tokens.counts.tolist())  # type: ignore[no-untyped-call]
    own = [float(part[0] if first else part.mean()) for part in parts]
    held = [weights[sample] for sample in tokens.samples.tolist()]
    return float(np.dot(own, held)), sum(held)


@pytest.mark.parametrize("first", [False, True])
def test_token_kl_is_a_weighted_mean_over_requests(
    samples: PlannedSamples, metrics: list[PairedMetric], first: bool
) -> None:
    """A ratio of weighted sums, over both tasks; and the plain mean is another (control)."""
    own = [measured(metric, seed, first_only=first) for seed, metric in enumerate(metrics)]
    row = PlannedRows(samples=samples).row(own, name="both")
    name = "token_kl_first_position" if first else "token_kl"
    found = row.estimates[name]
    sums = [
        by_hand(
            metric, samples.plan.tasks[metric.pairs.task].design().weights.tolist(), first=first
        )
        for metric in own
    ]
    expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
    assert found.value == pytest.approx(expected)
    assert found.interval.low < expected < found.interval.high
    assert ("token_kl_first_position" in row.estimates) is first
    assert row.numbers["token_kl"].value == found.value
    plain = [by_hand(metric, [1.0] * len(metric.rows), first=first) for metric in own]
    unweighted = sum(total for total, _ in plain) / sum(count for _, count in plain)
    assert abs(unweighted - expected) > 1e-4


def test_with_equal_weights_it_is_what_a_full_run_says(metrics: list[PairedMetric]) -> None:
    """Every document drawn: the mean over requests of the whole run, without a width."""
    metric = measured(metrics[0], 3)
    tokens = metric.tokens
    assert tokens is not None
    n = len(metric.rows)
    design = Design(
        sizes=torch.tensor([n]), drawn=torch.tensor([n]), stratum=torch.zeros(n, dtype=torch.int64)
    )
    drawn = Drawn(metrics=[metric], design=design, expected={})
    full = summarise_tokens(tokens.values["kl"], tokens.counts)
    found = token_kl(drawn, first_only=False)
    assert found.value == pytest.approx(full.per_request_mean)
    assert found.interval == pytest.approx((found.value, found.value))


def test_no_correct_answer_has_no_rate_of_losses(
    samples: PlannedSamples, metrics: list[PairedMetric]
) -> None:
    """Undefined, not 0."""
    lost = shares(Drawn.of(samples, metrics))["correct_to_incorrect_share"]
    none = negative_flip_rate(lost, correct=0.0, documents=100)
    assert isnan(none.value)
    assert isnan(none.interval.high)
    some = negative_flip_rate(lost, correct=0.5, documents=100)
    assert some.value == pytest.approx(2 * lost.value)
    assert some.general.low <= some.interval.low <= some.value < some.general.high < inf
