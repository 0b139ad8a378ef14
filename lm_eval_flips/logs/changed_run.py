"""A run with other numbers in it: the lines and the results JSON of one, written as another run.

Texts, hashes and settings stay as they were; log-likelihoods, the metrics that are given and their
scores are replaced, and everything that says which model it was is taken out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.addresses import refuse_address
from lm_eval_flips.logs.checks import recomputed
from lm_eval_flips.logs.files import read_bytes
from lm_eval_flips.logs.made_from import MADE_FROM, MadeFrom
from lm_eval_flips.logs.metric_columns import PERPLEXITIES
from lm_eval_flips.logs.reading import each_line
from lm_eval_flips.logs.runs import IDENTITY_ARGS, SERVING_ARGS, Run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.secrets import masked

# What a results JSON holds for each task, and what says how long it took and on which machine.
BY_TASK = ("configs", "versions", "n-shot", "n-samples", "higher_is_better", "task_hashes")
LEFT_OUT = ("pretty_env_info", "total_evaluation_time_seconds", "start_time", "end_time", "groups")
NOT_IN_A_NAME = re.compile(r'["<>:/\\|?*\[\] ]+')


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRun:
    """What is written in place of a run.

    Args:
        run: it.
        samples: by task and filter, of all tasks that are kept: with the changed log-likelihoods
            and no metric but those that are kept, with their changed values.
        name: what is written where a model's name stands.
        made: how it was made.
    """

    run: Run
    samples: Mapping[str, Mapping[str, Samples]]
    name: str
    made: MadeFrom

    def write(self, folder: Path) -> Path:
        """Write it into a new folder, whole or not at all; the results JSON.

        Raises:
            FlipsError: the folder holds something, or cannot be written; the run is not one
                results JSON with its samples beside it.
        """
        refuse_taken(folder)
        results = self._results()
        beside = folder.parent / f".lm-eval-flips-{os.getpid()}-{folder.name}.new"
        place = beside / str(results["model_name_sanitized"])
        file = place / f"results_{self.run.date}.json"
        try:
            place.mkdir(parents=True)
            for task in self.samples:
                name = f"samples_{task}_{self.run.date}.jsonl"
                with (place / name).open("w", encoding="utf-8", newline="\n") as lines:
                    lines.writelines(self._lines(task))
            text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
            file.write_text(text, encoding="utf-8")
            if folder.is_dir():
                folder.rmdir()  # an empty one
            beside.rename(folder)
        except (OSError, UnicodeEncodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise FlipsError(f"'{folder}' cannot be written: {why}") from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return folder / place.name / file.name

    def _lines(self, task: str) -> Iterator[str]:
        by_filter = self.samples[task]
        places = {
            int(line): (own, row)
            for own in by_filter.values()
            for row, line in enumerate(own.line.tolist())
        }
        log = next(iter(by_filter.values())).task
        for number, record in each_line(log, places.keys()):
            samples, row = places[number]
            yield json.dumps(_changed(record, samples, row), ensure_ascii=False) + "\n"

    def _results(self) -> dict[str, Any]:
        if len(self.run.results_paths) != 1 or not self.run.date or self.run.results.samples:
            raise FlipsError(
                f"'{self.run.address}' is not one results_*.json with samples_*.jsonl beside it; "
                "name one that is"
            )
        found = masked(json.loads(read_bytes(self.run.results_paths[0])))
        groups = _groups(found.get("group_subtasks") or {}, self.samples)
        kept = {*groups, *self.samples}
        scores = {task: self._scores(task) for task in self.samples}
        for group in groups:  # whose scores are those of the other run
            old = found["results"].get(group, {})
            scores[group] = {key: old[key] for key in ("alias", "name") if key in old}
        for key in BY_TASK:
            if isinstance(found.get(key), dict):
                found[key] = {name: own for name, own in found[key].items() if name in kept}
        for config in found["configs"].values():
            config["metadata"] = _unnamed(config.get("metadata"))
        return {
            **{key: value for key, value in found.items() if key not in LEFT_OUT},
            "results": scores,
            "group_subtasks": groups,
            "config": self._config(found.get("config") or {}),
            "model_source": "lm-eval-flips noise-run",
            "model_name": self.name,
            "model_name_sanitized": NOT_IN_A_NAME.sub("-", self.name),
            MADE_FROM: asdict(self.made),
        }

    def _config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of scoring, without those of a model; its dtype is one of scoring."""
        kept = {
            key: value
            for key, value in config.items()
            if not key.startswith("model_") or key == "model_dtype"
        }
        return {**kept, "model": self.made.what, "model_args": _unnamed(self.run.model_args)}

    def _scores(self, task: str) -> dict[str, Any]:
        logged = self.run.results.results.get(task, {})
        kept = ("name", "alias", "sample_len")
        found: dict[str, Any] = {key: logged[key] for key in kept if key in logged}
        for name, samples in self.samples[task].items():
            for metric, values in samples.metrics.items():
                score = recomputed(samples, metric)
                mean = samples.task.aggregation(metric) == "mean"
                error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
                found[f"{metric},{name}"] = _number(score)
                found[f"{metric}_stderr,{name}"] = _number(float(error) if mean else None)
        return found


