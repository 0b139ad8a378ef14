"""Distances over the vocabulary in everything that shows a comparison: table, JSON, Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from scipy import stats

from lm_eval_flips import Comparison, FlipsError, compare
from lm_eval_flips.report.files.document import to_json
from lm_eval_flips.report.files.per_sample import to_table
from tests.generators import logs, paired
from tests.generators.distances import write_distances
from tests.report.text.test_table import printed, row_of

N = 12
GOLD = [0.0, -1.0, -2.0]  # log-likelihoods of a question that is answered right


class Runs(NamedTuple):
    """Two runs of one task of ``N`` questions, the later of which get lost."""

    baseline: Path
    compressed: Path


def kl(doc: int, choice: int) -> list[float]:
    """One to three positions, the larger the later the document."""
    return [0.01 * (doc + 1) + 0.001 * choice + 0.1 * place for place in range(choice + 1)]


def write(
    folder: Path,
    *,
    top: int | None = None,
    positions: Literal["all", "last"] = "all",
    said: Sequence[float] = GOLD,
) -> Runs:
    """Write the two runs, and the distances beside the compressed one."""
    before = [logs.choice(i, GOLD) for i in range(N)]
    after = [logs.choice(i, [-1.5 if i > 8 else -0.1 * i, -1.0, -2.0]) for i in range(N)]
    runs = Runs(
        logs.write_run(folder / "base", {"task": before}, model="org/base"),
        logs.write_run(folder / "int4", {"task": after}, model="org/int4"),
    )
    measured = [logs.choice(i, said) for i in range(N)]
    first = positions == "last"
    write_distances(
        runs.compressed,
        baseline=measured,
        compressed=after,
        kl=lambda doc, choice: kl(doc, choice)[:1] if first else kl(doc, choice),
        top=top,
        positions=positions,
    )
    return runs


def compared(folder: Path, **options: Any) -> Comparison:
    """The comparison of the two runs."""
    return compare(*write(folder, **options), metric="acc")


def rows_of(comparison: Comparison) -> dict[str, Any]:
    """The task's row in the JSON document."""
    found: dict[str, Any] = json.loads(to_json(comparison))["compressed"][0]["tasks"][0]
    return found


REQUESTS = [kl(doc, choice) for doc in range(N) for choice in range(3)]
POSITIONS = np.concatenate(REQUESTS)


def test_the_document_holds_what_numpy_finds(tmp_path: Path) -> None:
    """Means over requests and over positions, quantiles, and the first positions apart."""
    row = rows_of(compared(tmp_path))
    expected = {
        "token_requests": 3 * N,
        "token_positions": 6 * N,
        "token_kl": np.mean([np.mean(own) for own in REQUESTS]),
        "token_kl_per_position": POSITIONS.mean(),
        "token_kl_median": np.median(POSITIONS),
        "token_kl_p99": np.quantile(POSITIONS, 0.99),
        "token_kl_max": POSITIONS.max(),
        "token_kl_first_position": np.mean([own[0] for own in REQUESTS]),
    }
    assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-6)
    assert row["token_kl_per_position"] != pytest.approx(row["token_kl"], rel=1e-3)
    assert row["token_kl_reverse_per_position"] == pytest.approx(2 * POSITIONS.mean(), rel=1e-6)
    assert row["token_total_variation_max"] == pytest.approx(POSITIONS.max() / 8, rel=1e-6)
    assert row["same_top_per_position"] == 1.0
    assert row["logprob_change_per_position"] == pytest.approx(-POSITIONS.mean(), rel=1e-6)
    assert row["token_lower_bound_top"] is None


def test_the_interval_is_that_of_distances_over_documents(tmp_path: Path) -> None:
    """All documents have three requests: the interval is that of the documents' means."""
    row = rows_of(compared(tmp_path))
    documents = np.array(
        [np.mean([np.mean(kl(doc, choice)) for choice in range(3)]) for doc in range(N)]
    )
    expected = paired.distance_ends(documents, float(stats.sem(documents)), N - 1)
    assert row["intervals"]["token_kl"] == pytest.approx(expected, rel=1e-5)


def test_a_sample_s_token_kl_is_the_mean_of_its_requests(tmp_path: Path) -> None:
    """In the Parquet file, and beside the answers that changed."""
    comparison = compared(tmp_path)
    column = to_table(comparison)["acc.token_kl"].to_pylist()
    expected = [np.mean([np.mean(kl(doc, choice)) for choice in range(3)]) for doc in range(N)]
    assert column == pytest.approx(expected, rel=1e-6)
    found = rows_of(comparison)
    flipped = [float(doc > 8) for doc in range(N)]
    rho = stats.spearmanr(expected, flipped).statistic
    assert found["token_kl_with_flipped"] == pytest.approx(rho)
    assert found["token_kl_detects_flips"] == 1.0


