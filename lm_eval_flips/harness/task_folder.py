"""Where the group YAMLs lie, in a wheel and in an editable install."""

from __future__ import annotations

from pathlib import Path

from lm_eval_flips.errors import FlipsError


def task_folder() -> Path:
    """The folder to give to lm_eval as --include_path.

    Raises:
        FlipsError: the package was installed without its tasks.

    Example:
        >>> (task_folder() / "flips_mmlu.yaml").exists()
        True
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "tasks", package.parent / "tasks"):
        if (folder / "flips.yaml").exists():
            return folder
    raise FlipsError("the flip tasks are not installed; reinstall lm-eval-flips")
