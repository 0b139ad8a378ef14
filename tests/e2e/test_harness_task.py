"""FlipsTask in the harness: the stock command, the Python API, two ranks, and the traps.

The oracle of every number is `compare` on the plain runs of the same two models, which shares no
run with FlipsTask: one was logged with nothing of ours installed in the task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isnan, sqrt
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import Comparison, FlipsError, Row, compare
from tests.conftest import LocalRuns
from tests.e2e.conftest import GROUPS, FlipsRun, as_metadata, lm_eval_command, run, run_two_ranks

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def oracle(local_runs: LocalRuns) -> Comparison:
    """What compare says of the plain runs of the two models."""
    return compare(local_runs.baseline, local_runs.compressed)


def primary_rows(oracle: Comparison) -> Iterator[Row]:
    """The rows of the metric that decides each task: the first binary one under each filter."""
    seen = set()
    for row in oracle.compressed[0].tasks:
        if row.flips is not None and (row.name, row.filter) not in seen:
            seen.add((row.name, row.filter))
            yield row


def reported(results: dict[str, Any], row: Row, metric: str) -> float:
    """A metric of the row's task and filter, in the harness's results."""
    value: float = results["results"][row.name][f"{metric},{row.filter}"]
    return value


def test_the_harness_reports_the_flips_that_compare_counts(
    flips_run: FlipsRun, oracle: Comparison
) -> None:
    """Flips and their directions in the results JSON equal compare's, by task and filter."""
    rows = list(primary_rows(oracle))
    assert len(rows) == 8
    for row in rows:
        assert row.flips is not None
        for metric, count in (
            ("correct_to_incorrect_share", row.flips.correct_to_incorrect),
            ("incorrect_to_correct_share", row.flips.incorrect_to_correct),
            ("answers_changed_share", row.flips.answers_changed),
        ):
            assert count is not None
            assert reported(flips_run.results, row, metric) == pytest.approx(
                count / row.n, abs=1e-12
            )
        assert reported(flips_run.results, row, "flips") == pytest.approx(
            row.flips.flips, abs=1e-12
        )
    assert sum(row.flips.flips for row in rows if row.flips) > 0


def test_choice_tasks_report_all_flips_kl_and_correlation(
    flips_run: FlipsRun, oracle: Comparison
) -> None:
    """all_flips, choice_kl and the correlation of the post-aggregation hook equal compare's."""
    correlated = 0
    for row in primary_rows(oracle):
        if row.distances is None or row.flips is None or row.correlation is None:
            assert f"choice_kl,{row.filter}" not in flips_run.results["results"][row.name]
            continue
        found = [
            reported(flips_run.results, row, name)
            for name in ("all_flips", "choice_kl", "flips_kl_correlation")
        ]
        expected = [
            row.flips.all_flips,
            row.distances.choice_kl.mean,
            row.correlation.flipped.statistic,
        ]
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
        correlated += not isnan(found[2])
    assert correlated


def test_the_harness_gives_the_means_a_standard_error_and_the_correlation_none(
    flips_run: FlipsRun, oracle: Comparison
) -> None:
    """Trap 16: means carry the harness's own standard error, other aggregations N/A."""
    for row in primary_rows(oracle):
        assert row.flips is not None
        share = row.flips.flips
        error = reported(flips_run.results, row, "flips_stderr")
        assert error == pytest.approx(sqrt(share * (1 - share) / (row.n - 1)), abs=1e-12)
        if row.distances is not None:
            assert reported(flips_run.results, row, "flips_kl_correlation_stderr") == "N/A"  # type: ignore[comparison-overlap]


