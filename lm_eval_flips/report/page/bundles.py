"""The JavaScript libraries of a page, taken out of the Python packages that hold them."""

from __future__ import annotations

import multiprocessing
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.processes import end_with_parent

NEEDS = ("altair", "itables", "jinja2", "vl_convert")
INSTALL = "pip install 'lm-eval-flips[report]'"
DEFAULT_EXPORT = re.compile(r"export\s*\{[^}]*?([\w$]+) as default[^}]*\};?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundles:
    """Scripts that define ``window.vegaEmbed`` and ``window.DataTable``."""

    vega: str
    tables: str


def refuse_missing(needs: Sequence[str] = NEEDS) -> None:
    """Refuse to begin a report that cannot be finished.

    Raises:
        FlipsError: a package of the extra [report] is not installed.
    """
    missing = [name for name in needs if find_spec(name) is None]
    if missing:
        raise FlipsError(f"a report needs {', '.join(missing)}: {INSTALL}")


def bundles() -> Bundles:
    """Both libraries; takes seconds, see ``BundlesAhead``."""
    return Bundles(vega=vega(), tables=data_tables())


def vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, as vl-convert packs them."""
    import vl_convert

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(function () {{\n{script}\n}})();"


def data_tables() -> str:
    """DataTables as itables ships it: an ES module, made a script that defines one global.

    Raises:
        FlipsError: this version of itables holds something else.
    """
    # not importlib.resources, which would import itables and all that it imports
    spec = find_spec("itables")
    folder = Path(next(iter((spec and spec.submodule_search_locations) or [""])))
    path = folder / "html" / "dt_bundle.js"
    module = path.read_text(encoding="utf-8") if path.is_file() else ""
    exported = DEFAULT_EXPORT.search(module)
    if exported is None:
        raise FlipsError(
            "this version of itables holds no DataTables that is known here; "
            "pip install 'itables>=2.2,<3'"
        )
    script = f"{module[: exported.start()]}window.DataTable = {exported[1]};"
    # the licences stand behind the code
    return f'(function () {{ "use strict";\n{script}\n{module[exported.end() :]}\n}})();'


class BundlesAhead:
    """Makes the bundles in a process of its own, while the caller does something else.

    Raises:
        FlipsError: as ``refuse_missing``.
    """

    def __init__(self) -> None:
        refuse_missing()
        # A fork starts at once, but is only safe before torch has started its threads.
        forks = sys.platform == "linux" and "torch" not in sys.modules
        context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        # a daemon ends with this process, whatever becomes of the comparison
        context.Process(target=_send, args=(sender,), daemon=True).start()
        sender.close()

    def get(self) -> Bundles:
        """The bundles; waits for them."""
        try:
            found: Bundles = self._receiver.recv()
        except (
            EOFError
        ):  # the other process was killed, or failed: then it fails here, and says why
            return bundles()
        return found


def _send(sender: Connection) -> None:
    end_with_parent()
    sender.send(bundles())
    sender.close()
