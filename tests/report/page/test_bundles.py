"""The libraries come out of the installed packages, whole; what is missing is one line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import FlipsError
from lm_eval_flips.report.page import bundles
from tests.generators import reports


def test_both_libraries_are_whole_and_define_a_global() -> None:
    """Vega-Embed and DataTables, with their licences."""
    found = reports.libraries()
    assert "window.vegaEmbed=" in found.vega.replace(" ", "")
    assert "window.DataTable = " in found.tables
    assert "export{" not in found.tables.replace(" ", "")
    assert "Bundled license information" in found.tables
    for script in (found.vega, found.tables):
        assert len(script) > 400_000
        assert script.startswith("(function () {")
        assert script.rstrip().endswith("})();")


def test_they_can_be_made_ahead() -> None:
    """In a process of its own, the same."""
    assert bundles.BundlesAhead().get() == reports.libraries()


def test_what_is_missing_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is compared."""
    monkeypatch.setattr(
        bundles, "find_spec", lambda name: None if name == "itables" else find_spec(name)
    )
    with pytest.raises(FlipsError, match=r"a report needs itables: pip install 'lm-eval-flips\["):
        bundles.BundlesAhead()


@pytest.mark.parametrize("content", ["", "const a = 1;"])
def test_an_unknown_itables_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """Without the file, or with another one."""
    if content:
        (tmp_path / "html").mkdir()
        (tmp_path / "html" / "dt_bundle.js").write_text(content)

    class Found:
        submodule_search_locations = (str(tmp_path),)

    def found(name: str) -> Any:
        return Found

    monkeypatch.setattr(bundles, "find_spec", found)
    with pytest.raises(FlipsError, match="holds no DataTables that is known here"):
        bundles.data_tables()
