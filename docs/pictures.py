"""Takes the pictures in docs/images/ anew.

    PYTHONPATH=.:tests:tests/rigs:tests/site python docs/pictures.py

Needs bubblewrap and Chromium, as the tests do, and is run when a check or a report looks different.
"""

import io
import shutil
import tempfile
from pathlib import Path

from browser import Notebook, new_page
from lab import Lab
from PIL import Image
from test_lab import RIGHT, WRONG

from benchmarks.classroom import TOPIC, answered, make_course, submit
from nbjudge.execute_and_mark import close_graders
from nbjudge.grade import grade_class
from nbjudge.reports.read import write_report

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"


def save(png, name):
    """Write a picture with 256 colours, which is half as large and looks the same."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(256).save(IMAGES / name, optimize=True)


def take(student, output, name):
    """The part of the page from the card of the function down to the end of this output."""
    card = student.panel.locator(".jp-MarkdownCell", has_text="2 points").first
    card.scroll_into_view_if_needed()
    output.scroll_into_view_if_needed()
    student.page.mouse.move(0, 0)
    top, bottom = card.bounding_box(), output.bounding_box()
    height = bottom["y"] + bottom["height"] - top["y"]
    clip = {"x": top["x"], "y": top["y"], "width": top["width"], "height": height}
    save(student.page.screenshot(clip=clip), name)


# Wrong answers that nothing explains; two of them are one mistake, written in two ways.
UNKNOWN = [
    "def iwae_bound(log_w):\n    return log_w.mean(0) + log_w.var(0, unbiased=False) / 2",
    "def iwae_bound(log_w):\n"
    "    m, m2 = log_w.mean(0), (log_w**2).mean(0)\n"
    "    return m + (m2 - m**2) / 2",
    "def iwae_bound(log_w):\n    return 0.9 * log_w.sort(0).values[0] + 0.3",
]


def report():
    """Grade a class of such answers, and take what its report says of them."""
    with tempfile.TemporaryDirectory() as folder, new_page() as page:
        course = make_course(Path(folder))
        for student, bound in zip(("lovelace", "noether", "turing"), UNKNOWN, strict=True):
            submit(course, student, answered(course, bound))
        list(grade_class(course, TOPIC, ["lovelace", "noether", "turing"]))
        path, _ = write_report(course, TOPIC)
        page.goto(path.as_uri())
        section = page.locator("section", has_text="Unknown mistakes")
        section.locator("summary").first.click()
        save(section.screenshot(), "unknown-mistakes.png")
        close_graders()


def main():
    """Take all of them."""
    report()
    answers()


def answers():
    """Answer `iwae_bound` wrongly, validate, answer it rightly."""
    with tempfile.TemporaryDirectory() as folder, new_page() as page:
        shutil.copytree(ROOT / "assignments", Path(folder) / "assignments")
        with Lab(Path(folder)) as lab:
            page.set_viewport_size({"width": 1280, "height": 1200})
            student = Notebook(page, lab, "assignments/iwae/iwae.ipynb")
            student.enter("import torch")
            student.run()
            output = student.answer(WRONG, "not yet")
            for hint in ("Hint 1", "Hint 2"):
                output.get_by_text(hint, exact=True).click()
            take(student, output, "check-fails.png")
            dialog = student.validate()
            # The third function is the one with an answer.
            third = dialog.get_by_text("The following cell failed:").nth(2)
            third.evaluate("paragraph => paragraph.scrollIntoView()")
            save(dialog.locator(".jp-Dialog-content").screenshot(), "validate.png")
            dialog.get_by_role("button", name="Ok").click()
            take(student, student.answer(RIGHT, "passed on"), "check-passes.png")


if __name__ == "__main__":
    main()
