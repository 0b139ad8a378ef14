"""What is independent, and the errors that follow: statsmodels' clustered ones, and the textbook's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from lm_eval_flips.comparison.row import measure
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.errors import Errors, ErrorsOf
from tests.generators import paired
from tests.generators.paired import DEVICES, UNDEFINED, Ints, Questions
from tests.measures.test_permutation import scipys


def by_field(metric: PairedMetric, labels: Ints, field: str = "passage") -> PairedMetric:
    """The metric whose samples a field makes dependent: those of the same label."""
    clusters = torch.from_numpy(labels).to(metric.clusters.device)
    return replace(metric, clusters=clusters, pairs=replace(metric.pairs, cluster_field=field))


def passages(seed: int, asked: Sequence[Questions], count: int) -> list[Ints]:
    """A passage for every question, shared between tasks; the labels are not numbered from 0."""
    generator = np.random.default_rng(seed)
    return [7 + 3 * generator.integers(count, size=len(own.gold)) for own in asked]


def values_of(asked: Sequence[Questions], device: str = "cpu") -> list[Tensor]:
    """The change of every answer."""
    return [torch.from_numpy(own.change).to(device) for own in asked]


def test_errors_name_what_is_independent() -> None:
    """Samples, documents, strata and, from ten tasks on, clusters of tasks: the words of a row."""
    plain, documents = (
        paired.questions(1, 12),
        paired.questions(1, 12, documents=np.arange(12) // 3),
    )
    found = [
        Errors([plain.paired()]),
        Errors([documents.paired()]),
        Errors([plain.paired(f"task{i}") for i in range(9)]),
        Errors([plain.paired(f"task{i}") for i in range(10)]),
        Errors([by_field(plain.paired(f"task{i}"), np.arange(12) // 4) for i in range(10)]),
    ]
    assert [errors.method for errors in found] == [
        "independent samples",
        "clustered by document (4 of 12 samples)",
        "stratified by task (9)",
        "clustered by task (10)",
        "clustered by passage (3: too few to tell much)",
    ]
    assert [errors.independent for errors in found] == [True, False, False, False, False]
    assert [errors.clustered_by_task for errors in found] == [False, False, False, True, False]
    assert [errors.by_document for errors in found] == [True, True, True, False, False]
    assert [errors.n for errors in found] == [12, 12, 108, 120, 120]
    assert [errors.documents for errors in found] == [12, 4, 108, 120, 3]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_fields_clusters_reach_over_all_tasks(count: int, device: str) -> None:
    """The error is statsmodels', clustered by the field, of one, few or many tasks."""
    tasks = paired.tasks(count)
    labels = passages(1, tasks, 15)
    metrics = [
        by_field(asked.paired(f"task{i}", device=device), own)
        for i, (asked, own) in enumerate(zip(tasks, labels, strict=True))
    ]
    errors = Errors(metrics)
    change, place = np.concatenate([asked.change for asked in tasks]), np.concatenate(labels)
    groups = len(np.unique(place))
    fit = paired.regression(change, place)
    assert errors.of(values_of(tasks, device)) == pytest.approx((fit.bse[0], fit.freedom), rel=1e-9)
    row = measure(metrics, name="pooled")
    assert row.error_method == f"clustered by passage ({groups})"
    ends = paired.change_ends(change, lambda own: paired.clustered(own, place), groups)
    assert row.intervals["score_change"] == pytest.approx(ends, rel=1e-7)
    sums = np.bincount(np.unique(place, return_inverse=True)[1], weights=change).astype(np.float64)
    assert row.p_value == pytest.approx(scipys(sums, "two-sided"), rel=0.1)
    kl = np.concatenate([asked.kl for asked in tasks])
    of = np.bincount(np.unique(place, return_inverse=True)[1], weights=kl).astype(np.float64)
    expected = paired.distance_ends(kl, *paired.clustered(kl, place), units=of)
    assert row.intervals["choice_kl"] == pytest.approx(expected, rel=1e-7)


def test_a_fields_clusters_check_can_fail() -> None:
    """Control for the test above: passages told apart by task, or tasks, have other errors."""
    tasks = paired.tasks(12)
    labels = passages(1, tasks, 15)
    metrics = [by_field(asked.paired(), own) for asked, own in zip(tasks, labels, strict=True)]
    found, _ = Errors(metrics).of(values_of(tasks))
    change, place = np.concatenate([asked.change for asked in tasks]), np.concatenate(labels)
    numbers = np.repeat(np.arange(12), [len(own) for own in labels])
    assert found != pytest.approx(paired.regression(change, 100 * numbers + place).bse[0], rel=1e-2)
    assert found != pytest.approx(paired.regression(change, numbers).bse[0], rel=1e-2)


