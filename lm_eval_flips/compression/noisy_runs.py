"""A run with noise on its log-probabilities: the paper's control for perplexity.

Noise leaves perplexity nearly as it is, since errors of both signs average out, while answers turn
(arXiv 2407.09141, section 5). No model makes such a run: it is made from one, and marked as that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from zlib import crc32

import numpy as np

from lm_eval_flips.compression.families import LOG_NOISE
from lm_eval_flips.compression.log_noise import Floats, correct, noisy
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.changed_run import ChangedRun, refuse_taken
from lm_eval_flips.logs.checks import recomputed
from lm_eval_flips.logs.made_from import MadeFrom, made_from
from lm_eval_flips.logs.metric_columns import PERPLEXITIES
from lm_eval_flips.logs.names import last_name
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.logs.samples import Samples

LOGLIKELIHOODS = PERPLEXITIES | {"perplexity"}  # metrics that log the log-likelihood itself


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyRun:
    """What was written.

    Args:
        results: the results JSON.
        tasks: that were written.
        left_out: what was not, and why: tasks, or single metrics of one that was.
        clipped: log-likelihoods that noise would have carried above 0, and were left at 0.
        requests: how many log-likelihoods there are.
    """

    results: Path
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    clipped: int
    requests: int


def write_noisy_run(
    run: Run, folder: Path, *, sigma: float, seed: int = 0, tasks: str = "*"
) -> NoisyRun:
    """Write a run with seeded noise on its log-likelihoods, and all that follows from them.

    Args:
        run: the one it is made from.
        folder: a new one.
        sigma: standard deviation of the noise on a choice's or a continuation's log-likelihood,
            nats. A whole text's is a sum over its words, and gets sigma times their square root.
        seed: of the noise; each task has its own, whatever others there are.
        tasks: glob of the tasks, or a group.

    Raises:
        FlipsError: sigma is no size, the run was made from another itself, no task's metrics can be
            made anew, or the folder is taken or cannot be written.
    """
    if not 0 <= sigma < inf:
        raise FlipsError(f"sigma is {sigma:g}; give a standard deviation in nats, such as 0.1")
    if seed < 0:
        raise FlipsError(f"the seed is {seed}; give a number from 0")
    refuse_taken(folder)
    if (made := made_from(run.results)) is not None:
        raise FlipsError(f"'{run.address}' is {made.sentence}; give the run it was made from")
    changed: dict[str, Mapping[str, Samples]] = {}
    left_out: list[str] = []
    clipped = requests = 0
    for name in run.select(tasks):
        told: list[str] = []
        found: dict[str, Samples] = {}
        for label, samples in read_samples(run.tasks[name]).items():
            usable = _usable(samples, told)
            if usable:
                found[label] = noisy_samples(samples, usable, sigma=sigma, seed=seed)
                own = found[label].loglikelihoods
                clipped += int(((own == 0) & (samples.loglikelihoods < 0)).sum())
                requests += int(samples.choices.sum())
        left_out += [f"{name}: {why}" for why in dict.fromkeys(told)]
        if found:
            changed[name] = found
    if not changed:
        raise FlipsError(f"'{run.address}' has no task to be made anew: {'; '.join(left_out)}")
    results = ChangedRun(
        run=run,
        samples=changed,
        name=f"{LOG_NOISE} {sigma:g} of {last_name(run.model)}",
        made=MadeFrom(what=LOG_NOISE, run=f"{run.path.parent}", sigma=sigma, seed=seed),
    ).write(folder)
    return NoisyRun(
        results=results,
        tasks=tuple(changed),
        left_out=tuple(left_out),
        clipped=clipped,
        requests=requests,
    )


def noisy_samples(
    samples: Samples, metrics: Mapping[str, Floats], *, sigma: float, seed: int
) -> Samples:
    """Samples with noise, and these metrics as they follow from it.

    Args:
        samples: of one task and filter.
        metrics: those that can be made anew.
        sigma: of the noise on a request's log-likelihood, nats.
        seed: of the noise.
    """
    words = _words(samples) if samples.kind == "rolling" else np.ones(len(samples))
    found = noisy(
        samples.loglikelihoods,
        sizes=sigma * np.sqrt(words),
        seed=[seed, crc32(samples.task.name.encode(errors="surrogatepass"))],
    )
    changed = replace(samples, loglikelihoods=found)
    anew = dict(_metrics(changed))
    return replace(changed, metrics={name: anew[name] for name in metrics}, values={})


def _usable(samples: Samples, told: list[str]) -> dict[str, Floats]:
    """The metrics that can be made anew: those that the rule gives as they were logged."""
    if samples.kind == "text":
        told.append("texts are generated, which noise on log-probabilities does not write anew")
        return {}
    if samples.unusable:
        doc, why = next(iter(samples.unusable.items()))
        told.append(f"doc {doc} has no log-likelihoods to be used ({why})")
        return {}
    known, found = dict(_metrics(samples)), {}
    for name in (*samples.metrics, *samples.values, *sorted(samples.opaque)):
        if name not in known or name not in samples.metrics:
            told.append(f"{name} cannot be made anew from log-likelihoods alone")
        elif not (
            samples.logged[name].all() and np.array_equal(samples.metrics[name], known[name])
        ):
            told.append(f"{name} is not what its log-likelihoods say by the harness's own rule")
        elif recomputed(samples, name) is None:
            told.append(f"{name} is summed up in a way that the results do not name")
        else:
            found[name] = known[name]
    return found


def _metrics(samples: Samples) -> Iterator[tuple[str, Floats]]:
    """What the harness's rules make of log-likelihoods (lm_eval 0.4.13, api/task.py)."""
    values = samples.loglikelihoods
    if samples.kind != "choices":
        yield from ((name, values[:, 0]) for name in LOGLIKELIHOODS)
        return
    own = np.arange(values.shape[1]) < samples.choices[:, None]
    if not samples.gold.any(-1).all():
        return
    yield "acc", correct(values, samples.gold, own)
    for name, lengths in (("acc_norm", samples.chars), ("acc_bytes", samples.bytes)):
        if not np.isnan(lengths[own]).any():
            yield name, correct(values / np.where(own, lengths, 1), samples.gold, own)
    if samples.unconditional is not None:
        yield "acc_mutual_info", correct(values - samples.unconditional, samples.gold, own)


def _words(samples: Samples) -> Floats:
    """Of each text, where a metric logs them; else 1."""
    units = samples.units.get("word_perplexity")
    return np.ones(len(samples)) if units is None or np.isnan(units).any() else units
