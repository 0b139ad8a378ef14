"""A run on disk: finds an lm_eval output folder's files and reads its results JSON.

This room is all that knows the file format
(lm_eval 0.4.7 and newer). A run is one `results_<date>.json` with the
`samples_<task>_<date>.jsonl` of the same date beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.secrets import is_secret, masked, masked_text

T = TypeVar("T")

OLDEST = (0, 4, 7)
# Folders of ours in a run's folder: the baseline's states, and a compressed run's distances.
REFERENCE, DISTANCES = "reference", "token_distances"
DATE = r"(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)"
RESULTS_NAME = re.compile(rf".+_{DATE}\.json")
SAMPLES_NAME = re.compile(rf"samples_(?P<task>.+)_{DATE}\.jsonl")

# What changes scores without changing a prompt, under the names of the results JSON.
SETTINGS = (
    "max_length",
    "batch_size",
    "limit",
    "gen_kwargs",
    "model_dtype",
    "random_seed",
    "numpy_seed",
    "torch_seed",
    "fewshot_seed",
    "lm_eval_version",
    "transformers_version",
    "chat_template_sha",
    "system_instruction_sha",
    "fewshot_as_multiturn",
)
# The harness's aggregation of its own metrics (lm_eval 0.4.13, api/metrics.py).
AGGREGATIONS = {
    **dict.fromkeys(("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"), "mean"),
    **dict.fromkeys(("word_perplexity", "byte_perplexity"), "weighted_perplexity"),
    **{name: name for name in ("bits_per_byte", "perplexity", "f1", "bleu", "chrf", "ter")},
    **{name: name for name in ("chrf++", "brier_score", "bypass")},
    "mcc": "matthews_corrcoef",
}
KNOWN_AGGREGATIONS = frozenset({*AGGREGATIONS.values(), "mean", "nanmean", "median"})
# Model arguments that say which model it is, not how it is scored.
IDENTITY_ARGS = frozenset(
    {
        *("pretrained", "peft", "delta", "model", "path", "engine", "revision"),
        *("record", "reference", "distances", "positions", "top"),  # where flips-hf writes what
    }
)

# Model arguments that say where a model was served, not how it was scored.
SERVING_ARGS = frozenset({"base_url", "url", "api_base", "endpoint", "host", "port"})


class Results(msgspec.Struct, gc=False):
    """The parts of a results JSON that are read."""

    results: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    config: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    group_subtasks: dict[str, list[str]] = {}
    n_shot: dict[str, Any] = msgspec.field(name="n-shot", default_factory=dict)
    higher_is_better: dict[str, dict[str, Any]] = {}
    model_name: str | None = None
    lm_eval_version: str | None = None
    transformers_version: str | None = None
    max_length: Any = None
    chat_template: str | None = None
    chat_template_sha: str | None = None
    system_instruction_sha: str | None = None
    fewshot_as_multiturn: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLog:
    """One task of a run: its samples file and how the harness scored it.

    ``aggregations`` are the configuration's, by metric: a name, or a function's source.
    ``higher_is_better`` holds the metrics of which that is known. ``scores`` are the results',
    under "metric,filter" as the harness writes them.
    ``keep_requests``: each request's key is wanted, to find its distances.
    """

    name: str
    path: Path
    output_type: str | None
    standard_scoring: bool
    delimiter: str
    fewshot_delimiter: str
    num_fewshot: int
    expected: int | None
    lower_is_better: frozenset[str]
    aggregations: Mapping[str, str]
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    keep_requests: bool = False

    def aggregation(self, metric: str) -> str | None:
        """Name of what makes a score of the metric's values: "mean", "nanmean", "f1" ….

        None where the harness does not name it: a function of the task's own, or a metric that
        neither the task's configuration nor the harness's registry knows.
        """
        given = self.aggregations.get(metric) or AGGREGATIONS.get(metric)
        return given if given in KNOWN_AGGREGATIONS else None

    def score(self, metric: str, filter: str) -> float | None:  # noqa: A002  (the harness's word)
        """The score that the results name under a filter; None where they name none."""
        return self.scores.get(f"{metric},{filter}")


@dataclass(frozen=True)
class Run:
    """One lm_eval run: the model, its settings, and the samples file of each task."""

    path: Path
    date: str
    results: Results
    sample_paths: Mapping[str, Path] = field(repr=False)

    @property
    def model(self) -> str:
        """The model's name as the harness logged it."""
        return self.results.model_name or self.path.parent.name

    @cached_property
    def tasks(self) -> dict[str, TaskLog]:
        """Every task whose samples were logged, by name."""
        return {name: self._task(name, path) for name, path in sorted(self.sample_paths.items())}

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The leaf tasks of every group of which each leaf's samples were logged."""
        found = {name: self._leaves(name) for name in self._group_names()}
        return {
            name: leaves
            for name, leaves in found.items()
            if leaves and set(leaves) <= set(self.sample_paths)
        }

    @cached_property
    def distances(self) -> Path | None:
        """The folder of the distances that flips-hf measured in this run; None if it did not."""
        folders = [folder / DISTANCES for folder in (self.path.parent, self.path.parent.parent)]
        return next((folder for folder in folders if folder.is_dir()), None)

    @property
    def settings(self) -> dict[str, Any]:
        """What changes scores without changing a prompt: run settings, task versions, shots."""
        config = self.results.config
        found = {name: config.get(name, getattr(self.results, name, None)) for name in SETTINGS}
        found |= {
            f"model_args.{name}": value
            for name, value in self.model_args.items()
            if name not in IDENTITY_ARGS | SERVING_ARGS and not is_secret(name)
        }
        found |= {f"version.{task}": self.results.versions.get(task) for task in self.sample_paths}
        found |= {
            f"num_fewshot.{task}": self.results.n_shot.get(task) for task in self.sample_paths
        }
        return found

    @property
    def model_args(self) -> dict[str, Any]:
        """The model arguments, which some versions log as one string."""
        args = self.results.config.get("model_args") or {}
        if isinstance(args, dict):
            return args
        return dict(pair.split("=", 1) for pair in str(args).split(",") if "=" in pair)

    @property
    def parameters(self) -> int | None:
        """Number of the model's parameters, as it was loaded; None if it was not logged."""
        count = self.results.config.get("model_num_parameters")
        return count if isinstance(count, int) and count > 0 else None

    @property
    def dtype(self) -> str | None:
        """The model's dtype, such as "torch.bfloat16"; None if it was not logged."""
        return self.results.config.get("model_dtype")

    @property
    def model_sha(self) -> str | None:
        """The commit of the model on the hub; None for a local one."""
        return self.results.config.get("model_sha") or None

    def draws_fewshot(self, task: str) -> bool:
        """Whether a task's few-shot examples were drawn at random, one document after the other.

        Each document's then depend on how many came before it: a run of other documents, as of
        --samples, or on several ranks, has other examples (lm_eval 0.4.13, api/samplers.py).
        """
        config = self.results.configs.get(task, {}).get("fewshot_config") or {}
        return bool(self.results.n_shot.get(task)) and config.get("sampler") != "first_n"

    def select(self, glob: str) -> list[str]:
        """Names of the tasks that match a glob, or that belong to the group of that name.

        Raises:
            FlipsError: there is none.
        """
        leaves = self._leaves(glob) if glob in self._group_names() else ()
        names = [name for name in self.tasks if name in leaves or fnmatchcase(name, glob)]
        if not names:
            raise FlipsError(
                f"no task of '{self.path}' matches '{glob}'; it holds "
                f"{named(list(self.tasks), shown=20)}"
            )
        return names

    def _group_names(self) -> list[str]:
        return [name for name, children in self.results.group_subtasks.items() if children]

    def _leaves(self, name: str, above: frozenset[str] = frozenset()) -> tuple[str, ...]:
        children = self.results.group_subtasks.get(name) or []
        if name in above:  # a circle
            return ()
        if not children:
            return (name,)
        leaves = (leaf for child in children for leaf in self._leaves(child, above | {name}))
        return tuple(dict.fromkeys(leaves))

    def _task(self, name: str, path: Path) -> TaskLog:
        config = self.results.configs.get(name, {})
        metrics = [m for m in config.get("metric_list") or [] if isinstance(m, dict)]
        better = self.results.higher_is_better.get(name, {})
        return TaskLog(
            name=name,
            path=path,
            output_type=config.get("output_type"),
            standard_scoring=not config.get("process_results"),
            delimiter=_target_delimiter(config, chat=bool(self.results.chat_template)),
            fewshot_delimiter=config.get("fewshot_delimiter") or "\n\n",
            num_fewshot=int(self.results.n_shot.get(name) or 0),
            # n-samples counts the whole data set under --samples up to lm_eval 0.4.11
            expected=self.results.results.get(name, {}).get("sample_len"),
            lower_is_better=frozenset(m for m, up in better.items() if up is False),
            aggregations={str(m.get("metric")): str(m.get("aggregation", "")) for m in metrics},
            higher_is_better={m: up for m, up in better.items() if isinstance(up, bool)},
            scores={
                key: float(score)
                for key, score in self.results.results.get(name, {}).items()
                if "," in key and isinstance(score, (int, float))
            },
            keep_requests=self.distances is not None,
        )


