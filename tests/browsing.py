"""Pages as a person meets them: opened from disk in a real, headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
PATIENCE = 30_000  # ms; two cores may be busy
REPORT_DRAWN = (
    "document.querySelectorAll('.chart:not(.drawn)').length === 0 && "
    "document.querySelector('#task-table tbody tr') !== null && "
    "(document.querySelector('#browser').hidden || "
    " document.querySelector('#sample-table tbody tr') !== null)"
)


@dataclass
class Opened:
    """A page with what it said and asked for since it was opened."""

    page: Page
    file: Path
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def is_quiet(self) -> None:
        """Hold that no error and no warning was said, and nothing but the file was read."""
        assert self.said == []
        assert set(self.asked) == {self.file.as_uri()}


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser; skips where there is none, but never in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        reason = "no Chromium to open pages with; apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser,
    file: Path,
    *,
    size: str = "wide",
    scheme: Literal["light", "dark"] = "light",
    fragment: str = "",
    drawn: str | None = REPORT_DRAWN,
) -> Iterator[Opened]:
    """A page in a window of its own, with everything in it drawn; by default a report."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    found = Opened(context.new_page(), file)
    found.page.on("console", lambda message: found.said.append(message.text))
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.on("request", lambda asked: found.asked.append(asked.url.split("#")[0]))
    found.page.goto(file.as_uri() + fragment)
    if drawn is not None:
        found.page.wait_for_function(drawn)
    yield found
    context.close()
