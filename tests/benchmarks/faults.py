"""The settings in which decisions went wrong: false alarms, false passes, coverage, and power.

Samples are drawn as lost, won or neither, or as distances; the package's own errors, tests and
intervals are then asked. ``coverage.py --only faults`` prints it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import exp
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.comparison.ranking import TaskScores, rank_runs
from lm_eval_flips.gate.evidence import LEVEL, p_broken
from lm_eval_flips.measures.distance_mean import distance_interval, one_more
from lm_eval_flips.measures.flips import Flips, count_flips
from lm_eval_flips.measures.shares import wilson
from lm_eval_flips.measures.significance import holm
from lm_eval_flips.uncertainty.change_test import ChangeTest, change_test
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.intervals import score_interval
from lm_eval_flips.uncertainty.score import score_values

# MMLU's 57 subjects, and eight more of the shipped suite: triviaqa, hellaswag, lambada_openai,
# arc_easy, piqa, gsm8k, winogrande, arc_challenge.
MMLU = (
    *(
        100,
        135,
        152,
        100,
        265,
        144,
        100,
        100,
        100,
        173,
        102,
        100,
        235,
        114,
        145,
        378,
        126,
        100,
        310,
    ),
    *(
        203,
        100,
        165,
        198,
        193,
        390,
        270,
        238,
        151,
        545,
        216,
        204,
        237,
        223,
        131,
        121,
        108,
        163,
        112,
    ),
    *(
        103,
        234,
        100,
        783,
        346,
        895,
        306,
        311,
        324,
        282,
        1534,
        272,
        612,
        110,
        245,
        201,
        100,
        166,
        171,
    ),
)
SUITE = (*MMLU, 17944, 10042, 5153, 2376, 1838, 1319, 1267, 1172)
ONE_LARGE = (10_042, *(200,) * 9)
TABLE = Path(__file__).with_name("int8_choice_kl.txt")

Shares = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Answers:
    """What the errors and tests of a row ask of a metric whose samples are right or wrong."""

    baseline_correct: Tensor
    compressed_correct: Tensor
    clusters: Tensor
    cluster_field: str | None = None
    higher_is_better: bool = True

    @property
    def baseline_value(self) -> Tensor:
        """1 for right, 0 for wrong."""
        return self.baseline_correct.double()

    @property
    def compressed_value(self) -> Tensor:
        """The same of the compressed run."""
        return self.compressed_correct.double()


def answers(change: NDArray[np.int64], clusters: Tensor, field: str | None = None) -> Answers:
    """Samples that were lost (-1), won (1) or neither (0), half of which are right."""
    moved = torch.from_numpy(change)
    stays = torch.arange(len(change)) % 2 == 0
    return Answers(
        baseline_correct=torch.where(moved == 0, stays, moved < 0),
        compressed_correct=torch.where(moved == 0, stays, moved > 0),
        clusters=clusters,
        cluster_field=field,
    )


def drawn(
    rng: np.random.Generator, *, sizes: Sequence[int], lost: Shares | float, won: Shares | float
) -> list[Answers]:
    """Tasks of independent samples, with each task's shares of losses and gains."""
    lost, won = (np.broadcast_to(share, len(sizes)) for share in (lost, won))
    tasks, start = [], 0
    for size, down, up in zip(sizes, lost, won, strict=True):
        u = rng.random(size)
        change = np.where(u < down, -1, np.where(u < down + up, 1, 0))
        tasks.append(answers(change, torch.arange(start, start + size)))
        start += size
    return tasks


def tested(tasks: Sequence[Answers]) -> tuple[Errors, Flips, ChangeTest]:
    """Errors, flips and test of a row of these tasks."""
    errors = Errors(cast("Any", tasks))
    flips = count_flips(
        baseline_correct=torch.cat([own.baseline_correct for own in tasks]),
        compressed_correct=torch.cat([own.compressed_correct for own in tasks]),
    )
    return errors, flips, change_test(errors, flips, None)


def alarm(tasks: Sequence[Answers]) -> bool:
    """Whether the scores are called different."""
    return tested(tasks)[2].two_sided < 0.05


@dataclass
class Count:
    """How many of some draws showed something."""

    seen: int = 0
    draws: int = 0

    def add(self, shown: bool) -> None:
        """One more draw."""
        self.seen, self.draws = self.seen + bool(shown), self.draws + 1

    @property
    def share(self) -> float:
        """As a share of the draws."""
        return self.seen / self.draws


Draw = Callable[[np.random.Generator], Sequence[Answers]]


def alarms(draw: Draw, draws: int, seed: int = 0) -> float:
    """Share of draws that are called different."""
    rng, count = np.random.default_rng(seed), Count()
    for _ in range(draws):
        count.add(alarm(draw(rng)))
    return count.share


