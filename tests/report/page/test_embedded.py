"""What is put into a page can do no harm, and is still what it was."""

from __future__ import annotations

import base64
import hashlib
import json
from math import inf, nan

import pytest

from lm_eval_flips.report.page.embedded import json_text, plain_number, script_text, security_policy
from tests.generators import reports


@pytest.mark.parametrize("text", reports.HOSTILE.values(), ids=reports.HOSTILE)
def test_no_text_ends_the_element_it_is_in(text: str) -> None:
    """Neither a tag nor a comment is left in the JSON, which reads back as it was."""
    written = json_text({"text": text, text: [text]})
    for sign in "<>&\u2028\u2029":
        assert sign not in written
    assert json.loads(written) == {"text": text, text: [text]}


def test_the_check_can_fail() -> None:
    """Control: plain JSON does hold the end of a script element."""
    assert "</script>" in json.dumps(reports.HOSTILE["end of script"])


def test_numbers_that_json_cannot_hold_are_told_apart() -> None:
    """Undefined and infinite are not the same; they are never written as they are."""
    assert [plain_number(value) for value in (nan, inf, -inf, 0.0)] == [None, "inf", "-inf", 0.0]
    assert plain_number(1 / 3, digits=3) == 0.333
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(nan)


def test_a_script_keeps_its_meaning() -> None:
    """Ends of lines as a browser reads them, no comment of HTML; one with an end is refused."""
    assert script_text("a\r\nb\rc") == "a\nb\nc"
    assert "<!--" not in script_text("x = '<!-- <script>'")
    with pytest.raises(ValueError, match="holds the end of a script element"):
        script_text("x = '</SCRIPT >'")


def test_the_policy_names_each_script_by_its_hash() -> None:
    """The scripts given may run, and nothing may be loaded."""
    policy = security_policy(["alert(1)"])
    digest = base64.b64encode(hashlib.sha256(b"alert(1)").digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-inline" not in policy.split("style-src")[0]
