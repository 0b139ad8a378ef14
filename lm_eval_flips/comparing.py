"""Pairs -> Comparison: calls the measures in order. The function most people use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from lm_eval_flips.errors import FlipsError, OtherBaselineError, named
from lm_eval_flips.measures.correlation import Spearman, spearman
from lm_eval_flips.paired_metric import PairedMetric, paired_metrics
from lm_eval_flips.pairing import Dropped, Pairs, pair
from lm_eval_flips.ranking import overlap_of, rank_runs
from lm_eval_flips.reading import read_samples
from lm_eval_flips.result import (
    Comparison,
    Row,
    RunComparison,
    RunSummary,
    SettingDifference,
)
from lm_eval_flips.row import measure
from lm_eval_flips.runs import Run, TaskLog, load_run
from lm_eval_flips.samples import Samples
from lm_eval_flips.token_values import token_values

Read = Callable[[TaskLog], dict[str, Samples]]


def compare(
    baseline: str | Path | Run,
    *compressed: str | Path | Run,
    metric: str | None = None,
    filter: str | None = None,  # noqa: A002  (the harness's word)
    tasks: str = "*",
    on_mismatch: Literal["error", "intersect"] = "error",
    on_nan: Literal["error", "exclude"] = "error",
    allow_identical: bool = False,
    noise_floor: str | Path | Run | None = None,
    equivalence_margin: float | None = None,
    device: str | torch.device = "cpu",
    read: Read = read_samples,
) -> Comparison:
    """Compare compressed runs with their baseline, sample by sample.

    Args:
        baseline: the baseline's run: an lm_eval output folder, a file in it, or a ``Run``.
        compressed: one or more compressed runs.
        metric: only this metric; None for all, the first binary one of each task being pooled.
        filter: only this filter; None for all, the first of each task being pooled.
        tasks: glob of the task names to compare.
        on_mismatch: "intersect" leaves out the samples that differ, and records them.
        on_nan: "exclude" leaves out samples with a nan or +inf log-likelihood, and records them.
        allow_identical: accept two runs that agree in every log-likelihood.
        noise_floor: a second run of the baseline, with another batch size, device, kernel or dtype;
            every compressed run is held against what moved there.
        equivalence_margin: how far two scores may differ and still be equivalent, 0..1; None leaves
            that out.
        device: where the tensors are; "cuda" for millions of samples.
        read: reads a task's samples; a ``SampleReader`` does it in processes of its own.

    Raises:
        FlipsError: a run cannot be read, or the runs cannot be compared; see ``load_run`` and
            ``pair``. The device cannot be used, the margin is none, or the noise floor is no second
            run of the baseline.

    Example:
        >>> comparison = compare("runs/baseline", "runs/int4")  # doctest: +SKIP
        >>> comparison.compressed[0].pooled.flips.flips  # doctest: +SKIP
        0.084
    """
    if not compressed:
        raise FlipsError("no compressed run given; name at least one beside the baseline")
    _refuse_device(device)
    _refuse_margin(equivalence_margin)
    base = _loaded(baseline)
    floor = None if noise_floor is None else _loaded(noise_floor)
    if floor is not None:
        _refuse_other_model(base, floor)
    runs = [_loaded(run) for run in compressed]
    every = runs if floor is None else [floor, *runs]
    kept = base.select(tasks)

    def paired(ours: Samples, theirs: Samples) -> Pairs:
        return pair(ours, theirs, on_mismatch=on_mismatch, on_nan=on_nan, device=device)

    found = list(_pairs(base, every, kept, read, paired, filter))
    rows = _Rows(margin=equivalence_margin, floor={})
    second = None
    if floor is not None:
        second = _compare_run(base, floor, *found.pop(0), kept, metric=metric, rows=rows)
        rows = replace(rows, floor={_key(own): own for own in second.metrics})
    results = []
    for run, (pairs, left_out) in zip(runs, found, strict=True):
        _refuse_identical(base, run, pairs, allowed=allow_identical)
        results.append(_compare_run(base, run, pairs, left_out, kept, metric=metric, rows=rows))
    return Comparison(
        baseline=RunSummary(path=str(base.path), model=base.model),
        noise_floor=second,
        settings_that_differ=tuple(d for run in every for d in setting_differences(base, run)),
        compressed=tuple(results),
        across_runs=_across_runs(results, _choice_kl),
        across_runs_token_kl=_across_runs(results, _token_kl),
        ranking=rank_runs([_primaries(run.metrics) for run in results]),
        overlap=overlap_of([_primaries(run.metrics) for run in results]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Measures rows, with a margin and beside a noise floor where these are asked for."""

    margin: float | None
    floor: Mapping[tuple[str, str, str], PairedMetric]

    def row(self, metrics: Sequence[PairedMetric], *, name: str) -> Row:
        floors = [self.floor[_key(m)] for m in metrics if _key(m) in self.floor]
        whole = floors if len(floors) == len(metrics) else ()
        return measure(metrics, name=name, margin=self.margin, floors=whole)


