"""A run on disk: its model, its settings, its tasks and where each one's samples lie.

A run is a results JSON with the samples files of the same date beside it (lm_eval 0.4.7 and
newer), several such pairs that were written task by task, or what ``simple_evaluate`` returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.faults import RunFault
from lm_eval_flips.logs.files import unreadable
from lm_eval_flips.logs.folders import find_files
from lm_eval_flips.logs.groups import leaves_of
from lm_eval_flips.logs.made_from import made_faults
from lm_eval_flips.logs.remote import here
from lm_eval_flips.logs.remote_files import Progress
from lm_eval_flips.logs.results import Results, settings_of
from lm_eval_flips.logs.secrets import is_secret
from lm_eval_flips.logs.task_log import TaskLog, task_log

# Folders of ours in a run's folder: the baseline's states and what it wrote, token by token; a
# compressed run's distances from it, of requests and of what it wrote; what a judge said.
REFERENCE, ANSWERS = "reference", "greedy_answers"
DISTANCES, ANSWER_DISTANCES = "token_distances", "answer_distances"
JUDGEMENTS = "judgements"
OWN_FOLDERS = (REFERENCE, ANSWERS, DISTANCES, ANSWER_DISTANCES, JUDGEMENTS)
# A file of ours there and in a model's folder: how the model was compressed.
RECORD = "compression.json"
# Model arguments that say which model it is, not how it is scored.
IDENTITY_ARGS = frozenset(
    {
        *("pretrained", "peft", "delta", "model", "path", "engine", "revision", "gguf"),
        *("record", "reference", "distances", "positions", "top"),  # where flips-hf writes what
    }
)

# Model arguments that say where a model was served, not how it was scored.
SERVING_ARGS = frozenset({"base_url", "url", "api_base", "endpoint", "host", "port"})


@dataclass(frozen=True)
class Run:
    """One lm_eval run: the model, its settings, and the samples file of each task.

    ``results_paths`` are all results files that were read, none where samples lie alone.
    ``faults`` are what its files say against it, without a look at the samples.
    """

    path: Path
    date: str
    results: Results
    sample_paths: Mapping[str, Path] = field(repr=False)
    results_paths: tuple[Path, ...] = field(default=(), repr=False)
    faults: tuple[RunFault, ...] = field(default=(), repr=False)

    @property
    def address(self) -> str:
        """Where it lies, as it is shown: its path, or the address that it was read from."""
        return f"{self.path}"

    @property
    def model(self) -> str:
        """The model's name as the harness logged it."""
        args = self.model_args
        if file := args.get("gguf"):
            return str(file)  # the harness calls what it has no name for by chance
        given = next((args[key] for key in ("pretrained", "model", "path") if args.get(key)), None)
        return str(self.results.model_name or given or self.path.parent.name)

    @cached_property
    def tasks(self) -> dict[str, TaskLog]:
        """Every task whose samples were logged, by name."""
        return {
            name: task_log(self.results, name, path, keep_requests=self._keeps_requests)
            for name, path in sorted(self.sample_paths.items())
        }

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The leaf tasks of every group of which each leaf's samples were logged."""
        return {
            name: leaves
            for name, leaves in self._leaves.items()
            if leaves and set(leaves) <= set(self.sample_paths)
        }

    @cached_property
    def _leaves(self) -> dict[str, tuple[str, ...]]:
        below = self.results.group_subtasks
        return {name: leaves_of(name, below) for name, children in below.items() if children}

    @cached_property
    def distances(self) -> Path | None:
        """The folder of the distances that flips-hf measured in this run; None if it did not."""
        return self._own_folder(DISTANCES)

    @cached_property
    def answer_distances(self) -> Path | None:
        """The folder of the same distances over the baseline's answers; None if there is none."""
        return self._own_folder(ANSWER_DISTANCES)

    @property
    def _keeps_requests(self) -> bool:
        return self.distances is not None or self.answer_distances is not None

    def _own_folder(self, name: str) -> Path | None:
        folders = [folder / name for folder in (self.path.parent, self.path.parent.parent)]
        return next((folder for folder in folders if folder.is_dir()), None)

    @property
    def judgements(self) -> Path | None:
        """The folder of what a judge said of this run's answers; None if none was asked."""
        return self._own_folder(JUDGEMENTS)

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Where it may be written how the model was compressed: this run's, and its model's."""
        named = self.model_args.get("pretrained") or self.model_args.get("model") or self.model
        return (self.path.parent, self.path.parent.parent, Path(str(named)))

    @property
    def settings(self) -> dict[str, Any]:
        """What changes scores without changing a prompt: run settings, task versions, shots."""
        settings = settings_of(self.results)
        settings |= {
            f"model_args.{name}": value
            for name, value in self.model_args.items()
            if name not in IDENTITY_ARGS | SERVING_ARGS and not is_secret(name)
        }
        versions = self.results.versions
        settings |= {f"version.{task}": versions.get(task) for task in self.sample_paths}
        for task, log in self.tasks.items():
            settings |= {
                f"num_fewshot.{task}": self.results.n_shot.get(task),
                f"output_type.{task}": log.output_type,
                f"target_delimiter.{task}": log.delimiter,
                f"higher_is_better.{task}": dict(log.higher_is_better),
            }
        return settings

    @property
    def model_args(self) -> dict[str, Any]:
        """The model arguments."""
        return self.results.model_args

    @property
    def parameters(self) -> int | None:
        """Number of the model's parameters, as it was loaded; None if it was not logged."""
        count = self.results.config.get("model_num_parameters")
        return count if isinstance(count, int) and count > 0 else None

    @property
    def tokenizer(self) -> str | None:
        """The tokenizer that was named, without its folder; None where it is the model's own."""
        named = self.model_args.get("tokenizer")
        return None if named is None else PurePath(str(named)).name

    @property
    def end_of_text(self) -> str | None:
        """The token that ends texts, by its text and number; None if neither was logged."""
        text = self.results.tokenizer_eos_token
        text = text[0] if isinstance(text, list) and text else text
        known = [str(part) for part in (text, self.results.eot_token_id) if part is not None]
        return f"{' '.join(known):.60}" if known else None

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
        config = self.results.config_of(task).fewshot_config or {}
        return bool(self.results.n_shot.get(task)) and config.get("sampler") != "first_n"

    def select(self, glob: str) -> list[str]:
        """Names of the tasks that match a glob, or that belong to the group of that name.

        Raises:
            FlipsError: there is none.
        """
        leaves = self._leaves.get(glob, ())
        names = [name for name in self.tasks if name in leaves or fnmatchcase(name, glob)]
        if not names:
            raise FlipsError(
                f"no task of '{self.path}' matches '{glob}'; it holds "
                f"{named(list(self.tasks), shown=20)}"
            )
        return names

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the harness that is read of this run."""
        return tuple(dict.fromkeys((self.path, *self.results_paths, *self.sample_paths.values())))


def load_run(path: str | Path, *, progress: Progress | None = None) -> Run:
    """Find the run at ``path``.

    Args:
        path: an output folder of lm_eval, with one run, or several results of one model: of each
            task the newest that has samples, which ``Run.faults`` says; or one `results_*.json` or
            `samples_*.jsonl` (also .gz and .zst) in it; or a dump of what simple_evaluate returned;
            or the address of one of these that fsspec knows, such as s3://bucket/runs/int4.
        progress: of an address, called with the bytes fetched since the last call and in all.

    Raises:
        FlipsError: nothing there, not an lm_eval run, runs of several models or settings, logged
            by lm_eval before 0.4.7, logged without --log_samples, or not to be read.

    Example:
        >>> load_run("runs/none")
        Traceback (most recent call last):
        ...
        lm_eval_flips.errors.FlipsError: 'runs/none' does not exist; give an lm_eval output fol...
    """
    path = here(path, progress=progress)
    try:
        if not path.exists() and not path.is_symlink():
            raise FlipsError(
                f"'{path}' does not exist; give an lm_eval output folder, or a results_*.json or "
                "samples_*.jsonl in it"
            )
        files = find_files(path)
    except (OSError, UnicodeEncodeError) as error:  # a name too long, a folder not to be read
        raise unreadable(path, error) from None
    return Run(
        path=files.path,
        date=files.date,
        results=files.results,
        sample_paths=files.samples,
        results_paths=files.results_paths,
        faults=(*files.faults, *made_faults(files.results)),
    )
