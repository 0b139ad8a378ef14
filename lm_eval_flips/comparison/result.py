"""What ``compare`` returns: frozen records, from one row up to the whole comparison.

Shares lie in 0..1, distances are nats, counts are counts. Undefined is nan, or None for a count or
a whole measure that does not apply; never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan, nan
from typing import Any

from lm_eval_flips.comparison.numbers import numbers_of
from lm_eval_flips.comparison.planned import Planned
from lm_eval_flips.comparison.shown import mimebundle
from lm_eval_flips.comparison.spec import Number
from lm_eval_flips.comparison.warnings import Warning  # noqa: A004
from lm_eval_flips.compression.recognised import KnownScheme
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.measures.correlation import SampleCorrelation, Spearman
from lm_eval_flips.measures.decisions import PooledDecisions
from lm_eval_flips.measures.direction import Direction
from lm_eval_flips.measures.divergence import Distances
from lm_eval_flips.measures.equivalence import Equivalence
from lm_eval_flips.measures.flips import Flips
from lm_eval_flips.measures.margin import Margins
from lm_eval_flips.measures.overlap import Overlap
from lm_eval_flips.measures.perplexity import PerplexityChange
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.measures.tokens import TokenDistances
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.pairing import Dropped
from lm_eval_flips.uncertainty.change_test import ChangeTest
from lm_eval_flips.uncertainty.noise_floor import Excess


@dataclass(frozen=True, kw_only=True)  # without slots, so that its numbers are made once
class Row:
    """One metric of a task, of a group, or of all tasks pooled.

    ``score`` is what the harness reports: a mean, or a perplexity; ``higher_is_better`` says which
    way is better. ``flips`` and ``direction`` are
    None for a metric that is not binary, ``distances`` where no sample has choices, ``tokens``
    where no distance over the vocabulary was measured, ``perplexity`` unless it is one,
    ``equivalence`` where no margin was given or the score is a perplexity. ``excess`` holds each
    distance's excess over the noise floor, nothing without one. ``intervals`` hold each
    number's 95 % interval under its name; ``error_method`` says which samples their errors take as
    independent. ``p_value`` is that of no change by ``test``, ``p_loss`` one-sided of no loss;
    ``p_holm`` is p_value adjusted over the run's tasks, nan for a group, the pool, and a metric
    that does not stand for its task. ``tested`` is the test itself. Of tasks of which some count
    what is right and others what is wrong, the score is the share that is right.
    """

    name: str
    filter: str
    metric: str
    n: int
    baseline_score: float
    compressed_score: float
    score_change: float
    higher_is_better: bool
    flips: Flips | None
    direction: Direction | None
    distances: Distances | None
    tokens: TokenDistances | None
    margins: Margins | None
    correlation: SampleCorrelation | None
    perplexity: PerplexityChange | None
    equivalence: Equivalence | None
    excess: Mapping[str, Excess]
    intervals: Mapping[str, Interval]
    error_method: str
    test: str
    p_value: float
    p_loss: float
    p_holm: float
    tested: ChangeTest
    p_no_preference: float = nan
    p_random: float = nan
    means: Mapping[str, float]
    warnings: tuple[Warning, ...] = ()

    @property
    def binary(self) -> bool:
        """Whether the samples are right or wrong."""
        return self.flips is not None

    @property
    def first_positions_only(self) -> bool:
        """Whether token_kl is that of first positions, which alone are known."""
        return self.tokens is not None and isnan(self.tokens.token_kl.per_request_mean)

    @cached_property
    def numbers(self) -> Mapping[str, Number]:
        """Every number by its key, as ``comparison.numbers`` lists them; nan where undefined."""
        return numbers_of(self)

    def minimal_detectable_change(self, *, power: float = 0.8) -> float:
        """The score change that the row's own test at 5 % would find with this power.

        A change that was not found may be as large as this. nan where the test finds none with so
        few samples, and for a perplexity, whose change is tested as a loss.
        """
        return nan if self.perplexity is not None else self.tested.detectable(power=power)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDifference:
    """A setting that changes scores without changing prompts, and differs between two runs."""

    setting: str
    baseline: Any
    compressed: Any
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Which run: its results file, its model, and the run itself.

    ``others`` are those of its other seeds, where there are any.
    """

    path: str
    model: str
    run: Run = field(repr=False, compare=False)
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """One compressed run against the baseline.

    ``metrics`` are the paired samples behind ``tasks``, row for row; ``not_compared`` the tasks
    that only one of the runs holds; ``tokens_left_out`` says why distances over the vocabulary that
    the run holds are not shown, None if they are or there are none. ``decisions`` ask of all tasks
    together whether the score got worse; None for a single task. ``planned`` is None unless a plan
    was given: then it tells of all documents, while the rows are those of the drawn samples as they
    are, among which uncertain answers are many. ``findings`` say what is doubtful or
    impossible in the two runs. ``scheme`` is how the model was compressed, as its own files
    say, or else its engine, arguments or names; None where none does. ``others`` are the results
    files of the model's other seeds, where there are any.
    """

    path: str
    model: str
    tasks: tuple[Row, ...]
    groups: tuple[Row, ...]
    pooled: Row
    dropped: tuple[Dropped, ...]
    not_compared: tuple[str, ...]
    tokens_left_out: str | None
    decisions: PooledDecisions | None
    warnings: tuple[Warning, ...]
    run: Run = field(repr=False, compare=False)
    metrics: tuple[PairedMetric, ...] = field(repr=False)
    planned: Planned | None = None
    findings: tuple[Finding, ...] = ()
    scheme: KnownScheme | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Compressed runs by their pooled score over the ``n`` samples that all of them have.

    Runs are numbered as in ``Comparison.compressed``. ``scores`` are what a row shows of these
    samples, a mean or a perplexity, of ``metric``, of which less is better where
    ``lower_is_better``. ``order`` begins with the best; ``groups`` are the largest of which no two
    runs can be told apart at 5 %, and ``letters`` of each run are those of its groups: two runs
    share a letter where, and only where, they are not told apart. ``p_values`` are those of each
    two runs, by (lower, higher) number, adjusted by Holm.
    """

    n: int
    scores: tuple[float, ...]
    metric: str
    lower_is_better: bool
    order: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    letters: tuple[str, ...]
    p_values: Mapping[tuple[int, int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """How a distance relates to flips and to the net loss of the score, over compressed runs.

    Over the runs whose mean ``distance`` is ``below`` that many nats; None for all of them.
    """

    distance: str
    below: float | None
    flips: Spearman
    net_loss: Spearman


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLoss:
    """What a loss of written text goes with over compressed runs: rank correlations, by distance.

    ``loss`` is "text_flips", "text_net_loss", "different_text" (the share of answers that are not
    the baseline's to the last character) or "judge_drop". ``told_by`` has, where all runs hold
    them, "choice_flips", "choice_net_loss", "choice_kl" and "token_kl" of the tasks with choices,
    "answer_kl" along the written answers and, of a judge's score, the other losses.
    """

    loss: str
    told_by: Mapping[str, Spearman]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A baseline and every compressed run compared with it.

    ``across_runs`` is Spearman's correlation over the compressed runs between mean choice_kl and
    flips, for each task and, under "pooled", for all; empty for fewer than three runs.
    ``across_runs_token_kl`` is the same for token_kl. ``regimes`` tells the runs near the baseline
    apart from all, and flips from losses. ``text_losses`` say what goes with losses of written text
    over the runs. ``noise_floor`` is a second run of the baseline, compared with it in the same
    way; None if none was given. ``ranking`` and ``overlap``
    hold the compressed runs against each other; None for one.
    """

    baseline: RunSummary
    noise_floor: RunComparison | None
    settings_that_differ: tuple[SettingDifference, ...]
    compressed: tuple[RunComparison, ...]
    across_runs: Mapping[str, Spearman]
    across_runs_token_kl: Mapping[str, Spearman]
    regimes: tuple[Regime, ...]
    ranking: Ranking | None
    overlap: Overlap | None
    text_losses: tuple[TextLoss, ...] = ()

    @property
    def warnings(self) -> tuple[Warning, ...]:
        """What a reader must know beside the numbers, the noise floor's first, then run by run."""
        floor = () if self.noise_floor is None else (self.noise_floor,)
        return tuple(warning for run in (*floor, *self.compressed) for warning in run.warnings)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """What Jupyter shows: the tables of `compare`."""
        return mimebundle(self)
