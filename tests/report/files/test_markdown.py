"""Names in Markdown are shown as they are, by GitHub's own rules (commonmark's renderer)."""

from __future__ import annotations

import pytest

from lm_eval_flips.report.files.markdown import cell, table

markdown_it = pytest.importorskip("markdown_it")

NAMES = (
    "org/Llama-3-8B-GPTQ-Int4",
    "acc_norm of mmlu_high_school_us_history",
    "a|b",
    "<script>alert(1)</script>",
    "![x](https://example.org/x.png)",
    "[click](javascript:alert(1))",
    "`code` **bold** __init__ ~~gone~~ a*b*c",
    "https://example.org www",
    "&lt;b&gt; # no heading",
    "back\\slash \\| pipe",
    "東京 عربي 🦙",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is(name: str) -> None:
    """In a table's cell: the text of the rendered cell is the name, without any markup in it."""
    rendered = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(
        table(["model", "n"], [[cell(name), "1"]])
    )
    inside = rendered.split('<td style="text-align:left">')[1].split("</td>")[0]
    assert "<" not in inside
    import html

    assert html.unescape(inside) == name


def test_the_check_of_names_can_fail() -> None:
    """Control: as it stands, such a name is markup."""
    rendered = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(
        table(["model", "n"], [["**bold**", "1"]])
    )
    assert "<strong>" in rendered


def test_a_name_cannot_end_its_line() -> None:
    """Line breaks and control characters become spaces."""
    assert cell("a\nb\r\n| c\x00\u202e") == "a b  \\| c"
