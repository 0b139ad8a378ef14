"""The harness's own `run` command, with the plug-in's model and metrics registered."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lm_eval.__main__ import cli_evaluate

# Importing them registers the models and the metrics.
from lm_eval_flips.harness import plugin
from lm_eval_flips.harness.models import registered

__all__ = ["evaluate", "plugin", "registered"]


def evaluate(arguments: Sequence[str]) -> None:
    """Run ``lm_eval run`` with these arguments.

    Args:
        arguments: as on the command line of ``lm_eval run``.

    Raises:
        HarnessError: the plug-in cannot do what is asked for.
        SystemExit: the harness's own way to refuse arguments.
    """
    sys.argv = ["lm_eval", "run", *arguments]  # the harness's command line reads them there
    cli_evaluate()
