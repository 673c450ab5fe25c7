"""Chromium as a person's browser: what a page shows, and what one does with mouse and keyboard."""

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


class Notebook:
    """A notebook in JupyterLab, opened by its address, as a student works in it.

    Args:
        page: of a browser.
        lab: the running `Lab`.
        path: of the notebook in its course folder.

    """

    def __init__(self, page, lab, path):
        page.goto(f"{lab.url}lab/tree/{path}?token={lab.token}")
        # A key that is pressed before the kernel is there runs nothing.
        page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()
        self.page = page
        # Those that were open before are there again, behind this one.
        self.panel = page.locator(".jp-NotebookPanel:visible")

    def cell(self, source):
        """The first code cell with this text in its source."""
        editor = self.page.locator(".jp-InputArea", has_text=source)
        return self.panel.locator(".jp-CodeCell", has=editor).first

    def enter(self, source):
        """Put the cursor into a cell and return the cell."""
        cell = self.cell(source)
        cell.locator(".cm-content").click()
        return cell

    def run(self):
        """Run the cell with the cursor, or the one after the last that was run."""
        self.page.keyboard.press("Shift+Enter")

    def answer(self, source, outcome):
        """Replace a function by this one, run it and its check; the check's output.

        Args:
            source: of the function.
            outcome: words of the output to wait for.

        """
        head = source.partition("(")[0]
        self.enter(head)
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(source)
        self.run()
        self.run()
        output = self.cell(f"check({head.removeprefix('def ')})").locator(".jp-OutputArea")
        output.get_by_role("group", name="Check of").filter(has_text=outcome).wait_for()
        return output

    def choose_theme(self, name):
        """Pick a theme in the menu *Settings*."""
        self.page.get_by_role("menuitem", name="Settings").click()
        for label in ("Theme", name):
            item = self.page.locator(".lm-Menu-itemLabel").get_by_text(label, exact=True)
            item.first.click()
        # The theme's style sheet has come.
        self.page.locator(f'body[data-jp-theme-name="{name}"]').wait_for(state="attached")

    def validate(self):
        """Press *Validate* and return its dialog."""
        self.panel.get_by_role("button", name="Validate").click()
        dialog = self.page.get_by_role("dialog")
        dialog.wait_for()
        return dialog
