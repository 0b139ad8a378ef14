"""A results JSON: the parts of it that are read, each of the type that the harness writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.files import read_bytes
from lm_eval_flips.logs.secrets import masked, masked_text

T = TypeVar("T")

OLDEST = (0, 4, 7)

# The harness's aggregation of its own metrics (lm_eval 0.4.13, api/metrics.py).
AGGREGATIONS = {
    **dict.fromkeys(("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"), "mean"),
    **dict.fromkeys(("word_perplexity", "byte_perplexity"), "weighted_perplexity"),
    **{name: name for name in ("bits_per_byte", "perplexity", "f1", "bleu", "chrf", "ter")},
    **{name: name for name in ("chrf++", "brier_score", "bypass")},
    "mcc": "matthews_corrcoef",
}
KNOWN_AGGREGATIONS = frozenset({*AGGREGATIONS.values(), "mean", "nanmean", "median"})

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


class TaskConfig(msgspec.Struct, gc=False):
    """The parts of a task's configuration that are read."""

    output_type: str | None = None
    process_results: Any = None
    target_delimiter: str = " "
    fewshot_delimiter: str | None = None
    gen_prefix: str | None = None
    metric_list: list[dict[str, Any]] | None = None
    filter_list: Any = None
    fewshot_config: dict[str, Any] | None = None
    repeats: Any = 1
    dataset_path: Any = None
    dataset_name: Any = None
    dataset_kwargs: Any = None


class Results(msgspec.Struct, gc=False):
    """The parts of a results JSON that are read.

    ``samples`` is there in a dump of what ``simple_evaluate`` returns: the tasks it holds.
    """

    results: dict[str, dict[str, Any]]
    configs: dict[str, TaskConfig]
    config: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    group_subtasks: dict[str, list[str]] = {}
    n_shot: dict[str, int | None] = msgspec.field(name="n-shot", default_factory=dict)
    n_samples: dict[str, dict[str, int | None]] = msgspec.field(
        name="n-samples", default_factory=dict
    )
    higher_is_better: dict[str, dict[str, bool | None]] = {}
    samples: dict[str, Any] = {}
    model_name: str | None = None
    lm_eval_version: str | None = None
    transformers_version: str | None = None
    max_length: Any = None
    tokenizer_eos_token: Any = None
    eot_token_id: Any = None
    chat_template: Any = None
    chat_template_sha: str | None = None
    system_instruction_sha: str | None = None
    fewshot_as_multiturn: Any = None
    made_from: dict[str, Any] | None = None  # what we wrote, and no model

    @property
    def model_args(self) -> dict[str, Any]:
        """The model arguments, which some versions log as one string."""
        args = self.config.get("model_args") or {}
        if isinstance(args, dict):
            return args
        return dict(pair.split("=", 1) for pair in str(args).split(",") if "=" in pair)

    @property
    def leaves(self) -> list[str]:
        """The tasks that were scored; groups are none."""
        return [
            name
            for name in self.results
            if name in self.configs and not self.group_subtasks.get(name)
        ]

    def config_of(self, task: str) -> TaskConfig:
        """A task's configuration; that of a plain one where it was not logged."""
        return self.configs.get(task) or TaskConfig()

    def sample_len(self, task: str) -> int | None:
        """Number of samples that a task's score counts; None where it is not said."""
        count = self.results.get(task, {}).get("sample_len")
        return count if isinstance(count, int) else None


def read_results(path: Path) -> Results:
    """Read a results JSON.

    Raises:
        FlipsError: it cannot be read, is none, or was written by lm_eval before 0.4.7.
    """
    if path.name.startswith("samples_"):
        raise old_samples(path)
    content = read_bytes(path)
    try:
        results = decode_json(content, Results)
        _refuse_odd(results)
        # here, so that what anyone makes of a run holds no secret
        results.config = masked(results.config)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeError) as error:
        raise FlipsError(f"'{path}' is not a results file of lm_eval: {error}") from None
    except RecursionError:
        raise FlipsError(
            f"'{path}' is not a results file of lm_eval: it is nested too deep"
        ) from None
    version = results.lm_eval_version or ""
    numbers = tuple(int(part) for part in re.findall(r"\d{1,9}", version)[:3])
    keys = [key for scores in results.results.values() for key in scores]
    if (numbers and numbers < OLDEST) or not any("," in key for key in keys):
        raise FlipsError(
            f"'{path}' was written by lm_eval {version or '< 0.4.7'}, which does not log what "
            "pairing needs; rerun with lm_eval >= 0.4.7"
        )
    if results.model_name is not None:
        results.model_name = masked_text(results.model_name)
    results.samples = dict.fromkeys(results.samples)
    return results


def settings_of(results: Results) -> dict[str, Any]:
    """What changes scores without changing a prompt, of the whole run."""
    return {name: results.config.get(name, getattr(results, name, None)) for name in SETTINGS}


def unnameable(name: str) -> bool:
    """Whether a name holds what no file can be called by; other odd letters are made printable."""
    return "\0" in name


def old_samples(path: Path) -> FlipsError:
    """What to raise for a samples file that the first versions wrote as one JSON array."""
    return FlipsError(
        f"'{path}' was written by lm_eval <= 0.4.3 (samples as .json), which does not log what "
        "pairing needs; rerun with lm_eval >= 0.4.7 and --log_samples"
    )


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


def _refuse_odd(results: Results) -> None:
    """Refuse what has the right type and still cannot be: the names are written out later."""
    names = [*results.results, *results.configs, *results.group_subtasks, results.model_name or ""]
    names += [key for scores in results.results.values() for key in scores]
    for name in names:
        name.encode()  # half a surrogate pair raises here
        if unnameable(name):
            raise msgspec.ValidationError(f"a name holds a null character: {name!r:.60}")
    for task, scores in results.results.items():
        count = scores.get("sample_len")
        if count is not None and (not isinstance(count, int) or isinstance(count, bool)):
            raise msgspec.ValidationError(
                f"Expected `int`, got {count!r:.40} - at `$.results[{task!r}].sample_len`"
            )