def _target_delimiter(config: Mapping[str, Any], *, chat: bool) -> str:
    # The harness's rule: a chat template brings its own space, unless the answer goes on from a
    # gen_prefix that does not end in one (lm_eval 0.4.13, api/task.py:1376).
    delimiter = str(config.get("target_delimiter", " "))
    prefix = config.get("gen_prefix")
    if chat and (not prefix or str(prefix)[-1:].isspace()):
        return ""
    return delimiter


def load_run(path: str | Path) -> Run:
    """Find the run at ``path``.

    Args:
        path: an output folder of lm_eval (with one run, or several of one model: the newest), or
            one `results_*.json` or `samples_*.jsonl` in it.

    Raises:
        FlipsError: nothing there, not an lm_eval run, runs of several models, logged by lm_eval
            before 0.4.7, or logged without --log_samples.

    Example:
        >>> load_run("runs/none")
        Traceback (most recent call last):
        ...
        lm_eval_flips.errors.FlipsError: 'runs/none' does not exist; give an lm_eval output fol...
    """
    path = Path(path)
    if not path.exists():
        raise FlipsError(
            f"'{path}' does not exist; give an lm_eval output folder, or a results_*.json or "
            "samples_*.jsonl in it"
        )
    if path.is_dir():
        return _require_samples(_newest(path))
    if match := SAMPLES_NAME.fullmatch(path.name):
        return _run_of_samples(path, task=match["task"], date=match["date"])
    if path.suffix == ".json":
        return _require_samples(_run_of_results(path))
    raise FlipsError(
        f"'{path}' is not a file that lm_eval wrote; give an output folder, or a results_*.json or "
        "samples_*.jsonl in it"
    )