def passes(draw: Draw, margin: float, draws: int, seed: int = 0) -> tuple[float, float, float]:
    """Shares of draws that pass equivalence, that pass max_loss, and that cover -margin."""
    rng, counts = np.random.default_rng(seed), [Count() for _ in range(3)]
    for _ in range(draws):
        errors, flips, test = tested(draw(rng))
        change = score_values(errors.metrics).change
        inner = score_interval(errors, change, flips, test.two_sided, level=0.9)
        outer = score_interval(errors, change, flips, test.two_sided)
        counts[0].add(-margin < inner.low and inner.high < margin)
        counts[1].add(-outer.low <= margin)
        counts[2].add(outer.low <= -margin <= outer.high)
    equivalence, loss, covered = counts
    return equivalence.share, loss.share, covered.share


def uneven(sizes: Sequence[int], spread: float, seed: int) -> Shares:
    """Each task's own net loss: of this spread, and 0 over all samples."""
    own = np.random.default_rng(seed).normal(0, spread, len(sizes))
    centred: Shares = own - np.average(own, weights=sizes)
    return centred


def in_clusters(
    rng: np.random.Generator, *, clusters: int, size: int, worse: float = 0.0
) -> list[Answers]:
    """Samples of a field's values, which lose and gain together; so much is lost over all."""
    lean = rng.normal(0, 0.04, clusters).clip(-0.09, 0.09)[np.repeat(np.arange(clusters), size)]
    u = rng.random(clusters * size)
    change = np.where(u < 0.1 + worse / 2 + lean, -1, np.where(u < 0.2, 1, 0))
    return [answers(change, torch.arange(clusters).repeat_interleave(size), "passage")]


def copies(
    rng: np.random.Generator, *, documents: int, times: int, across: bool, lean: float = 0.0
) -> list[Answers]:
    """Documents that stand several times in one task, or once in each of several."""
    u = rng.random(documents)
    change = np.where(u < 0.05 + lean, -1, np.where(u < 0.1 + lean, 1, 0))
    labels = torch.arange(documents)
    if across:
        return [answers(change, labels) for _ in range(times)]
    return [answers(np.repeat(change, times), labels.repeat_interleave(times))]


@cache
def real_kl() -> Shares:
    """Quantiles of an int8 model's choice KL, of 400 questions, from smallest to largest."""
    table: Shares = np.loadtxt(TABLE)
    return table


def kl_world(name: str) -> tuple[Callable[[np.random.Generator, int], Shares], float]:
    """How to draw distances, and their mean: "int8" or a lognormal of some spread."""
    if name == "int8":
        table = real_kl()
        places = np.linspace(0, 1, len(table))
        mean = float(np.trapezoid(table, places))
        return lambda rng, n: np.interp(rng.random(n), places, table), mean
    spread = float(name)
    return lambda rng, n: rng.lognormal(0, spread, n), exp(spread**2 / 2)


def distances(name: str, n: int, draws: int, seed: int = 0) -> tuple[float, float, float, float]:
    """Coverage, false pass at the mean, pass at twice the mean, and false fail at the mean."""
    (draw, mean), rng = kl_world(name), np.random.default_rng(seed)
    covered, below, passed, failed = (Count() for _ in range(4))
    for _ in range(draws):
        values = torch.from_numpy(draw(rng, n))
        own, error = float(values.mean()), float(values.std()) / n**0.5
        ends = distance_interval(own, error, n - 1, more=one_more(values, samples=n))
        covered.add(ends.low <= mean <= ends.high)
        below.add(ends.high < mean)
        passed.add(ends.high <= 2 * mean)
        failed.add(p_broken("max_choice_kl", own, ends, mean) <= LEVEL)
    return covered.share, below.share, passed.share, failed.share


def rules(draws: int, *, worst: float = 0.03, seed: int = 0) -> float:
    """Share of draws in which some of 57 rules fails; all at their threshold, one at ``worst``."""
    rng, count = np.random.default_rng(seed), Count()
    rates = np.array([worst, *(0.03,) * 56])
    for _ in range(draws):
        counts = rng.binomial(MMLU, rates)
        ps = [
            p_broken("max_flips", int(k) / n, wilson(int(k), n), 0.03)
            for k, n in zip(counts, MMLU, strict=True)
        ]
        count.add(min(holm(ps)) <= LEVEL)
    return count.share


