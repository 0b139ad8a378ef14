"""Names of the harness's files, of those that ``run`` keeps beside them, and of models."""

from __future__ import annotations

import re

DATE = r"(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)"
RESULTS_NAME = re.compile(rf"(?!samples_).+_{DATE}\.json", re.DOTALL)
SAMPLES_NAME = re.compile(rf"samples_(?P<task>.+)_{DATE}\.jsonl(?P<packed>\.gz|\.zst)?", re.DOTALL)
STATE = "evaluation.json"  # what a run was asked, and how far it is
NOISE_FLOOR = "noise-floor"  # folder of a baseline's second run
OLD_SAMPLES_NAME = re.compile(rf"samples_.+_{DATE}\.json", re.DOTALL)


def own_version() -> str:
    """The version of this package, as it is installed; of a checkout that is not, that it is none.

    Example:
        >>> own_version().split(".")[0].isdigit()
        True
    """
    from importlib.metadata import PackageNotFoundError, version  # takes longer than --help may

    try:
        return version("lm-eval-flips")
    except PackageNotFoundError:
        return "0+not.installed"


def last_name(model: str) -> str:
    r"""A model's name without the folder or account it is in.

    Example:
        >>> last_name("org/model-int4"), last_name("C:\\models\\int4")
        ('model-int4', 'int4')
    """
    return model.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or model