def _newest(folder: Path) -> Run:
    files = [
        file
        for pattern in ("*.json", "*/*.json")
        for file in sorted(folder.glob(pattern))
        if RESULTS_NAME.fullmatch(file.name)
    ]
    if not files:
        loose = sorted(folder.glob("samples_*.jsonl"))
        if loose:
            raise FlipsError(
                f"'{folder}' has samples but no results_*.json; give one samples file instead, "
                f"such as '{loose[0]}'"
            )
        deeper = sorted({str(file.parent.parent) for file in folder.glob("*/*/results_*.json")})
        if deeper:
            raise FlipsError(f"'{folder}' holds several runs; give one of them: {named(deeper)}")
        raise FlipsError(
            f"'{folder}' holds no results_*.json of lm_eval; run lm_eval with --log_samples "
            "--output_path and give that folder"
        )
    runs = sorted((_run_of_results(file) for file in files), key=lambda run: run.date)
    newest = runs[-1]
    others = [run for run in runs if not _same_work(run, newest)]
    if others:
        listing = "\n".join(
            f"  {run.path}  {run.model}  {run.results.config.get('model_args')}  "
            f"({named(list(run.sample_paths) or ['no samples'], shown=3)})"
            for run in runs
        )
        raise FlipsError(
            f"'{folder}' holds {len(runs)} runs of different models or tasks; name the results "
            f"file of one of them:\n{listing}"
        )
    return newest


def _same_work(run: Run, newest: Run) -> bool:
    """Whether the newest run repeats this one: the same model, and nothing left out."""
    return (
        run.model == newest.model
        and run.model_args == newest.model_args
        and run.sample_paths.keys() <= newest.sample_paths.keys()
    )


def _run_of_results(path: Path) -> Run:
    match = RESULTS_NAME.fullmatch(path.name)
    date = match["date"] if match else ""
    samples = {
        found["task"]: file
        for file in path.parent.glob(f"samples_*_{date}.jsonl")
        if (found := SAMPLES_NAME.fullmatch(file.name))
    }
    return Run(path=path, date=date, results=_read_results(path), sample_paths=samples)


def _run_of_samples(path: Path, *, task: str, date: str) -> Run:
    beside = [
        file for file in path.parent.glob(f"*_{date}.json") if RESULTS_NAME.fullmatch(file.name)
    ]
    results = _read_results(beside[0]) if beside else Results(results={}, configs={})
    return Run(path=path, date=date, results=results, sample_paths={task: path})


def _read_results(path: Path) -> Results:
    content = path.read_bytes()
    try:
        results = decode_json(content, Results)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FlipsError(f"'{path}' is not a results file of lm_eval: {error}") from None
    version = results.lm_eval_version or ""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    keys = [key for scores in results.results.values() for key in scores]
    if (numbers and numbers < OLDEST) or not any("," in key for key in keys):
        raise FlipsError(
            f"'{path}' was written by lm_eval {version or '< 0.4.7'}, which does not log what "
            "pairing needs; rerun with lm_eval >= 0.4.7"
        )
    # here, so that what anyone makes of a run holds no secret
    results.config = masked(results.config)
    if results.model_name is not None:
        results.model_name = masked_text(results.model_name)
    return results


def decode_json(content: bytes, kind: type[T]) -> T:
    """Decode JSON as the harness writes it: strict first, else with Python's NaN and Infinity."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        try:
            loose = json.loads(content)
        except ValueError:
            raise error from None
        return msgspec.convert(loose, kind)


def _require_samples(run: Run) -> Run:
    if not run.sample_paths:
        raise FlipsError(
            f"'{run.path}' has no samples_*.jsonl of the same date beside it; rerun lm_eval with "
            "--log_samples"
        )
    return run