def _key(metric: PairedMetric) -> tuple[str, str, str]:
    return metric.pairs.task, metric.pairs.filter, metric.metric


def _loaded(run: str | Path | Run) -> Run:
    return run if isinstance(run, Run) else load_run(run)


def _pairs(
    base: Run,
    runs: Sequence[Run],
    kept: Sequence[str],
    read: Read,
    paired: Callable[[Samples, Samples], Pairs],
    wanted: str | None,
) -> Iterator[tuple[list[Pairs], str | None]]:
    """Each run's pairs with the baseline, task by task; and why distances were left out, if any."""
    found: list[list[Pairs]] = [[] for _ in runs]
    for name in kept:
        ours: dict[str, Samples] | None = None
        for run, pairs in zip(runs, found, strict=True):
            if name not in run.tasks:
                continue
            ours = ours or read(base.tasks[name])
            theirs = read(run.tasks[name])
            for label in _filters(ours, theirs, name, wanted=wanted):
                pairs.append(paired(ours[label], theirs[label]))
    for run, pairs in zip(runs, found, strict=True):
        yield _with_tokens(run, pairs)


def _refuse_margin(margin: float | None) -> None:
    if margin is not None and not 0 < margin < 1:
        raise FlipsError(
            f"the equivalence margin {margin} is no change of a score; give one between 0 and 1, "
            "such as 0.01"
        )


def _refuse_other_model(base: Run, floor: Run) -> None:
    """A noise floor is a second run of the same model."""
    if base.path.resolve() == floor.path.resolve():
        raise FlipsError(
            f"the noise floor '{floor.path}' is the baseline itself; run the baseline a second "
            "time, with another --batch_size"
        )
    for name in ("model", "revision", "peft", "delta"):
        ours, theirs = (
            run.model if name == "model" else run.model_args.get(name) for run in (base, floor)
        )
        if ours != theirs:
            raise FlipsError(
                f"the noise floor '{floor.path}' is no second run of the baseline: its {name} is "
                f"{theirs}, not {ours}"
            )


def _refuse_device(device: str | torch.device) -> None:
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise FlipsError(
            f"device '{device}' cannot be used: {why:.120}; leave --device out for the CPU"
        ) from None