@pytest.mark.parametrize("device", DEVICES)
def test_strata_add_up_the_tasks_own_errors(device: str) -> None:
    """Of three tasks, of which one repeats its documents: statsmodels' of each, by the textbook."""
    documents = np.arange(30) // 3
    tasks = [*paired.tasks(2), paired.questions(40, 30, documents=documents)]
    errors = Errors([asked.paired(device=device) for asked in tasks])
    places = [np.arange(20), np.arange(25), documents]
    fits = [
        paired.regression(asked.change, place) for asked, place in zip(tasks, places, strict=True)
    ]
    expected = sqrt(
        sum((len(place) * fit.bse[0]) ** 2 for place, fit in zip(places, fits, strict=True))
    )
    found = errors.of(values_of(tasks, device))
    assert found == pytest.approx((expected / 75, 19 + 24 + 9), rel=1e-9)
    assert errors.documents == 20 + 25 + 10


def test_a_stratum_of_one_document_has_no_error() -> None:
    """Nor has a pool that it belongs to; and no cluster of a field that is the only one."""
    single = paired.questions(41, 6, documents=np.zeros(6, np.int64))
    asked = [paired.questions(42, 20), single]
    error, _ = Errors([own.paired() for own in asked]).of(values_of(asked))
    assert isnan(error)
    field = [by_field(own.paired(), np.zeros(len(own.gold), np.int64)) for own in asked]
    error, freedom = Errors(field).of(values_of(asked))
    assert isnan(error)
    assert freedom == 0
    row = measure(field, name="pooled")
    for name in ("score_change", "choice_kl", "choice_kl_median", "flips", "loss_share"):
        assert row.intervals[name] == UNDEFINED, name
    assert isnan(row.p_value)
    assert isnan(row.p_loss)


@pytest.mark.parametrize("device", DEVICES)
def test_few_tasks_are_a_stratum_each(device: str) -> None:
    """Their values as they are, every document a cluster, numbered from 0."""
    tasks = paired.tasks(3)
    values = values_of(tasks, device)
    found = Errors([asked.paired(device=device) for asked in tasks]).strata(values)
    for (own, clusters), expected in zip(found, values, strict=True):
        assert own.tolist() == expected.tolist()
        assert sorted(clusters.tolist()) == list(range(len(own)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("count", "kind"), [(3, "field"), (12, "task")])
def test_clusters_over_tasks_are_one_stratum(count: int, kind: str, device: str) -> None:
    """All values, by the field's labels or by the tasks, numbered from 0."""
    tasks = paired.tasks(count)
    labels = passages(2, tasks, 6)
    metrics = [asked.paired(device=device) for asked in tasks]
    wanted = np.repeat(np.arange(count), [len(own) for own in labels])
    if kind == "field":
        metrics = [by_field(own, label) for own, label in zip(metrics, labels, strict=True)]
        wanted = np.concatenate(labels)
    values = values_of(tasks, device)
    ((whole, clusters),) = Errors(metrics).strata(values)
    assert whole.tolist() == torch.cat(values).tolist()
    assert clusters.tolist() == np.unique(wanted, return_inverse=True)[1].tolist()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("count", "kind"), [(3, "document"), (3, "field"), (12, "task")])
def test_values_that_belong_to_samples_go_with_their_clusters(
    count: int, kind: str, device: str
) -> None:
    """One to three requests of each sample, in no order: each has its sample's cluster."""
    tasks = paired.tasks(count)
    labels = passages(3, tasks, 6)
    metrics = [asked.paired(device=device) for asked in tasks]
    if kind == "field":
        metrics = [by_field(own, label) for own, label in zip(metrics, labels, strict=True)]
    generator = np.random.default_rng(4)
    owners = [
        torch.from_numpy(generator.permutation(np.repeat(np.arange(len(own)), 1 + own % 3)))
        for own in labels
    ]
    errors = Errors(metrics)
    samples = errors.strata([torch.arange(len(own), device=device) for own in labels])
    whole = torch.cat([clusters for _, clusters in samples])
    own_cluster = torch.split(whole, [len(own) for own in labels])
    values = [100.0 * i + owner.double().to(device) for i, owner in enumerate(owners)]
    found = errors.strata(values, owners)
    assert torch.cat([own for own, _ in found]).tolist() == torch.cat(values).tolist()
    clusters = torch.cat([own for _, own in found])
    expected = [
        clusters[owner.to(device)] for clusters, owner in zip(own_cluster, owners, strict=True)
    ]
    assert clusters.tolist() == torch.cat(expected).tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_sums_are_those_of_each_cluster(device: str) -> None:
    """By numpy: of documents within each task, and of a field's values over all of them."""
    documents = np.arange(30) // 3
    tasks = [paired.questions(43, 30, documents=documents), paired.questions(44, 20)]
    metrics = [asked.paired(device=device) for asked in tasks]
    found = Errors(metrics).sums(values_of(tasks, device))
    # documents are numbered by their hashes
    assert sorted(found[0].tolist()) == sorted(np.bincount(documents, tasks[0].change).tolist())
    assert sorted(found[1].tolist()) == sorted(tasks[1].change.tolist())
    labels = passages(5, tasks, 8)
    field = [by_field(own, label) for own, label in zip(metrics, labels, strict=True)]
    (sums,) = Errors(field).sums(values_of(tasks, device))
    place = np.unique(np.concatenate(labels), return_inverse=True)[1]
    change = np.concatenate([asked.change for asked in tasks])
    assert sums.tolist() == np.bincount(place, change).tolist()


