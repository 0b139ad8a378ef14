"""The installed lm_eval with few of its own tasks, for commands that a test starts.

The harness reads all of its 14,000 YAML files whenever it starts: ten seconds of a processor and
more, for tasks that no test runs. The package is the installed one, file by file; its tasks are
those that `tasks/` of this project names. The test of MMLU runs the whole.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

KEPT = (
    *("arc", "bbh/cot_fewshot", "drop", "gsm8k", "hellaswag", "humaneval", "ifeval", "lambada"),
    *("mbpp", "minerva_math", "mmlu/default", "mmlu_pro", "piqa", "triviaqa", "wikitext"),
    "winogrande",
)


@cache
def short_catalogue() -> Path:
    """A folder to import that lm_eval from; it goes when the tests end."""
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("lm_eval is not installed")
    installed = Path(spec.origin).parent
    folder = Path(tempfile.mkdtemp(prefix="lm_eval-few-tasks-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tasks = folder / "lm_eval" / "tasks"
    tasks.mkdir(parents=True)
    for source, target in ((installed, tasks.parent), (installed / "tasks", tasks)):
        for own in source.iterdir():
            if own.suffix == ".py" or (
                own.is_dir() and source == installed and own.name != "tasks"
            ):
                (target / own.name).symlink_to(own)
    for name in KEPT:
        if (installed / "tasks" / name).is_dir():  # an older harness has fewer
            # a copy: the harness's search does not follow links to folders
            shutil.copytree(installed / "tasks" / name, tasks / name)
    return folder
