"""What was compared: the runs of a page, as their logs describe them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from lm_eval_flips.comparison.result import Comparison, RunComparison, RunSummary
from lm_eval_flips.logs.names import last_name
from lm_eval_flips.report.text.drawn import runs_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which run it was: model, date of the evaluation, versions; – where the log does not tell."""

    role: str
    model: str
    run: str
    evaluated: str
    samples: str
    settings: tuple[tuple[str, str], ...]


def sources(comparison: Comparison) -> list[Source]:
    """The runs that were compared, the baseline first, as their logs describe them."""
    runs: list[tuple[str, RunSummary | RunComparison]] = [("baseline", comparison.baseline)]
    if comparison.noise_floor is not None:
        runs.append(("noise floor", comparison.noise_floor))
    runs += [("compressed", run) for run in comparison.compressed]
    return [_source(role, run) for role, run in runs]


def _source(role: str, summary: RunSummary | RunComparison) -> Source:
    run = summary.run
    settings = run.settings
    names = {
        "lm_eval": "lm_eval_version",
        "transformers": "transformers_version",
        "dtype": "model_dtype",
        "batch": "batch_size",
    }
    found = {label: settings.get(name) for label, name in names.items()}
    found["dtype"] = found["dtype"] or run.model_args.get("dtype")
    # lm_eval writes <output folder>/<model>/results_<date>.json
    folders = PurePath(summary.path).parts[:-2]
    return Source(
        role=role,
        model=last_name(summary.model),
        run=runs_text(folders[-1] if folders else "", others=summary.others),
        evaluated=run.date[:10],
        samples=f"{summary.pooled.n:,}" if isinstance(summary, RunComparison) else "",
        settings=tuple(
            (label, str(value or "").removeprefix("torch.")) for label, value in found.items()
        ),
    )