def ranked(sizes: Sequence[int], draws: int, *, worse: float = 0.0, seed: int = 0) -> float:
    """Share of draws in which some two of ten runs are told apart; the last is ``worse``."""
    rng, count = np.random.default_rng(seed), Count()
    for _ in range(draws):
        right = [rng.random(size) < 0.6 for size in sizes]
        runs = []
        for run in range(10):
            lost = 0.05 + (worse if run == 9 else 0.0)
            tasks, start = [], 0
            for number, own in enumerate(right):
                u = rng.random(len(own))
                now = np.where(own, u >= lost / 0.6, u < 0.05 / 0.4)
                tasks.append(
                    TaskScores(
                        task=str(number),
                        filter="none",
                        metric="acc",
                        doc_ids=np.arange(len(own)),
                        scores=torch.from_numpy(now.astype(float)),
                        changed=None,
                        units=None,
                        clusters=torch.arange(start, start + len(own)),
                        cluster_field=None,
                        binary=True,
                        higher_is_better=True,
                    )
                )
                start += len(own)
            runs.append(tasks)
        ranking = rank_runs(runs)
        count.add(ranking is not None and min(ranking.p_values.values()) < 0.05)
    return count.share


def _line(what: str, **shares: float) -> str:
    told = ", ".join(f"{name.replace('_', ' ')} {100 * own:.1f} %" for name, own in shares.items())
    return f"  {what:62s} {told}"


def alarm_lines(draws: int) -> Iterator[str]:
    """False alarms of tests at 5 % two-sided, and what they find."""
    yield "\nfalse alarms (nominal 5 %), and power"
    for name, sizes in (("57 mmlu + 8", SUITE), ("57 mmlu", MMLU), ("10,042 + 9 x 200", ONE_LARGE)):
        count = draws // 4 if sum(sizes) > 20_000 else draws
        lean = uneven(sizes, 0.02, 1).clip(-0.05, 0.05)
        yield _line(
            name,
            no_loss=alarms(partial(drawn, sizes=sizes, lost=0.05, won=0.05), count),
            none_over_all=alarms(partial(drawn, sizes=sizes, lost=0.06 + lean, won=0.06), count),
            found_of_1_point=alarms(partial(drawn, sizes=sizes, lost=0.06, won=0.05), count),
        )
    for times in (2, 8):
        for across in (False, True):
            yield _line(
                f"300 documents in {times} {'tasks' if across else 'samples'} each",
                no_loss=alarms(partial(copies, documents=300, times=times, across=across), draws),
                found_of_5_points=alarms(
                    partial(copies, documents=300, times=times, across=across, lean=0.05), draws
                ),
            )
    for clusters in (2, 3, 5, 8, 12, 30):
        own = partial(in_clusters, clusters=clusters, size=60)
        yield _line(
            f"{clusters} clusters of 60 samples that lean together",
            no_loss=alarms(own, draws),
            found_of_5_points=alarms(partial(own, worse=0.05), draws),
        )


def margin_lines(draws: int) -> Iterator[str]:
    """Decisions exactly at the margin, where all changes are losses."""
    yield "\nall changes losses, exactly at the margin (nominal 5 %, 2.5 %, 95 %)"
    for tasks, n in ((1, 500), (5, 500), (5, 2000), (12, 1200)):
        for margin in (0.005, 0.01, 0.02, 0.05):
            sizes = (n // tasks,) * tasks
            equivalence, loss, covered = passes(
                partial(drawn, sizes=sizes, lost=margin, won=0.0), margin, draws
            )
            yield _line(
                f"{n} samples in {tasks} tasks, margin {margin}",
                equivalence_passes=equivalence,
                max_loss_passes=loss,
                coverage=covered,
            )
    found, _, _ = passes(partial(drawn, sizes=(400,) * 5, lost=0.005, won=0.005), 0.02, draws)
    yield _line("2,000 samples in 5 tasks, no loss, margin 0.02", equivalence_passes=found)


def distance_lines(draws: int) -> Iterator[str]:
    """Means of heavy-tailed distances."""
    yield "\nmeans of distances (nominal 95 %, 2.5 %, 2.5 %), and power"
    for world in ("int8", "1.0", "1.5", "1.9"):
        for n in (100, 300, 1000, 5000):
            covered, passed, twice, failed = distances(world, n, draws)
            yield _line(
                f"{world if world == 'int8' else f'lognormal {world}'}, n = {n}",
                coverage=covered,
                passes_at_the_mean=passed,
                fails_at_the_mean=failed,
                passes_at_twice_the_mean=twice,
            )


def many_lines(draws: int) -> Iterator[str]:
    """Many rules, many runs."""
    yield "\n57 rules on flips (nominal 2.5 %); ten runs alike (nominal 5 %); and power"
    yield _line(
        "57 rules", all_at_threshold=rules(draws), one_three_times_above=rules(draws, worst=0.09)
    )
    for name, sizes in (("10,042 + 9 x 200", ONE_LARGE), ("12 x 200", (200,) * 12)):
        yield _line(
            f"ten runs over {name}",
            told_apart=ranked(sizes, draws // 4),
            one_loses_3_points=ranked(sizes, draws // 4, worse=0.03),
        )


def fault_lines(draws: int) -> Iterator[str]:
    """The whole table, line by line."""
    for part in (alarm_lines, margin_lines, distance_lines, many_lines):
        yield from part(draws)
