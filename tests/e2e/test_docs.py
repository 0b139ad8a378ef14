"""Every `$` block of the README and the guide, run as a reader would, against all that it prints.

`python -m tests.documents` renews the blocks after a change of what is printed.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, ROOT, blocks, code, printed_by, reader_s_folder, steps

pytestmark = pytest.mark.e2e
BLOCKS = [(name, number) for name in DOCUMENTS for number in range(len(blocks(ROOT / name)))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, in which the blocks of all documents are run in order."""
    return reader_s_folder(tmp_path_factory.mktemp("reader"))


@pytest.mark.parametrize(("name", "number"), BLOCKS)
def test_a_block_prints_what_the_document_shows(name: str, number: int, folder: Path) -> None:
    """The whole of it."""
    for step in steps(blocks(ROOT / name)[number]):
        shown = f"{step.printed.strip(chr(10))}\n"
        printed = printed_by(step.command, folder)
        difference = difflib.unified_diff(
            shown.splitlines(), printed.splitlines(), "shown", "printed", lineterm=""
        )
        assert shown == printed, "\n".join(
            [f"{name}: $ {step.command}", *difference, f"renew: python -m tests.documents {name}"]
        )


def test_the_python_of_the_readme_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints one line for each compressed model."""
    monkeypatch.chdir(folder)
    (block,) = code(ROOT / "README.md", "python")
    exec(block, {})
    assert capsys.readouterr().out.count("SmolLM2-135M-Instruct-int") == 2


def test_every_document_shows_something() -> None:
    """Control: there are blocks, so that the test above is not empty."""
    assert {name for name, _ in BLOCKS} == set(DOCUMENTS)