@dataclass
class Graded:
    """Anything whose samples have clusters."""

    clusters: Tensor
    cluster_field: str | None = None


def test_errors_are_of_anything_that_has_clusters() -> None:
    """No paired metric is needed: clusters, and whether they were asked for."""
    place = np.arange(24) // 4
    values = np.random.default_rng(6).normal(size=24)
    fit = paired.regression(values, place)
    for field in (None, "passage"):
        errors = ErrorsOf([Graded(torch.from_numpy(place), field)])
        found = errors.of([torch.from_numpy(values)])
        assert found == pytest.approx((fit.bse[0], 5), rel=1e-9)
        assert errors.by_document == (field is None)


def test_uneven_tasks_are_strata() -> None:
    """Ten tasks of which one holds half of the samples are worth four alike: no clusters."""
    sizes = [*(20,) * 9, 180]
    tasks = [paired.questions(60 + i, n) for i, n in enumerate(sizes)]
    errors = Errors([asked.paired(f"task{i}") for i, asked in enumerate(tasks)])
    worth = 360**2 / (9 * 20**2 + 180**2)
    assert errors.method == f"stratified by task (10, worth {worth:.1f} alike ones)"
    expected = paired.stratified([asked.change for asked in tasks])
    assert errors.of(values_of(tasks)) == pytest.approx(expected, rel=1e-9)


def test_clusters_of_tasks_are_no_surer_than_their_samples() -> None:
    """Twelve tasks that all lost one answer of twenty: the error is that of 240 samples, not 0."""
    change = np.array([-1.0, *(0.0,) * 19])
    sides = [("a", 1.0)] * 20, [("b", float(i > 0)) for i in range(20)]
    errors = Errors([paired.generated(f"task{i}", *sides) for i in range(12)])
    values = [torch.from_numpy(change) for _ in range(12)]
    assert errors.method == "clustered by task (12)"
    error, freedom = errors.of(values)
    assert error == pytest.approx(paired.stratified([change] * 12)[0], rel=1e-9)
    assert freedom == pytest.approx(11, rel=1e-9)


def test_a_document_of_several_tasks_counts_once() -> None:
    """The same sixty questions as three tasks: the error, the p and the flips' interval of one.

    Control: as questions of the tasks' own they look three times as many.
    """
    asked = paired.questions(70, 60)
    once = measure([asked.paired("gsm8k*")], name="one")
    names = ("gsm8k*", "gsm8k_cot*", "gsm8k_chat*")
    metrics = [asked.paired(name) for name in names]
    row = measure(metrics, name="pooled")
    assert row.error_method == "clustered by document over 3 tasks (60 of 180)"
    assert row.p_value == once.p_value
    sums = 3 * (asked.change - asked.change.mean())
    error = sqrt((sums**2).sum() * 60 / 59) / 180
    assert Errors(metrics).of(values_of([asked] * 3))[0] == pytest.approx(error, rel=1e-9)
    assert not row.tested.tasks_independent
    apart = measure([asked.paired(name.strip("*")) for name in names], name="pooled")
    assert apart.error_method == "stratified by task (3)"
    assert apart.p_value < once.p_value


def test_tasks_of_the_same_documents_are_one_cluster() -> None:
    """Twelve tasks and their twins: twelve clusters of twenty-four tasks."""
    asked = [paired.questions(100 + i, 30) for i in range(12)]
    metrics = [own.paired(f"{kind}{i}*") for i, own in enumerate(asked) for kind in "ab"]
    for number, metric in enumerate(metrics):
        # documents are told by number here: each task's begin elsewhere, its twin's alike
        metrics[number] = replace(metric, clusters=torch.arange(30) + 1000 * (number // 2))
    errors = Errors(metrics)
    assert errors.method == "clustered by task (12 of 24)"
    change = np.concatenate([own.change for own in asked for _ in "ab"])
    place = np.repeat(np.arange(12), 60)
    values = [torch.from_numpy(own.change) for own in asked for _ in "ab"]
    error, freedom = errors.of(values)
    assert error >= paired.clustered(change, place)[0] - 1e-12
    assert freedom == pytest.approx(11, rel=1e-9)
