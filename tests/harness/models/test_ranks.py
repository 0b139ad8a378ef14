"""What several processes have, merged to what one would have."""

from __future__ import annotations

import random
from typing import Any

from lm_eval_flips.harness.models.ranks import merged


def dealt(values: list[Any], ranks: int) -> list[list[Any]]:
    """Every rank's own, dealt out in turn as the harness deals documents."""
    return [values[rank::ranks] for rank in range(ranks)]


def test_any_number_of_ranks_gives_what_one_has() -> None:
    """Samples of two filters, and values of two metrics, of more or fewer documents than ranks."""
    draw = random.Random(0)
    for _ in range(50):
        docs, ranks = draw.randint(1, 9), draw.randint(1, 5)
        samples = [{"doc_id": doc, "filter": name} for name in ("b", "a") for doc in range(docs)]
        own = [
            {
                "task": [
                    one for name in ("b", "a") for one in samples
                    if one["filter"] == name and int(str(one["doc_id"])) % ranks == rank
                ]
            }
            for rank in range(ranks)
        ]  # fmt: skip
        assert merged(own) == {"task": samples}
        values = [draw.random() for _ in range(docs)]
        metrics: list[dict[str, dict[Any, Any]]] = [
            {"task": {("acc", "none"): part} if part else {}} for part in dealt(values, ranks)
        ]
        assert merged(metrics) == {"task": {("acc", "none"): values}}


def test_one_after_the_other_is_another_order() -> None:
    """Control: the ranks' lists put together as they come are not what one process has."""
    parts = dealt(list(range(5)), 2)
    assert [*parts[0], *parts[1]] != list(range(5))
    assert merged([{"t": part} for part in parts]) == {"t": list(range(5))}
