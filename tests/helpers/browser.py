"""Headless Chromium for tests and screenshots: Debian's, driven by Playwright; it reaches this machine and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium: install it (Debian: apt-get install chromium) or name it in SELFREWARD_BROWSER"


def find_browser() -> str | None:
    """The program, or None."""
    return os.environ.get("SELFREWARD_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser() -> Iterator[Any]:
    """A started browser. RuntimeError, in one sentence, if there is none."""
    from playwright.sync_api import sync_playwright

    program = find_browser()
    if program is None:
        raise RuntimeError(MISSING)
    # As root, Chromium's sandbox does not start; the pages are ours.
    flags = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield started
        finally:
            started.close()
