"""Chromium as a person's browser: what a page shows, and what happens when one clicks."""

import contextlib
import os
import shutil

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on the PATH")
# In a container root has no sandbox for its browser; what it opens here is our own.
AS_ROOT = ["--no-sandbox"] if os.geteuid() == 0 else []


@contextlib.contextmanager
def new_page(**options):
    """A page of a new headless Chromium, as `playwright` drives it.

    Args:
        **options: of playwright's `Browser.new_page`, such as `color_scheme="dark"`.

    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=AS_ROOT)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        # Beside another test on a slow machine a click can take long; a wrong page never comes.
        page.set_default_timeout(60_000)
        try:
            yield page
        finally:
            browser.close()