def test_the_table_has_a_column_and_a_line(tmp_path: Path) -> None:
    """The paper's mean in the column; positions, quantiles and the top token below."""
    text = printed(compared(tmp_path))
    mean = np.mean([np.mean(own) for own in REQUESTS])
    assert row_of(text, "task  ", "token KL").rstrip().endswith("token KL")
    assert row_of(text, "task  ", "acc ").rstrip().endswith(f"{mean:.4f}")
    line = row_of(text, "over the vocabulary")
    assert f"{6 * N} positions of {3 * N} requests" in line
    assert f"max {POSITIONS.max():.4f}" in line
    assert "same top token 100.00 %" in line
    assert "token KL and flips, sample by sample" in text


def test_lower_bounds_are_called_so(tmp_path: Path) -> None:
    """In the column's name, in the line below and in the JSON."""
    comparison = compared(tmp_path, top=5)
    text = printed(comparison)
    assert "token KL ≥" in text
    assert "lower bounds from the 5 likeliest tokens" in text
    assert rows_of(comparison)["token_lower_bound_top"] == 5


def test_first_positions_alone_say_nothing_of_the_others(tmp_path: Path) -> None:
    """With positions=last the means over all positions are null, and the column shows the first's."""
    comparison = compared(tmp_path, positions="last")
    row = rows_of(comparison)
    first = np.mean([own[0] for own in REQUESTS])
    assert row["token_kl_first_position"] == pytest.approx(first, rel=1e-6)
    assert row["token_kl"] == row["token_kl_first_position"]
    assert row["token_kl_first_position_only"] is True
    for name in ("per_position", "median", "p99", "max"):
        assert row[f"token_kl_{name}"] is None, name
    text = printed(comparison)
    assert row_of(text, "task  ", "acc ").rstrip().endswith(f"{first:.4f}")
    assert "others were not recorded" in text


def test_another_baseline_leaves_them_out_and_says_so(tmp_path: Path) -> None:
    """Two compressed runs may be compared; what was measured from another model is not shown."""
    comparison = compared(tmp_path, said=[-0.5, -1.0, -2.0])
    (run,) = comparison.compressed
    assert run.pooled.tokens is None
    assert run.tokens_left_out is not None
    text = printed(comparison, width=10_000)
    assert "no token KL: task 'task': the distances in" in text
    assert "measured from another run, of 'org/base', than this baseline (doc 0, 1, 2" in text
    document = json.loads(to_json(comparison))
    assert document["compressed"][0]["tokens_left_out"] == run.tokens_left_out
    assert document["compressed"][0]["tasks"][0]["token_kl"] is None


def test_distances_of_another_compressed_run_are_refused(tmp_path: Path) -> None:
    """Samples written anew beside old distances are a contradiction within the run."""
    runs = write(tmp_path)
    other = [logs.choice(i, [-0.3, -1.0, -2.0]) for i in range(N)]
    logs.write_run(tmp_path / "int4", {"task": other}, model="org/int4")
    with pytest.raises(FlipsError, match=r"task 'task': the distances in .* \(doc 0, 1, 2"):
        compare(*runs)


def test_five_runs_are_correlated(tmp_path: Path) -> None:
    """Spearman between token_kl and flips over compressed runs, beside that of choice_kl."""
    before = [logs.choice(i, GOLD) for i in range(N)]
    base = logs.write_run(tmp_path / "base", {"task": before})
    others = []
    for lost in (1, 2, 3, 4, 6):
        after = [logs.choice(i, [-1.5 if i < lost else -0.1, -1.0, -2.0]) for i in range(N)]
        run = logs.write_run(tmp_path / f"lost{lost}", {"task": after}, model=f"org/lost{lost}")
        write_distances(
            run, baseline=before, compressed=after, kl=partial(lambda own, *_: [own], lost / 10)
        )
        others.append(run)
    comparison = compare(base, *others, metric="acc")
    found = comparison.across_runs_token_kl["pooled"]
    assert found.n == 5
    assert found.statistic == pytest.approx(1.0)
    text = printed(comparison)
    assert "token KL over all runs (n = 5), Spearman with flips 1.0000" in text
    document = json.loads(to_json(comparison))
    assert document["correlation"]["across_runs_token_kl"]["pooled"]["n"] == 5
