"""Registers the flip metrics and aggregations with lm_eval.

lm_eval 0.4.14 finds them by entry point; before that they are registered when FlipsTask is
imported. The values are made by FlipsTask, sample by sample; the metrics registered here only carry
the names, their aggregation and their direction. The aggregations run once per task, after the
values of all ranks were gathered: the harness's one hook after aggregation. They rebuild the
samples as tensors, on the GPU where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum, nan
from typing import Any

# Registering before the built-ins are there would keep lm_eval from ever loading them.
import lm_eval.api.metrics
import lm_eval.models
import torch
from lm_eval.api.registry import (
    aggregation_registry,
    metric_registry,
    register_aggregation,
    register_metric,
)
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lm_eval_flips.harness.measured_answer import MeanOfRequests
from lm_eval_flips.measures.correlation import spearman
from lm_eval_flips.measures.divergence import choice_divergence
from lm_eval_flips.measures.perplexity import PerplexityChange, perplexity_change

mean = lm_eval.api.metrics.mean


def gathered_device() -> torch.device:
    """Where gathered samples go: the GPU if there is one that computes in float64."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def correlate_flips_with_kl(items: Sequence[tuple[int, int, list[float], list[float]]]) -> float:
    """Spearman's correlation between flips and choice_kl over the samples of a task.

    Args:
        items: ``(doc_id, flipped, baseline, compressed)`` of each sample, rank after rank; the
            last two are the log-likelihoods of its choices as the metric compares them.

    Returns:
        nan if nothing, or everything, flipped.
    """
    items = sorted(items, key=lambda item: item[0])
    divergence = choice_divergence(
        baseline=_padded([item[2] for item in items]),
        compressed=_padded([item[3] for item in items]),
    )
    flipped = torch.tensor([float(item[1]) for item in items], device=divergence.kl.device)
    return spearman(divergence.kl, flipped.double()).statistic


def ratio_of_perplexities(items: Sequence[tuple[int, float, float, float]]) -> float:
    """Compressed perplexity over the baseline's, from ``(doc_id, baseline, compressed, units)``."""
    return _perplexity_change(items).ratio


def change_of_bits_per_byte(items: Sequence[tuple[int, float, float, float]]) -> float:
    """Change of bits per byte, from ``(doc_id, baseline, compressed, bytes)``."""
    return _perplexity_change(items).bits_change


def mean_over_requests(items: Sequence[MeanOfRequests]) -> float:
    """Mean over all requests of a task, from each sample's own mean and number of requests.

    Example:
        >>> mean_over_requests([MeanOfRequests(0.25, 4), MeanOfRequests(1.0, 2)])
        0.5
    """
    return fsum(mean * mean.requests for mean in items) / sum(mean.requests for mean in items)


def _padded(rows: list[list[float]]) -> Tensor:
    tensors = [torch.tensor(row, dtype=torch.float64) for row in rows]
    padded = pad_sequence(tensors, batch_first=True, padding_value=-torch.inf)
    return padded.to(gathered_device())


def _perplexity_change(items: Sequence[tuple[int, float, float, float]]) -> PerplexityChange:
    rows = torch.tensor(
        [item[1:] for item in sorted(items, key=lambda item: item[0])],
        dtype=torch.float64,
        device=gathered_device(),
    )
    return perplexity_change(baseline=rows[:, 0], compressed=rows[:, 1], units=rows[:, 2])


AGGREGATIONS: dict[str, Callable[[Any], float]] = {
    "flips": mean,
    "correct_to_incorrect": mean,
    "incorrect_to_correct": mean,
    "all_flips": mean,
    "answers_changed": mean,
    "choice_kl": mean,
    "token_kl": mean_over_requests,
    "flips_kl_correlation": correlate_flips_with_kl,
    "perplexity_ratio": ratio_of_perplexities,
    "bits_per_byte_change": change_of_bits_per_byte,
}


def _register(name: str) -> Callable[..., float]:
    def carried(*_: object, **__: object) -> float:
        return nan  # only FlipsTask knows the baseline; it puts its own value in this place

    carried.__name__ = name
    if name in metric_registry:
        return metric_registry.get(name)  # type: ignore[no-any-return]
    aggregation = AGGREGATIONS[name]
    if aggregation is not mean and name not in aggregation_registry:
        register_aggregation(name)(aggregation)
    label = "mean" if aggregation is mean else name
    direction = {} if name == "flips_kl_correlation" else {"higher_is_better": False}
    register_metric(metric=name, aggregation=label, **direction)(carried)
    return carried


flips = _register("flips")
correct_to_incorrect = _register("correct_to_incorrect")
incorrect_to_correct = _register("incorrect_to_correct")
all_flips = _register("all_flips")
answers_changed = _register("answers_changed")
choice_kl = _register("choice_kl")
token_kl = _register("token_kl")
flips_kl_correlation = _register("flips_kl_correlation")
perplexity_ratio = _register("perplexity_ratio")
bits_per_byte_change = _register("bits_per_byte_change")
