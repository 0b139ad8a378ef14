"""THE list of numbers of a row: key, unit, value and 95 % interval, for plain and planned rows.

A key means the same wherever it stands: ``row.numbers["flips"]`` in Python, ``"flips"`` in the
JSON, ``flips`` with ``flips_low`` and ``flips_high`` in CSV and Parquet, ``max_flips`` in a gate.
A count and its share have two names: ``correct_to_incorrect``, ``correct_to_incorrect_share``.

>>> [spec.key for spec in SPECS][:5]
['n', 'documents', 'baseline_score', 'compressed_score', 'score_change']
>>> SPEC["correct_to_incorrect"].unit, SPEC["correct_to_incorrect_share"].unit
('count', 'share')
>>> SPEC["correct_to_incorrect"].no_interval
'a count: the share beside it has one'
>>> row.numbers["flips"]  # doctest: +SKIP
Number(key='flips', unit='share', value=0.032, interval=Interval(low=0.0242, high=0.0422))

To add a number, add a line to ``SPECS``. With ``column`` alone it is the mean of a per-sample value
over the samples that have one: it is then measured with the row's errors, estimated from a plan's
samples and, with ``floor=True``, held against the noise floor; ``median=True`` takes their median.
With ``read`` it is read from the row's records, and ``uncertainty/`` gives its interval under the
same key. All that shows or judges numbers reads this list; ``report/columns.py`` has the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from lm_eval_flips.comparison.spec import (
    A_COUNT,
    AT_RANDOM,
    COUNTED,
    DERIVED,
    EXTREME,
    GIVEN,
    PAIRED,
    POSITIONS,
    TESTED,
    Column,
    Number,
    Read,
    Spec,
    Unit,
)
from lm_eval_flips.comparison.written_numbers import PARTED, WRITTEN
from lm_eval_flips.pairs.sample_values import COLUMN

if TYPE_CHECKING:
    from lm_eval_flips.comparison.planned import PlannedRow
    from lm_eval_flips.comparison.result import Row


def _of(record: str, name: str) -> Read:
    """Read one entry of a row's record; None where the row has no such record."""
    read: Callable[[object], int | float | None] = attrgetter(name)

    def entry(row: Row) -> int | float | None:
        measured = getattr(row, record)
        return None if measured is None else read(measured)

    return entry


def _counted(key: str) -> tuple[Spec, ...]:
    """A count of samples, and its share of n."""

    def share(row: Row) -> int | float | None:
        return None if row.flips is None else row.flips.share(getattr(row.flips, key))

    return (
        Spec(key, "count", _of("flips", key), no_interval=COUNTED),
        Spec(f"{key}_share", "share", share),
    )


def _given(key: str, read: Read) -> Spec:
    return Spec(key, "count", read, detail=True, no_interval=GIVEN)


def _distance(key: str, unit: Unit = "nats", column: Column | None = None) -> tuple[Spec, ...]:
    """A distance over the choices: its mean first, for which alone there is a noise floor."""

    def of(name: str) -> Read:
        return _of("distances", f"{key}.{name}")

    aside = column is None
    counted = Spec(f"{key}_infinite", "count", of("infinite"), detail=aside, no_interval=A_COUNT)
    infinite = () if unit == "share" or key == "jensen_shannon" else (counted,)
    return (
        Spec(key, unit, of("mean"), column=column, floor=not aside, detail=aside),
        Spec(f"{key}_median", unit, of("median"), detail=aside),
        Spec(f"{key}_p99", unit, of("p99"), detail=aside),
        Spec(f"{key}_max", unit, of("max"), detail=True, no_interval=EXTREME),
        *infinite,
    )


def _token(
    key: str, unit: Unit = "nats", column: Column | None = None, *, least: bool = False
) -> tuple[Spec, ...]:
    """A value over the vocabulary: its mean over requests first; then over positions."""

    def of(name: str) -> Read:
        return _of("tokens", f"{key}.{name}")

    aside = column is None
    return (
        Spec(key, unit, of("typical"), column=column, floor=not aside, detail=aside, least=least),
        Spec(f"{key}_first_position", unit, of("first_position_mean"), detail=True, least=least),
        Spec(f"{key}_per_position", unit, of("mean"), detail=True, no_interval=POSITIONS),
        Spec(f"{key}_median", unit, of("median"), detail=True, no_interval=POSITIONS),
        Spec(f"{key}_p99", unit, of("p99"), detail=True, no_interval=POSITIONS),
        Spec(f"{key}_max", unit, of("max"), detail=True, no_interval=EXTREME),
    )


def _related(distance: str, of: Callable[[str], Read]) -> tuple[Spec, ...]:
    """How a distance goes with the answers, sample by sample."""
    return (
        Spec(f"{distance}_with_changed", "correlation", of("changed.statistic"), detail=True),
        Spec(f"{distance}_with_flipped", "correlation", of("flipped.statistic"), detail=True),
        Spec(f"{distance}_detects_flips", "auroc", of("detects_flips.statistic"), detail=True),
    )


def _token_correlation(name: str) -> Read:
    read: Callable[[object], float] = attrgetter(name)

    def entry(row: Row) -> int | float | None:
        correlation = None if row.tokens is None else row.tokens.correlation
        return None if correlation is None else read(correlation)

    return entry


