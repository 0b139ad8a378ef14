"""Do 95 % intervals hold the truth in 95 % of draws, and do tests at 5 % alarm in 5 %? A simulation.

    python tests/benchmarks/coverage.py --draws 2000

Draws samples from a world whose true rates are known, from rare flips to many, measures them with
the package's own code, and counts. Coverage is of intervals that exist; how many do stands beside.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isnan, sqrt
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lm_eval_flips.comparison.pooling import Rows, adjusted, decisions
from lm_eval_flips.comparison.result import Row
from lm_eval_flips.comparison.row import measure
from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.measures.decisions import PooledDecisions
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.pairs.metric import PairedMetric, paired_metric
from tests.benchmarks.faults import fault_lines
from tests.generators.paired import questions

CHOICES = 4
FLOOR = 0.03  # noise of a second run of the baseline
TRUTH = 1_000_000  # samples that the true values are taken from


@dataclass(frozen=True)
class World:
    """Questions of which the baseline gets about half right.

    Each choice's log-likelihood moves by normal noise, in part shared by the samples of a cluster;
    ``worse`` lowers that of the right choice. With ``mirrored`` both runs move alike from a third:
    no run is better.
    """

    noise: float
    worse: float = 0.0
    cluster: int = 1
    shared: float = 0.0
    mirrored: bool = False

    def draw(self, n: int, generator: torch.Generator) -> PairedMetric:
        """Draw n samples, as the package pairs them."""

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        groups = -(-n // self.cluster)
        owner = torch.arange(n) // self.cluster
        # the next task's documents are others
        first = torch.randint(1 << 40, (), generator=generator)
        middle = 1.5 * normal(n, CHOICES)
        gold = torch.where(
            torch.rand(n, generator=generator) < 0.4,
            middle.argmax(-1),
            torch.randint(CHOICES, (n,), generator=generator),
        )

        def moved() -> Tensor:
            own, common = normal(n, CHOICES), normal(groups, CHOICES)[owner]
            return self.noise * (sqrt(1 - self.shared) * own + sqrt(self.shared) * common)

        before = middle + moved() if self.mirrored else middle
        after = middle + moved()
        after[torch.arange(n), gold] -= self.worse
        return as_paired(before, after, gold, first + owner)


@lru_cache
def _template() -> PairedMetric:
    return questions(0, 4).paired()


def as_paired(before: Tensor, after: Tensor, gold: Tensor, clusters: Tensor) -> PairedMetric:
    """Both runs' log-likelihoods as pairs that were read from logs."""
    template, n = _template().pairs, len(before)
    sides = [
        replace(
            side,
            loglikelihoods=scores,
            metrics={"acc": (scores.argmax(-1) == gold).double()},
            answer=torch.zeros(n, 2, dtype=torch.int64),
        )
        for side, scores in ((template.baseline, before), (template.compressed, after))
    ]
    marks = torch.nn.functional.one_hot(gold, CHOICES).bool()
    pairs = replace(
        template,
        doc_ids=torch.arange(n).numpy(),
        baseline=sides[0],
        compressed=sides[1],
        choices=torch.full((n,), CHOICES),
        chars=torch.ones(n, CHOICES, dtype=torch.float64),
        bytes=torch.ones(n, CHOICES, dtype=torch.float64),
        gold=marks,
        clusters=clusters,
    )
    return paired_metric(pairs, "acc")


def second_run(metric: PairedMetric, generator: torch.Generator) -> PairedMetric:
    """The baseline against itself, rounded otherwise: a noise floor of the same samples."""
    pairs = metric.pairs
    before = pairs.baseline.loglikelihoods
    noise = FLOOR * torch.randn(before.shape, generator=generator, dtype=torch.float64)
    gold = pairs.gold.double().argmax(-1)
    return as_paired(before, before + noise, gold, pairs.clusters)