def test_group_rows_weigh_their_tasks_by_size(flips_run: FlipsRun, oracle: Comparison) -> None:
    """The outer group's flips and choice_kl are compare's pooled over its leaves."""
    rows = {row.name: row for row in primary_rows(oracle)}
    leaves = [rows[name] for name in ("tiny_choice", "tiny_inputs", "tiny_mutual")]
    n = sum(row.n for row in leaves)
    group = flips_run.results["groups"]["flips_tiny_outer"]
    flips = sum(row.flips.flips * row.n for row in leaves if row.flips) / n
    kl = sum(row.distances.choice_kl.mean * row.n for row in leaves if row.distances) / n
    assert group["flips,none"] == pytest.approx(flips, abs=1e-12)
    assert group["choice_kl,none"] == pytest.approx(kl, abs=1e-12)
    (same,) = [
        r for r in oracle.compressed[0].groups if r.name == "tiny_outer" and r.metric == "acc"
    ]
    assert same.flips is not None
    assert same.flips.flips == pytest.approx(flips, abs=1e-12)


def test_rolling_text_reports_its_perplexity_ratio(flips_run: FlipsRun, oracle: Comparison) -> None:
    """perplexity_ratio and bits_per_byte_change follow from the harness's own scores."""
    mine = flips_run.results["results"]["tiny_rolling"]
    rows = {row.metric: row for row in oracle.compressed[0].tasks if row.name == "tiny_rolling"}
    words, bits = rows["word_perplexity"], rows["bits_per_byte"]
    assert mine["perplexity_ratio,none"] == pytest.approx(
        words.compressed_score / words.baseline_score, rel=1e-9
    )
    assert mine["bits_per_byte_change,none"] == pytest.approx(bits.score_change, abs=1e-12)


def test_the_plain_metrics_and_samples_are_untouched(
    flips_run: FlipsRun, local_runs: LocalRuns
) -> None:
    """A FlipsTask run is the plain run of the same model, sample by sample."""
    with pytest.raises(FlipsError, match="agrees with the baseline in every log-likelihood"):
        compare(local_runs.compressed, flips_run.folder)
    same = compare(local_runs.compressed, flips_run.folder, allow_identical=True)
    assert not same.compressed[0].dropped
    for row in same.compressed[0].tasks:
        if row.name != "tiny_repeats":  # sampled, so it differs from run to run by design
            assert row.score_change == 0


def test_the_printed_table_shows_the_flips(flips_run: FlipsRun) -> None:
    """The harness's own table lists the new metrics beside the task's."""
    table = flips_run.printed[flips_run.printed.index("|Version|") :]
    for metric in (
        "flips",
        "correct_to_incorrect_share",
        "all_flips",
        "choice_kl",
        "flips_kl_correlation",
    ):
        assert f"|{metric}" in table.replace(" ", "")
    assert "flips_tiny_outer" in table


