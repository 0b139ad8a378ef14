"""The columns of the harness's sample tables are those that every sample has."""

from __future__ import annotations

from typing import Any

import pytest
from lm_eval.loggers.wandb_logger import WandbLogger

from lm_eval_flips.harness.measured_answer import MeanOfRequests
from lm_eval_flips.harness.sample_columns import held_by_all, held_by_all_ranks, with_columns

SAMPLES: list[dict[str, Any]] = [
    {
        "doc_id": i,
        "target": 0,
        "arguments": [("Q?", " yes"), ("Q?", " no")],
        "resps": [[(-1.0, False)], [(-2.0, False)]],
        "filtered_resps": [(-1.0, False), (-2.0, False)],
        "acc": 1.0,
        "flips": i % 2,
        "choice_kl": 0.1 * i,
        "token_kl": MeanOfRequests(0.2 * i, 2),
        "flips_kl_correlation": (i, 0, [-1.0], [-1.5]),
    }
    for i in range(4)
]


def table(config: dict[str, object]) -> Any:
    """The table that the harness's own logger makes of the samples."""
    logger = WandbLogger.__new__(WandbLogger)  # without an account
    return logger._generate_dataset(SAMPLES, config)


def config(*names: str) -> dict[str, object]:
    """A task's configuration with these metrics, and what its samples hold."""
    listed = [{"metric": name} for name in names]
    held = held_by_all(SAMPLES)
    return {"output_type": "multiple_choice", "metric_list": with_columns(listed, held)}


def test_the_harness_s_own_logger_shows_the_flip_metrics() -> None:
    """As numbers, a column each; what is no number of one sample is none."""
    found = table(config("acc"))
    assert list(found.columns[-4:]) == ["acc", "flips", "choice_kl", "token_kl"]
    assert found["flips"].tolist() == [0, 1, 0, 1]
    assert found["token_kl"].dtype == float
    assert found["token_kl"].tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_without_them_in_the_configuration_it_does_not() -> None:
    """Control: the logger goes by the configuration, not by the samples."""
    assert "flips" not in table(
        {"output_type": "multiple_choice", "metric_list": [{"metric": "acc"}]}
    )


def test_a_metric_that_one_sample_lacks_is_no_column() -> None:
    """The logger would fail over it; one that a YAML names is taken from the list."""
    lacking = [*SAMPLES, {"acc": 1.0, "flips": 1}]
    held = held_by_all(lacking)
    assert held == {"flips"}
    listed = with_columns([{"metric": "acc"}, {"metric": "all_flips"}, {"metric": "flips"}], held)
    assert [own["metric"] for own in listed] == ["acc", "flips"]
    with pytest.raises(KeyError, match="all_flips"):
        table({"output_type": "multiple_choice", "metric_list": [{"metric": "all_flips"}]})


def test_no_samples_hold_nothing() -> None:
    """As before the model ran, and without a baseline."""
    assert held_by_all([]) == frozenset()


def test_one_process_is_all_ranks() -> None:
    """Nothing to gather."""
    assert held_by_all_ranks(frozenset({"flips"})) == {"flips"}
