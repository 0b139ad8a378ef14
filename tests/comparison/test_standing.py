"""Order by distance, fronts and the best of a family, each counted by hand."""

from __future__ import annotations

from itertools import product
from math import inf, isnan, nan
from pathlib import Path

import numpy as np
import pytest

from lm_eval_flips import compare
from lm_eval_flips.comparison.model_sizes import ModelSize
from lm_eval_flips.comparison.spec import Number
from lm_eval_flips.comparison.standing import (
    DISTANCES,
    Candidate,
    closest_first,
    standings,
    standings_of,
)
from lm_eval_flips.compression.recognised import KnownScheme
from tests.generators.folders import write_folder


def candidate(
    *,
    kl: float = nan,
    flips: float = nan,
    token_kl: float = nan,
    family: str = "",
    size: int | None = None,
) -> Candidate:
    """A model of these numbers."""
    values = {"choice_kl": kl, "flips": flips, "token_kl": token_kl}
    return Candidate(
        numbers={key: Number(key=key, unit="nats", value=value) for key, value in values.items()},
        scheme=KnownScheme(name="x", family=family, source="test") if family else None,
        size=None if size is None else ModelSize(bytes=size, bits_per_weight=nan, source="test"),
    )


def size_of(size: int) -> ModelSize:
    """A baseline's size."""
    return ModelSize(bytes=size, bits_per_weight=nan, source="test")


def test_a_control_is_never_the_closest() -> None:
    """It stands behind all models, without a place, and decides neither distance nor family."""
    control = candidate(flips=0.0, family="noise on log-probabilities")
    models = [candidate(kl=0.3, flips=0.1), candidate(kl=0.1, flips=0.2), candidate()]
    found = standings([control, *models], baseline=None)
    assert (found.distance, found.order) == ("choice_kl", (2, 1, 3, 0))
    assert [own.place for own in found.each] == [None, 2, 1, None]
    assert not found.each[0].best_of_family
    other = candidate(flips=0.0, family="noise")  # control of the control
    assert standings([other, *models[:1]], baseline=None).order == (0, 1)
    assert standings([control], baseline=None).distance == ""


def test_the_closest_stands_first_by_the_distance_that_all_have() -> None:
    """Choice KL; flips where one has no KL; the unknown last, behind the infinite."""
    by_kl = standings(
        [candidate(kl=0.3, flips=0.01), candidate(kl=inf, flips=0.0), candidate(kl=0.1, flips=0.2)],
        baseline=None,
    )
    assert (by_kl.distance, by_kl.order) == ("choice_kl", (2, 0, 1))
    assert [own.place for own in by_kl.each] == [2, 3, 1]
    by_flips = standings([candidate(kl=0.1, flips=0.2), candidate(flips=0.1)], baseline=None)
    assert (by_flips.distance, by_flips.order) == ("flips", (1, 0))
    partly = standings([candidate(), candidate(kl=inf), candidate(kl=0.5)], baseline=None)
    assert (partly.distance, partly.order) == ("choice_kl", (2, 1, 0))
    assert [own.place for own in partly.each] == [None, 2, 1]
    none = standings([candidate(), candidate()], baseline=None)
    assert (none.distance, none.order) == ("", (0, 1))
    assert standings([], baseline=None).order == ()


@pytest.mark.parametrize("seed", range(5))
def test_fronts_are_what_neither_model_nor_baseline_beats(seed: int) -> None:
    """Oracle: each held against each, and against the baseline at no distance."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 9, 12)
    values = generator.random((12, 2)).round(1)
    models = [
        candidate(flips=float(a), kl=float(b), size=int(c))
        for (a, b), c in zip(values, sizes, strict=True)
    ]
    found = standings(models, baseline=size_of(7)).each
    for place, (column, key) in product(range(12), enumerate(("flips", "choice_kl"))):
        own = (sizes[place], values[place, column])
        others = [*zip(sizes, values[:, column], strict=True), (7, 0.0)]
        beaten = any(o[0] <= own[0] and o[1] <= own[1] and tuple(o) != tuple(own) for o in others)
        assert found[place].pareto[key] is not beaten


def test_without_a_size_or_a_distance_there_is_no_front() -> None:
    """None, which is neither on it nor off; a model larger than the baseline is off it."""
    found = standings(
        [candidate(flips=0.1), candidate(kl=0.1, size=5), candidate(flips=0.0001, size=10)],
        baseline=size_of(9),
    ).each
    assert [own.pareto["flips"] for own in found] == [None, None, False]
    assert [own.pareto["choice_kl"] for own in found] == [None, True, None]


def test_the_best_of_a_family_is_its_closest() -> None:
    """Of two alike the smaller; none where the family is unknown."""
    found = standings(
        [
            candidate(kl=0.2, family="GPTQ", size=4),
            candidate(kl=0.1, family="GPTQ", size=9),
            candidate(kl=0.5, family="noise", size=9),
            candidate(kl=0.5, family="noise", size=8),
            candidate(kl=0.01),
        ],
        baseline=None,
    ).each
    assert [own.best_of_family for own in found] == [False, True, False, True, False]


def test_runs_are_ordered_as_their_rows_say(tmp_path: Path) -> None:
    """Against the rows' own means; control: that is not the order in which they were given."""
    write_folder(tmp_path, {"a": 3.0, "b": 0.2, "c": 1.0, "d": 0.5})
    found = compare(tmp_path / "baseline", *(tmp_path / name for name in "abcd"))
    kls = [run.pooled.numbers["choice_kl"].value for run in found.compressed]
    assert not any(map(isnan, kls))
    assert closest_first(found) == tuple(int(place) for place in np.argsort(kls))
    assert standings_of(found).distance == DISTANCES[0]
    assert closest_first(found) == (1, 3, 2, 0)
