"""The README's two pictures of a report, from the quickstart's runs, by headless Chromium.

    python examples/screenshots.py quickstart/report.html examples/pictures

Needs Playwright and Debian's chromium; both are installed by tests/run.sh.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 930
ROWS = 8  # of the changed samples, the first one open


def main() -> None:
    """Take both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(options.report.resolve().as_uri())
        page.wait_for_function("document.querySelectorAll('.chart:not(.drawn)').length === 0")
        page.screenshot(path=options.folder / "report.png")
        page.evaluate("document.querySelector('.page-head').style.position = 'static'")
        top = page.locator("#samples").bounding_box()
        end = page.locator("#sample-table tr.sample").nth(ROWS - 1).bounding_box()
        if top is None or end is None:
            raise SystemExit(f"'{options.report}' shows no changed samples")
        start = top["y"] - 24
        page.screenshot(
            path=options.folder / "flipped-samples.png",
            full_page=True,
            clip={
                "x": 0,
                "y": start,
                "width": WIDTH,
                "height": end["y"] + end["height"] - start,
            },
        )
        browser.close()


if __name__ == "__main__":
    main()