def test_the_stock_command_ends_without_a_traceback_on_a_missing_baseline(
    flips_folder: Path, perturbed_model: Path, tmp_path: Path
) -> None:
    """A wrong baseline path is one line, exit code 1, and nothing of the model was run."""
    command = lm_eval_command(perturbed_model, flips_folder, "flips_tiny_outer", tmp_path / "run")
    done = run([*command, *as_metadata(baseline=str(tmp_path / "nothing"))], tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert "nothing' does not exist" in done.stdout
    assert "Running loglikelihood requests" not in done.stdout


def evaluate(
    model: Path, tasks: Path, names: list[str], metadata: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """The harness's Python API, without its ten-second default index."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    results: dict[str, Any] = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": "float32", "softmax_dtype": "float32"},
        tasks=names,
        device="cpu",
        batch_size=8,
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=tasks, include_defaults=False, metadata=metadata),
        **more,
    )
    return results


def test_without_a_baseline_it_is_the_plain_task_and_says_so_once(
    flips_folder: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No baseline: the task's own metrics, one line for all three leaves."""
    from lm_eval_flips.harness import task

    task._say_once.cache_clear()
    results = evaluate(tiny_model, flips_folder, ["flips_tiny_outer"], {})
    assert "acc,none" in results["results"]["tiny_choice"]
    assert not [key for key in results["results"]["tiny_choice"] if "flips" in key]
    assert caplog.text.count("no --metadata baseline=RUN") == 1


def test_a_baseline_of_other_samples_is_refused_before_the_model_runs(
    flips_folder: Path, tiny_model: Path, local_runs: LocalRuns, caplog: pytest.LogCaptureFixture
) -> None:
    """A --limit that the baseline did not have is named, and no request reaches the model."""
    with pytest.raises(FlipsError, match=r"5 only in the baseline .*--limit and --samples"):
        evaluate(
            tiny_model,
            flips_folder,
            ["flips_tiny_cloze"],
            {"baseline": str(local_runs.baseline)},
            limit=7,
        )
    assert "Running loglikelihood requests" not in caplog.text


def test_another_prompt_is_refused_before_the_model_runs(
    flips_folder: Path, tiny_model: Path, local_runs: LocalRuns
) -> None:
    """A changed prompt is told by its hash, although the documents are the same."""
    with pytest.raises(FlipsError, match=r"prompt differs .*--num_fewshot"):
        evaluate(
            tiny_model,
            flips_folder,
            ["flips_tiny_cloze"],
            {"baseline": str(local_runs.baseline)},
            num_fewshot=1,
        )


def test_an_unsorted_samples_list_is_refused(
    flips_folder: Path, tiny_model: Path, local_runs: LocalRuns
) -> None:
    """Trap 7: the harness mislabels the documents of an unsorted list; the hashes tell."""
    with pytest.raises(FlipsError, match=r"only in the baseline|document differs"):
        evaluate(
            tiny_model,
            flips_folder,
            ["flips_tiny_cloze"],
            {"baseline": str(local_runs.baseline)},
            samples={"tiny_cloze": [5, 2, 7]},
        )


def test_a_sorted_samples_list_pairs_with_a_baseline_of_the_same(
    flips_folder: Path, tiny_model: Path, perturbed_model: Path, tmp_path: Path
) -> None:
    """doc_ids under --samples are the list's own, as the harness logs them."""
    samples = {"tiny_cloze": [2, 5, 7]}
    command = lm_eval_command(
        tiny_model, flips_folder, "tiny_cloze", tmp_path / "base", "--samples", json.dumps(samples)
    )
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stdout
    results = evaluate(
        perturbed_model,
        flips_folder,
        ["flips_tiny_cloze"],
        {"baseline": str(tmp_path / "base")},
        samples=samples,
    )
    logged = results["samples"]["tiny_cloze"]
    assert [sample["doc_id"] for sample in logged] == [2, 5, 7]
    assert {"flips", "answers_changed_share"} <= set(logged[0]["metrics"])


def test_a_metric_named_in_a_yaml_is_the_only_one_given(
    flips_folder: Path, perturbed_model: Path, local_runs: LocalRuns, oracle: Comparison
) -> None:
    """Trap 4 and 17: the names are registered, so a task author may list them; others stay away."""
    (flips_folder / "flips_named.yaml").write_text(
        "group: flips_named\n"
        "task:\n"
        "  - task: tiny_inputs\n"
        "    class: !function lm_eval_flips.harness.task.FlipsTask\n"
        "    metric_list:\n"
        "      - {metric: acc, aggregation: mean, higher_is_better: true}\n"
        "      - {metric: flips}\n"
        "      - {metric: flips_kl_correlation}\n"
    )
    results = evaluate(
        perturbed_model, flips_folder, ["flips_named"], {"baseline": str(local_runs.baseline)}
    )
    (row,) = [row for row in primary_rows(oracle) if row.name == "tiny_inputs"]
    found = results["results"]["tiny_inputs"]
    assert row.flips is not None
    assert row.correlation is not None
    assert found["flips,none"] == pytest.approx(row.flips.flips)
    assert found["flips_kl_correlation,none"] == pytest.approx(row.correlation.flipped.statistic)
    assert "choice_kl,none" not in found


def test_flips_metric_chooses_what_is_correct(
    flips_folder: Path, perturbed_model: Path, local_runs: LocalRuns, oracle: Comparison
) -> None:
    """--metadata flips_metric=acc_norm counts the flips of acc_norm."""
    results = evaluate(
        perturbed_model,
        flips_folder,
        ["flips_tiny_outer"],
        {"baseline": str(local_runs.baseline), "flips_metric": "acc_norm"},
    )
    rows = {(row.name, row.metric): row for row in oracle.compressed[0].tasks}
    row = rows["tiny_choice", "acc_norm"]
    assert row.flips is not None
    assert row.distances is not None
    found = results["results"]["tiny_choice"]
    assert found["flips,none"] == pytest.approx(row.flips.flips)
    assert found["all_flips,none"] == pytest.approx(row.flips.all_flips)
    assert found["choice_kl,none"] == pytest.approx(row.distances.choice_kl.mean)
    assert "flips,none" not in results["results"]["tiny_inputs"]  # it has no acc_norm


def test_a_shared_response_cache_is_told(
    flips_folder: Path, tiny_model: Path, local_runs: LocalRuns, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap 6: answers that are the baseline's own to the last digit are warned of."""
    evaluate(tiny_model, flips_folder, ["flips_tiny_outer"], {"baseline": str(local_runs.baseline)})
    assert "every log-likelihood is the baseline's" in caplog.text


def test_two_ranks_report_what_one_does(
    flips_folder: Path,
    perturbed_model: Path,
    local_runs: LocalRuns,
    flips_run: FlipsRun,
    tmp_path: Path,
) -> None:
    """Traps 8 and 9: values arrive rank by rank and requests are padded; nothing changes."""
    names = "flips_tiny_outer,flips_tiny_cloze,flips_tiny_rolling"
    arguments = [perturbed_model, flips_folder, names, local_runs.baseline, tmp_path / "out.json"]
    run_two_ranks("tests.e2e.two_ranks", *arguments, folder=tmp_path)
    both = json.loads((tmp_path / "out.json").read_text())
    order = [sample["doc_id"] for sample in both["samples"]["tiny_choice"]]
    assert order != sorted(order), "the ranks' lists are expected one after the other"
    for task in ("tiny_choice", "tiny_inputs", "tiny_mutual", "tiny_cloze", "tiny_rolling"):
        for key, value in flips_run.results["results"][task].items():
            if isinstance(value, float) and "stderr" not in key:
                found = both["results"][task][key]
                # other batches round a log-likelihood otherwise, which can swap two equal ranks
                off = 0.01 if key.startswith("flips_kl_correlation") else 1e-6
                assert found == pytest.approx(value, rel=1e-5, abs=off, nan_ok=True), (task, key)


def test_the_harness_s_loggers_find_the_flips_of_every_sample(flips_run: FlipsRun) -> None:
    """The configuration lists as metrics what each logged sample holds as a number."""
    place = next(flips_run.folder.rglob("results_*.json")).parent
    for task, names in (
        ("tiny_choice", {"flips", "all_flips", "choice_kl", "answers_changed_share"}),
        ("tiny_generate", {"flips", "answers_changed_share"}),
        ("tiny_rolling", set()),
    ):
        listed = {own["metric"] for own in flips_run.results["configs"][task]["metric_list"]}
        assert names <= listed
        assert ("flips" in listed) == ("flips" in names)
        assert not {"flips_kl_correlation", "perplexity_ratio"} & listed
        (samples,) = place.glob(f"samples_{task}_*.jsonl")
        for line in samples.read_text().splitlines():
            assert listed <= set(json.loads(line))


def test_the_three_groups_of_generated_text_report_no_choice_measures(flips_run: FlipsRun) -> None:
    """Where there is no closed set of choices, all_flips and choice_kl are absent, not 0."""
    for name in ("tiny_generate", "tiny_repeats", "tiny_cloze"):
        keys = flips_run.results["results"][name]
        assert not [key for key in keys if key.startswith(("all_flips", "choice_kl"))]
    assert GROUPS
