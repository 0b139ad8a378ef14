"""Where each of several compressed models stands: near the baseline or far, for how many bytes.

Models are ordered by their distance from the baseline, not by their scores: among many models the
highest score is often one that chance has raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan

import torch

from lm_eval_flips.comparison.model_sizes import ModelSize, model_sizes
from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Comparison, Row, RunComparison
from lm_eval_flips.comparison.spec import Number
from lm_eval_flips.compression.families import LOG_NOISE
from lm_eval_flips.compression.recognised import KnownScheme
from lm_eval_flips.measures.pareto import pareto_front

# In which models are ordered: the first that all of them have, else the first that any has.
DISTANCES = ("choice_kl", "flips", "token_kl")
PARETO = ("flips", "choice_kl")  # what size is held against


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A compressed model to be placed: its numbers over all tasks, its scheme, its size."""

    numbers: Mapping[str, Number]
    scheme: KnownScheme | None = None
    size: ModelSize | None = None

    @property
    def is_control(self) -> bool:
        """Whether no model made it: nobody can choose it, however close it is."""
        return self.scheme is not None and self.scheme.family == LOG_NOISE


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A compressed model among the others.

    ``place`` counts from 1, the closest to the baseline; None where its distance is not known, and
    of a control.
    ``pareto`` says of "flips" and "choice_kl" whether no other model, nor the baseline, is both as
    small and as near, and better in one; None where size or distance is not known. The closest of
    a family is ``best_of_family``; of two alike the smaller.
    """

    scheme: KnownScheme | None
    size: ModelSize | None
    place: int | None
    pareto: Mapping[str, bool | None]
    best_of_family: bool

    @property
    def family(self) -> str:
        """The family of its scheme; "" where it is not known."""
        return "" if self.scheme is None else self.scheme.family

    @property
    def bits(self) -> float | None:
        """Bits of a compressed weight; None where weights stay, or where it is not known."""
        return None if self.scheme is None else self.scheme.bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings:
    """All of them: ``distance`` is the key of the number that ``order`` goes by, the closest first.

    ``distance`` is "" where no model has any, and the order then that in which they were given.
    Controls stand behind the models.
    ``each`` is in the order given.
    """

    distance: str
    order: tuple[int, ...]
    each: tuple[Standing, ...]


def row_of(run: RunComparison) -> Row | PlannedRow:
    """The row that speaks for a run: the pool, or its estimate where the run is of a plan."""
    return run.pooled if run.planned is None else run.planned.pooled


def standings_of(
    comparison: Comparison, *, sizes: Mapping[str, ModelSize] | None = None
) -> Standings:
    """The compressed models of a comparison, by their pools.

    Args:
        comparison: what ``compare`` returned.
        sizes: of its models, by the path of the run; by default those that are known here.
    """
    known = model_sizes(comparison) if sizes is None else sizes
    return standings(
        [
            Candidate(
                numbers=row_of(run).numbers, scheme=run.scheme, size=known.get(run.run.address)
            )
            for run in comparison.compressed
        ],
        baseline=known.get(comparison.baseline.run.address),
    )


def closest_first(comparison: Comparison) -> tuple[int, ...]:
    """The compressed runs' places, the closest to the baseline first."""
    return standings_of(comparison, sizes={}).order


def standings(candidates: Sequence[Candidate], *, baseline: ModelSize | None) -> Standings:
    """Place models by distance, and mark those that are worth their bytes.

    Args:
        candidates: the compressed models.
        baseline: the baseline's size; None where it is not known.
    """
    key = _distance_of([own for own in candidates if not own.is_control])
    distances = [_value(own, key) if key and not own.is_control else nan for own in candidates]
    order = sorted(
        range(len(candidates)),
        key=lambda place: (candidates[place].is_control, _last(distances[place]), place),
    )
    best = _best(candidates, distances)
    fronts = {name: _front(candidates, name, baseline) for name in PARETO}
    return Standings(
        distance=key,
        order=tuple(order),
        each=tuple(
            Standing(
                scheme=own.scheme,
                size=own.size,
                place=order.index(place) + 1 if distances[place] == distances[place] else None,
                pareto={name: fronts[name][place] for name in PARETO},
                best_of_family=place in best,
            )
            for place, own in enumerate(candidates)
        ),
    )


def _distance_of(candidates: Sequence[Candidate]) -> str:
    """The number to order by; "" for none."""
    have = {key: sum(own.numbers[key].known for own in candidates) for key in DISTANCES}
    everyone = [key for key, count in have.items() if count == len(candidates) > 0]
    return next(iter(everyone or [key for key, count in have.items() if count]), "")


def _value(own: Candidate, key: str) -> float:
    return float(own.numbers[key].value)


def _last(distance: float) -> tuple[bool, float]:
    """What is not known sorts behind what is infinite."""
    return (True, inf) if distance != distance else (False, distance)


def _best(candidates: Sequence[Candidate], distances: Sequence[float]) -> set[int]:
    """The closest of each family."""
    best: dict[str, int] = {}

    def key(place: int) -> tuple[float, float, int]:
        size = candidates[place].size
        return distances[place], inf if size is None else float(size.bytes), place

    for place, own in enumerate(candidates):
        family = "" if own.scheme is None else own.scheme.family
        if not family or distances[place] != distances[place]:
            continue
        best[family] = min(best.get(family, place), place, key=key)
    return set(best.values())


def _front(
    candidates: Sequence[Candidate], key: str, baseline: ModelSize | None
) -> list[bool | None]:
    """Whether each is on the front of size against a distance; None where either is not known."""
    sizes = [nan if own.size is None else float(own.size.bytes) for own in candidates]
    distances = [_value(own, key) for own in candidates]
    of_baseline = nan if baseline is None else float(baseline.bytes)
    found = pareto_front(
        sizes=torch.tensor([*sizes, of_baseline], dtype=torch.float64),
        distances=torch.tensor([*distances, 0.0], dtype=torch.float64),
    ).tolist()
    return [
        on if size == size and distance == distance else None
        for on, size, distance in zip(found, sizes, distances, strict=False)
    ]