SPECS: tuple[Spec, ...] = (
    # what was compared
    Spec("n", "count", attrgetter("n"), no_interval=GIVEN),
    _given("documents", attrgetter("n")),
    Spec("baseline_score", "score", attrgetter("baseline_score"), no_interval=PAIRED),
    Spec("compressed_score", "score", attrgetter("compressed_score"), no_interval=PAIRED),
    Spec("score_change", "score", attrgetter("score_change")),
    Spec("recovery", "ratio", detail=True, least=True),
    Spec("chance_score", "score", detail=True, no_interval=GIVEN),
    # how many answers moved
    Spec("flips", "share", _of("flips", "flips"), column=COLUMN["flips"], floor=True),
    Spec("all_flips", "share", _of("flips", "all_flips"), column=COLUMN["all_flips"], floor=True),
    *_counted("correct_to_incorrect"),
    *_counted("incorrect_to_correct"),
    *_counted("wrong_to_wrong"),
    *_counted("answers_changed"),
    # and which way
    Spec("loss_share", "share", _of("direction", "loss_share")),
    Spec("negative_flip_rate", "share", _of("direction", "negative_flip_rate")),
    Spec(
        "random_loss_share",
        "share",
        _of("direction", "random_loss_share"),
        detail=True,
        no_interval=AT_RANDOM,
    ),
    Spec("margin_change", "share", _of("direction", "margin_change"), detail=True),
    # how far the probabilities moved: over the choices, over the vocabulary
    _given("choice_samples", _of("distances", "n")),
    *_distance("choice_kl", column=COLUMN["choice_kl"]),
    *_distance("choice_kl_reverse"),
    *_distance("jensen_shannon"),
    *_distance("total_variation", "share"),
    _given("token_requests", _of("tokens", "token_kl.requests")),
    _given("token_positions", _of("tokens", "token_kl.positions")),
    *_token("token_kl", column=COLUMN["token_kl"]),
    *_token("token_kl_reverse"),
    *_token("token_jensen_shannon"),
    *_token("token_total_variation", "share"),
    *_token("same_top", "share", least=True),
    *_token("logprob_change"),
    # whose answers moved
    Spec("margin_of_correct", "share", _of("margins", "mean_correct"), detail=True),
    Spec("margin_of_incorrect", "share", _of("margins", "mean_incorrect"), detail=True),
    Spec("changed_of_correct", "share", _of("margins", "correct.share"), detail=True),
    Spec("changed_of_incorrect", "share", _of("margins", "incorrect.share"), detail=True),
    *_related("choice_kl", lambda name: _of("correlation", name)),
    *_related("token_kl", _token_correlation),
    # what both wrote, and where they part
    *PARTED,
    # perplexities
    Spec("perplexity_ratio", "ratio", _of("perplexity", "ratio")),
    Spec("bits_change", "bits", _of("perplexity", "bits_change"), detail=True),
    *WRITTEN,  # how answers are written
    # decisions
    Spec("equivalence_margin", "score", _of("equivalence", "margin"), no_interval=GIVEN),
    Spec("p_value", "p", attrgetter("p_value"), no_interval=TESTED),
    Spec("p_loss", "p", attrgetter("p_loss"), no_interval=TESTED),
    Spec("p_holm", "p", attrgetter("p_holm"), no_interval=TESTED),
    Spec("p_no_preference", "p", attrgetter("p_no_preference"), detail=True, no_interval=TESTED),
    Spec("p_random", "p", attrgetter("p_random"), detail=True, no_interval=TESTED),
    Spec(
        "minimal_detectable_change",
        "score",
        lambda row: row.minimal_detectable_change(),
        detail=True,
        no_interval=DERIVED,
    ),
)
SPEC: Mapping[str, Spec] = {spec.key: spec for spec in SPECS}
# What is measured as the mean of a column, as the median, and what is held against a noise floor.
_WITH = {spec: spec.column for spec in SPECS if spec.column is not None}
_OWN = {spec: column for spec, column in _WITH.items() if spec.read is None}
MEANS = {spec.key: column for spec, column in _OWN.items() if not spec.median}
MEDIANS = {spec.key: column for spec, column in _OWN.items() if spec.median}
HELD = {spec.key: column for spec, column in _WITH.items() if spec.floor}


def numbers_of(row: Row) -> dict[str, Number]:
    """Every number of a row by its key; those that it does not have are nan."""
    return {spec.key: spec.of(row) for spec in SPECS}


def planned_numbers(row: PlannedRow) -> dict[str, Number]:
    """The same of a planned row, of which many are nan."""
    return {spec.key: spec.planned(row) for spec in SPECS}


@runtime_checkable
class StandsFor(Protocol):
    """Something of one metric of a task, which may be right or wrong."""

    @property
    def name(self) -> str:
        """The task."""

    @property
    def binary(self) -> bool:
        """Whether its samples are right or wrong."""


S = TypeVar("S", bound=StandsFor)


def one_each(rows: Iterable[S]) -> dict[str, S]:
    """The one of each name that stands for it: the first binary one, else the first.

    THE rule by which one metric stands for its task, in tables, pools, gates and leaderboards.
    """
    standing: dict[str, S] = {}
    for row in rows:
        now = standing.setdefault(row.name, row)
        if row.binary and not now.binary:
            standing[row.name] = row
    return standing
