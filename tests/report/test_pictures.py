"""The README's pictures: made by the example, and the committed ones are clean."""

from __future__ import annotations

import runpy
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.generators.many_tasks import write_many

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_pictures_are_made_from_a_folder_of_runs(tmp_path: Path) -> None:
    """Every picture is written, its caption printed; again gives the same bytes."""
    write_many(tmp_path / "runs", tasks=2, samples=60, compressed=2)
    command = [sys.executable, str(EXAMPLES / "pictures.py"), str(tmp_path / "runs"), "--output"]
    printed = []
    for place in ("a", "b"):
        done = subprocess.run(
            [*command, str(tmp_path / place)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    names = runpy.run_path(str(EXAMPLES / "pictures.py"))["PICTURES"]
    assert [line.split(".svg: ")[0] for line in printed[0].splitlines()] == list(names)
    for name in names:
        ours, again = ((tmp_path / place / f"{name}.svg").read_bytes() for place in ("a", "b"))
        assert ours == again
        assert str(tmp_path).encode() not in ours


def test_the_committed_pictures_are_those_and_name_no_machine() -> None:
    """Well-formed, on white, without paths."""
    names = runpy.run_path(str(EXAMPLES / "pictures.py"))["PICTURES"]
    files = sorted((EXAMPLES / "pictures").glob("*.svg"))
    assert [file.name for file in files] == sorted(f"{name}.svg" for name in names)
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert ET.fromstring(text).tag.endswith("svg")
        assert not any(place in text for place in ("/tmp", "/home", "/root", "/work", "C:\\"))