def numbers(row: Row) -> dict[str, float]:
    """The row's numbers that have intervals, by the intervals' names."""
    assert row.flips is not None
    assert row.distances is not None
    assert row.direction is not None
    return {
        "score_change": row.score_change,
        "flips": row.flips.flips,
        "all_flips": row.flips.all_flips,
        "correct_to_incorrect_share": row.flips.share(row.flips.correct_to_incorrect),
        "loss_share": row.direction.loss_share,
        "negative_flip_rate": row.direction.negative_flip_rate,
        "margin_change": row.direction.margin_change,
        "choice_kl": row.distances.choice_kl.mean,
        "choice_kl_median": row.distances.choice_kl.median,
        "choice_kl_p99": row.distances.choice_kl.p99,
        **{f"{name} beyond floor": own.excess for name, own in row.excess.items()},
    }


def interval(row: Row, name: str) -> Interval:
    """The interval of one of these numbers."""
    held = name.removesuffix(" beyond floor")
    return row.intervals[name] if held == name else row.excess[held].interval


@dataclass(frozen=True)
class Coverage:
    """Of ``draws`` intervals, how many there were and how many held the truth."""

    name: str
    truth: float
    draws: int
    given: int
    held: int

    @property
    def share(self) -> float:
        """Intervals that held the truth, as a share of those given."""
        return self.held / self.given if self.given else float("nan")


