"""Group YAMLs that put FlipsTask over any task, group, tag or glob of lm_eval's catalogue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from lm_eval.tasks import TaskManager

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.pairs.sample_values import AGGREGATED

TASK_CLASS = "!function lm_eval_flips.harness.task.FlipsTask"
AVERAGED = tuple(key for key, value in AGGREGATED.items() if value.grouped)


def group_files(names: Sequence[str], *, include_path: Path | None = None) -> dict[str, str]:
    """The YAML of a `flips_NAME` group for each name.

    Args:
        names: tasks, groups, tags or globs of the catalogue; a glob makes one group of the tasks
            that match it.
        include_path: a further folder of task YAMLs.

    Returns:
        Group names and their YAML.

    Raises:
        FlipsError: a name is unknown, or built by a class of its own; the folder does not exist.
    """
    if include_path is not None and not include_path.is_dir():
        raise FlipsError(f"'{include_path}' is no folder; give one that holds task YAMLs")
    manager = TaskManager(include_path=None if include_path is None else str(include_path))
    return {
        f"flips_{_file_name(name)}": _group_yaml(
            f"flips_{_file_name(name)}", _members(manager, name)
        )
        for name in names
    }


def _members(manager: TaskManager, name: str) -> list[str]:
    index = manager.task_index
    if name in index and name in manager.all_groups:
        return [f"group: {name}"]
    if name in manager.all_tags:
        leaves = sorted(index[name].tags)
    elif name in index:
        leaves = [name]
    else:
        matches = set(manager.match_tasks([name]))
        leaves = [leaf for leaf in manager.all_subtasks if leaf in matches]
        if not leaves and matches:
            return [f"group: {group}" for group in manager.all_groups if group in matches]
    if not leaves:
        close = get_close_matches(name, manager.all_tasks, n=3)
        hint = f"did you mean {named(close)}?" if close else "lm_eval ls tasks lists them"
        raise FlipsError(f"no task, group or tag of the catalogue matches '{name}'; {hint}")
    _refuse_classes(manager, leaves)
    return [f"task: {leaf}" for leaf in leaves]


def _refuse_classes(manager: TaskManager, leaves: Sequence[str]) -> None:
    built = [leaf for leaf in leaves if manager.task_index[leaf].kind.name == "PY_TASK"]
    if built:
        raise FlipsError(
            f"{named(built)} {'is' if len(built) == 1 else 'are'} built by a class of its own, "
            "which FlipsTask would replace; run it as it is in both runs and use lm-eval-flips "
            "compare"
        )


def _group_yaml(group: str, members: Sequence[str]) -> str:
    lines = [f"group: {group}", "task:"]
    for member in members:
        lines += [f"  - {member}", f"    class: {TASK_CLASS}"]
    lines.append("aggregate_metric_list:")
    for metric in AVERAGED:
        lines += [f"  - metric: {metric}", "    weight_by_size: true"]
    return "\n".join([*lines, "metadata:", "  version: 1.0", ""])


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")
