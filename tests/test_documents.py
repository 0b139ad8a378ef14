"""The documents: short, whole links, lists of today; and that what checks them can fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import (
    BLOCK,
    DOCUMENTS,
    MAP,
    ROOT,
    path_of,
    printed_by,
    renewed,
    steps,
    with_lists,
)

TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
REPOSITORY = re.search(r'^Repository = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
RAW = "https://raw.githubusercontent.com/"


def links(text: str) -> list[str]:
    """Targets of a document's links and pictures, inline and by reference."""
    inline = re.findall(r"\]\(([^)\s]+)\)", text)
    return inline + re.findall(r"^\[[^\]]+\]: (\S+)$", text, flags=re.MULTILINE)


def test_the_readme_is_short_and_installs_in_the_first_lines() -> None:
    """Whoever opens it sees the install line and the first command without scrolling."""
    lines = TEXTS["README.md"].splitlines()
    assert len(lines) <= 120
    head = "\n".join(lines[:15])
    assert "pip install" in head
    assert "$ lm-eval-flips compare examples/runs/baseline" in head


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_line_is_longer_than_a_page(name: str) -> None:
    """120 characters, but for tables, commands and what these print, which cannot be broken."""
    long = [
        line
        for line in BLOCK.sub("", TEXTS[name]).splitlines()
        if len(line) > 120 and not line.startswith(("|", "$ ", "lm-eval-flips ", "lm_eval "))
    ]
    assert long == []


def test_links_of_the_readme_are_absolute_and_lead_somewhere() -> None:
    """A package index shows the README without the files beside it."""
    assert REPOSITORY is not None
    url = REPOSITORY[1]
    own = (f"{url}/blob/main/", f"{url.replace('https://github.com/', RAW)}/main/")
    for link in links(TEXTS["README.md"]):
        assert link.startswith("https://"), link
        for prefix in own:
            if link.startswith(prefix):
                assert path_of(link.removeprefix(prefix)).exists(), link
    assert sum(link.startswith(own) for link in links(TEXTS["README.md"])) >= 5


@pytest.mark.parametrize("name", ["examples/README.md", ".github/SECURITY.md"])
def test_links_of_the_other_documents_lead_somewhere(name: str) -> None:
    """To a file beside it, a heading, or another site."""
    text = (ROOT / name).read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    }
    for link in links(text):
        if link.startswith("#"):
            assert link[1:] in headings
        elif not link.startswith("https://"):
            assert ((ROOT / name).parent / link).exists(), link


@pytest.mark.parametrize("name", [*DOCUMENTS, MAP])
def test_lists_are_those_of_the_package(name: str) -> None:
    """Rooms and columns as they are today; `python -m tests.documents` renews them."""
    text = path_of(name).read_text(encoding="utf-8")
    assert with_lists(text) == text, f"renew it: python -m tests.documents {name}"


def test_a_list_that_is_not_today_s_is_seen() -> None:
    """Control for the test above."""
    text = "<!-- rooms -->\n| old |\n<!-- end of rooms -->"
    assert with_lists(text) != text
    assert "| `logs/` |" in with_lists(text)


def test_a_block_is_read_as_it_is_shown() -> None:
    """Several commands, one of them over two lines, each with what stands below it."""
    found = list(steps("$ echo one\none\n\n$ echo two \\\n  three\ntwo three\n"))
    assert [step.command for step in found] == ["echo one", "echo two \\\n  three"]
    assert [step.printed.strip() for step in found] == ["one", "two three"]


def test_a_command_sees_a_terminal_of_a_hundred_columns(tmp_path: Path) -> None:
    """And none of this process's own; lines keep no blanks at their ends."""
    code = "import os,sys; print(os.get_terminal_size().columns, sys.stdout.isatty(), ' ')"
    assert printed_by(f'python -c "{code}"', tmp_path) == "100 True\n"


def test_what_a_command_no_longer_prints_is_renewed(tmp_path: Path) -> None:
    """Control for the test of every block: a changed digit is seen, and mended."""
    old = "```console\n$ echo 12.5 %\n12.6 %\n```\n"
    assert renewed(old, tmp_path) == "```console\n$ echo 12.5 %\n12.5 %\n```\n"
    assert renewed(renewed(old, tmp_path), tmp_path) == renewed(old, tmp_path)