def coverages(
    world: World,
    n: int,
    *,
    draws: int,
    tasks: int = 1,
    bootstrap: Bootstrap | None = None,
    blind: bool = False,
) -> list[Coverage]:
    """Count how often each interval of a row holds the world's own value.

    ``blind`` takes the samples of a cluster as independent.
    """
    first = torch.Generator().manual_seed(1)
    whole = world.draw(TRUTH, first)
    truth = numbers(measure([whole], name="truth", floors=[second_run(whole, first)]))
    found: dict[str, list[Interval]] = {name: [] for name in truth}
    generator = torch.Generator().manual_seed(2)
    for _ in range(draws):
        parts = [world.draw(n // tasks, generator) for _ in range(tasks)]
        if blind:
            parts = [replace(p, clusters=p.clusters[0] + torch.arange(len(p.rows))) for p in parts]
        floors = [second_run(part, generator) for part in parts]
        row = measure(parts, name="row", bootstrap=bootstrap, floors=floors)
        for name in truth:
            found[name].append(interval(row, name))
    return [_coverage(name, truth[name], ends) for name, ends in found.items()]


def _coverage(name: str, truth: float, ends: Sequence[Interval]) -> Coverage:
    # an end that is nan bounds nothing
    given = [(low, high) for low, high in ends if not (isnan(low) and isnan(high))]
    held = sum(not (truth < low or truth > high) for low, high in given)
    return Coverage(name=name, truth=truth, draws=len(ends), given=len(given), held=held)


def alarms(world: World, n: int, *, draws: int, tasks: int = 1) -> dict[str, float]:
    """How often each test calls two runs different, or the compressed one worse, at 5 %.

    In a world where neither is: the share of draws.
    """
    generator, counts = torch.Generator().manual_seed(3), dict[str, int]()
    plain = Rows(margin=None, bootstrap=None, floor={})
    for _ in range(draws):
        parts = [world.draw(n // tasks, generator) for _ in range(tasks)]
        rows = adjusted(
            [plain.row([part], name=f"task{i}") for i, part in enumerate(parts)], range(tasks)
        )
        pooled = rows[0] if tasks == 1 else plain.row(parts, name="pooled")
        for name, p in _p_values(rows, pooled, decisions(pooled, rows), parts).items():
            counts[name] = counts.get(name, 0) + (p < 0.05)
    return {name: count / draws for name, count in counts.items()}


def _p_values(
    rows: Sequence[Row],
    pooled: Row,
    together: PooledDecisions | None,
    parts: Sequence[PairedMetric],
) -> Mapping[str, float]:
    graded = [_graded(part) for part in parts]
    scores = measure(graded, name="scores")
    found = {
        f"{pooled.test}, two-sided": pooled.p_value,
        f"{pooled.test}, worse": pooled.p_loss,
        f"{scores.test} of scores, two-sided": scores.p_value,
        f"{scores.test} of scores, worse": scores.p_loss,
    }
    if together is not None:
        found |= {
            "Holm, any task": min((row.p_holm for row in rows if row.p_holm < 1), default=1.0),
            "Fisher, worse": together.fisher,
            "largest loss": together.largest,
        }
    return found


def _graded(metric: PairedMetric) -> PairedMetric:
    """The same samples with the probability of the right choice as their score."""
    pairs = metric.pairs
    before, after = (
        (side.loglikelihoods.softmax(-1) * pairs.gold).sum(-1)
        for side in (pairs.baseline, pairs.compressed)
    )
    return replace(
        metric,
        baseline_value=before,
        compressed_value=after,
        baseline_correct=None,
        compressed_correct=None,
        changed=None,
        divergence=None,
    )


SETTINGS: Mapping[str, tuple[World, int, int]] = {
    # world, samples, tasks
    "rare, n = 200": (World(noise=0.03), 200, 1),
    "rare, n = 1,000": (World(noise=0.03), 1000, 1),
    "8-bit, n = 300": (World(noise=0.1), 300, 1),
    "8-bit, n = 2,000": (World(noise=0.1), 2000, 1),
    "4-bit, n = 100": (World(noise=0.5, worse=0.1), 100, 1),
    "4-bit, n = 1,000": (World(noise=0.5, worse=0.1), 1000, 1),
    "4-bit, repeats of 4, n = 800": (World(noise=0.5, worse=0.1, cluster=4, shared=0.6), 800, 1),
    "4-bit, 5 tasks, n = 1,000": (World(noise=0.5, worse=0.1), 1000, 5),
    "4-bit, 20 tasks, n = 2,000": (World(noise=0.5, worse=0.1), 2000, 20),
}
ALIKE: Mapping[str, tuple[World, int, int]] = {
    "rare, n = 300": (World(noise=0.03, mirrored=True), 300, 1),
    "8-bit, n = 300": (World(noise=0.1, mirrored=True), 300, 1),
    "4-bit, n = 60": (World(noise=0.5, mirrored=True), 60, 1),
    "4-bit, n = 1,000": (World(noise=0.5, mirrored=True), 1000, 1),
    "repeats of 4, n = 400": (World(noise=0.5, cluster=4, shared=0.6, mirrored=True), 400, 1),
    "4-bit, 5 tasks, n = 500": (World(noise=0.5, mirrored=True), 500, 5),
    "4-bit, 20 tasks, n = 1,000": (World(noise=0.5, mirrored=True), 1000, 20),
}


def coverage_lines(draws: int) -> Iterator[str]:
    """The table of coverages, setting by setting."""
    for setting, (world, n, tasks) in SETTINGS.items():
        yield f"\n{setting}"
        plain = coverages(world, n, draws=draws, tasks=tasks)
        drawn = coverages(world, n, draws=draws, tasks=tasks, bootstrap=Bootstrap(replicates=1000))
        for own in plain:
            yield _line(own)
        for own in drawn:
            if own.name.startswith("choice_kl"):
                yield _line(replace(own, name=f"{own.name}, bootstrap"))


def _line(own: Coverage) -> str:
    return (
        f"  {own.name:28s} truth {own.truth:9.5f}   coverage {100 * own.share:6.2f} %"
        f"   of {own.given} intervals"
    )


def alarm_lines(draws: int) -> Iterator[str]:
    """The table of false alarms, setting by setting."""
    for setting, (world, n, tasks) in ALIKE.items():
        yield f"\n{setting}"
        for name, share in alarms(world, n, draws=draws, tasks=tasks).items():
            yield f"  {name:34s} {100 * share:6.2f} %"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--only", choices=("coverage", "alarms", "faults"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts: Mapping[str, Callable[[int], Iterator[str]]] = {
        "coverage": coverage_lines,
        "alarms": alarm_lines,
        "faults": fault_lines,
    }
    for name, lines in parts.items():
        if options.only in (None, name):
            print(f"{name}, {options.draws} draws each")
            for line in lines(options.draws):
                print(line, flush=True)


if __name__ == "__main__":
    main()