def refuse_taken(folder: Path) -> None:
    """Refuse to write into a folder that holds something.

    Raises:
        FlipsError: it does, it is a file, or an address.
    """
    refuse_address(folder, what="--output")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FlipsError(f"'{folder}' is no folder; name a new one")
    if folder.is_dir() and any(folder.iterdir()):
        raise FlipsError(f"'{folder}' holds something already; name a new folder")


def _changed(record: dict[str, Any], samples: Samples, row: int) -> dict[str, Any]:
    """A line with a sample's numbers in it."""
    count = int(samples.choices[row])
    new = samples.loglikelihoods[row, :count].tolist()
    for key in ("resps", "filtered_resps"):
        answers = record.get(key) or []
        answers[:count] = [_response(old, value) for old, value in zip(answers, new, strict=False)]
    gone = [name for name in record["metrics"] if name not in samples.metrics]
    record["metrics"] = [name for name in record["metrics"] if name in samples.metrics]
    for name in gone:
        record.pop(name, None)
    for name, values in samples.metrics.items():
        if name in record["metrics"]:
            value = float(values[row])
            with_units = name in PERPLEXITIES
            record[name] = [value, float(samples.units[name][row])] if with_units else value
    return record


def _response(old: Any, value: float) -> Any:
    """A response as it was logged, with another number: (log-likelihood, greedy) or that alone.

    Whether every token is the likeliest is no longer known.
    """
    if not isinstance(old, list):
        return str(value) if isinstance(old, str) else value
    if old and isinstance(old[0], list):
        return [_response(own, value) for own in old]
    if len(old) < 2:
        return [_response(own, value) for own in old]
    return [_response(old[0], value), "None", *old[2:]]


def _groups(below: Mapping[str, list[str]], tasks: Mapping[str, Any]) -> dict[str, list[str]]:
    """The groups of which a task is left, with what is left of each."""
    found = {name: [part for part in parts if part in tasks] for name, parts in below.items()}
    found = {name: parts for name, parts in found.items() if parts}
    while True:  # groups of groups
        more = {
            name: [part for part in parts if part in tasks or part in found]
            for name, parts in below.items()
        }
        more = {name: parts for name, parts in more.items() if parts}
        if more == found:
            return found
        found = more


def _unnamed(arguments: Any) -> dict[str, Any]:
    """Arguments without those that name a model or a server."""
    named = IDENTITY_ARGS | SERVING_ARGS | {"tokenizer"}
    given = arguments if isinstance(arguments, dict) else {}
    return {key: value for key, value in given.items() if key not in named}


def _number(value: float | None) -> float | str:
    """As the harness has it: "N/A" where there is none."""
    return value if value is not None and np.isfinite(value) else "N/A"