def setting_differences(baseline: Run, compressed: Run) -> list[SettingDifference]:
    """Settings that change scores without changing prompts, and differ between the two runs."""
    ours, theirs = baseline.settings, compressed.settings
    shared = set(baseline.tasks) & set(compressed.tasks)
    names = [
        name
        for name in {**ours, **theirs}
        if not name.startswith(("version.", "num_fewshot.")) or name.split(".", 1)[1] in shared
    ]
    return [
        SettingDifference(
            setting=name,
            baseline=ours.get(name),
            compressed=theirs.get(name),
            run=str(compressed.path),
        )
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def _filters(
    ours: dict[str, Samples], theirs: dict[str, Samples], task: str, *, wanted: str | None
) -> list[str]:
    if set(ours) != set(theirs):
        raise FlipsError(
            f"task '{task}': the baseline logged the filters {named(list(ours))}, the compressed "
            f"run {named(list(theirs))}; rerun both with the same version of the task"
        )
    # A task that lacks the wanted filter is left out; that none has it is found by the caller.
    return [label for label in ours if wanted in (None, label)]


def _compare_run(
    base: Run,
    run: Run,
    pairs: list[Pairs],
    left_out: str | None,
    kept: Sequence[str],
    *,
    metric: str | None,
    rows: _Rows,
) -> RunComparison:
    shared = [name for name in kept if name in run.tasks]
    if not shared:
        raise FlipsError(
            f"'{run.path}' shares no task with the baseline; it holds "
            f"{named(list(run.tasks), shown=10)}, the baseline {named(list(kept), shown=10)}"
        )
    if not pairs:
        raise FlipsError("no task logged the filter asked for; drop --filter to see them all")
    every = [paired for found in pairs for paired in paired_metrics(found)]
    metrics = [paired for paired in every if metric in (None, paired.metric)]
    if not metrics:
        have = sorted({paired.metric for paired in every})
        raise FlipsError(f"no task logged the metric '{metric}'; there are {named(have, shown=20)}")
    measured = tuple(rows.row([paired], name=paired.pairs.task) for paired in metrics)
    return RunComparison(
        path=str(run.path),
        model=run.model,
        tasks=measured,
        groups=tuple(_groups(base, metrics, rows)),
        pooled=_pooled(metrics, measured, rows),
        dropped=tuple(_dropped(pairs)),
        tokens_left_out=left_out,
        not_compared=tuple(
            sorted((set(kept) - set(run.tasks)) | (set(run.tasks) - set(base.tasks)))
        ),
        metrics=tuple(metrics),
    )


def _refuse_identical(base: Run, run: Run, pairs: list[Pairs], *, allowed: bool) -> None:
    agree = [found.identical for found in pairs if found.identical is not None]
    same_file = base.path.resolve() == run.path.resolve()
    if not allowed and (same_file or (agree and all(agree))):
        raise FlipsError(
            f"'{run.path}' agrees with the baseline in every log-likelihood of every sample, as a "
            "shared --use_cache or a compression that never engaged does; rerun it, or accept with "
            "--allow-identical"
        )


def _dropped(pairs: Iterable[Pairs]) -> list[Dropped]:
    return [found.dropped for found in pairs if found.dropped.count]


def _primaries(metrics: Sequence[PairedMetric]) -> list[PairedMetric]:
    """The one metric of each task that stands for it: the first binary one, else the first."""
    chosen: dict[str, PairedMetric] = {}
    for paired in metrics:
        now = chosen.setdefault(paired.pairs.task, paired)
        if now.baseline_correct is None and paired.baseline_correct is not None:
            chosen[paired.pairs.task] = paired
    binary = [paired for paired in chosen.values() if paired.baseline_correct is not None]
    # A mean of accuracies and log-likelihoods, or of words and bytes, means nothing: the binary
    # ones are pooled where there are any, else those that share the first one's metric.
    first = next(iter(chosen.values())).metric
    return binary or [paired for paired in chosen.values() if paired.metric == first]


def _pooled(metrics: Sequence[PairedMetric], measured: Sequence[Row], rows: _Rows) -> Row:
    chosen = _primaries(metrics)
    if len(chosen) == 1:
        return replace(measured[metrics.index(chosen[0])], name="pooled")
    return rows.row(chosen, name="pooled")


def _groups(base: Run, metrics: Sequence[PairedMetric], rows: _Rows) -> Iterable[Row]:
    by_key: dict[tuple[str, str], dict[str, PairedMetric]] = {}
    for paired in metrics:
        key = (paired.pairs.filter, paired.metric)
        by_key.setdefault(key, {})[paired.pairs.task] = paired
    primaries = {paired.pairs.task: paired for paired in _primaries(metrics)}
    for group, leaves in base.groups.items():
        whole = [found for found in by_key.values() if set(leaves) <= set(found)]
        if not whole and set(leaves) <= set(primaries):
            whole = [primaries]
        for found in whole:
            yield rows.row([found[leaf] for leaf in leaves], name=group)


def _with_tokens(run: Run, pairs: list[Pairs]) -> tuple[list[Pairs], str | None]:
    """The pairs with the distances over the vocabulary that the run holds, or why without."""
    if run.distances is None:
        return pairs, None
    from lm_eval_flips.scoring.token_distances import load_distances

    stored = load_distances(run.distances)
    if stored is None:
        return pairs, None
    try:
        return [replace(found, tokens=token_values(stored, found)) for found in pairs], None
    except OtherBaselineError as error:
        return pairs, str(error)


def _choice_kl(row: Row) -> float | None:
    return None if row.distances is None else row.distances.choice_kl.mean


def _token_kl(row: Row) -> float | None:
    return None if row.tokens is None else row.tokens.typical_kl


def _across_runs(
    runs: Sequence[RunComparison], distance: Callable[[Row], float | None]
) -> dict[str, Spearman]:
    if len(runs) < 3:
        return {}
    points: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        for row in (*run.tasks, run.pooled):
            if (kl := distance(row)) is not None and row.flips is not None:
                key = row.name if row is run.pooled else f"{row.name},{row.filter},{row.metric}"
                points.setdefault(key, []).append((kl, row.flips.flips))
    return {
        key: spearman(torch.tensor([kl for kl, _ in found]), torch.tensor([f for _, f in found]))
        for key, found in points.items()
        if len(found) == len(runs)
    }
