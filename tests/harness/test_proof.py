"""What FlipsTask refuses before the model runs, apart from the harness."""

from __future__ import annotations

import pytest

from lm_eval_flips.errors import HarnessError
from lm_eval_flips.harness.proof import refuse_config

TASK = {"task": "trees", "dataset_path": "json", "output_type": "multiple_choice"}


def listed(metric: str) -> dict[str, object]:
    """A task's YAML that asks for one metric."""
    return {**TASK, "metric_list": [{"metric": "acc"}, {"metric": metric}]}


@pytest.mark.parametrize(
    "mark", ["correct_to_incorrect", "incorrect_to_correct", "answers_changed"]
)
def test_a_count_s_name_for_a_share_is_refused_with_the_share_s(mark: str) -> None:
    """They stood for shares in an older version; the harness would look for them on the net."""
    message = f"task 'trees' asks for the metric {mark}, which is a count; .* ask for {mark}_share$"
    with pytest.raises(HarnessError, match=message):
        refuse_config(listed(mark))


def test_the_share_itself_is_not_refused() -> None:
    """Control: nor is a task without a list."""
    refuse_config(listed("correct_to_incorrect_share"))
    refuse_config(TASK)
