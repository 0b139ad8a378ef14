"""`--plots` of the verb that compares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_flips.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lm_eval_flips.comparison.result import Comparison


class PlotsAhead:
    """A folder of plots that is seen to before the comparison, which takes longer.

    Raises:
        FlipsError: it holds pictures already, or the extra [report] is not installed.
    """

    def __init__(self, folder: Path, *, overwrite: bool) -> None:
        from lm_eval_flips.report.files.plots import refuse_plots

        refuse_plots(folder, overwrite=overwrite)
        self._folder, self._overwrite = folder, overwrite

    def write(self, comparison: Comparison, *, sizes: Mapping[str, int] | None = None) -> None:
        """Write the plots, and print how many."""
        from lm_eval_flips.report.files.plots import write_plots

        files = write_plots(comparison, self._folder, overwrite=self._overwrite, sizes=sizes)
        if files:
            say(f"wrote {len(files)} pictures to {self._folder}")
        else:
            say(f"no chart has data here: nothing was written to {self._folder}")
