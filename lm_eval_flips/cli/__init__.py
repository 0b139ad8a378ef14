"""The command line: verbs, printing, exit codes. No arithmetic. One file a verb.

Exit codes: 0 done, 2 misuse or input that cannot be judged. Heavy modules are imported by the verb
that needs them, so that --help answers at once.
"""

from __future__ import annotations

import gc
import sys

from lm_eval_flips.cli import (  # noqa: F401  (each adds its verb)
    compare,
    compress,
    evaluate,
    gate,
    judge,
    layers,
    leaderboard,
    measure_answers,
    noise_run,
    plan,
    report,
    run,
    tasks,
)
from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.output import say
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.secrets import masked_text
from lm_eval_flips.report.printable import visible_lines


def main() -> None:
    """Run the command line; a FlipsError is printed without a traceback and exits with 2."""
    try:
        app()
    except FlipsError as error:
        for line in visible_lines(f"error: {masked_text(str(error))}"):
            say(line, error=True)
        sys.exit(2)
    finally:
        # the last collection of all that torch made takes a tenth of a comparison's time
        gc.freeze()
