"""A student's first day in JupyterLab: a wrong answer, what is said of it, and a right one."""

import re
import shutil
import textwrap

import nbformat
import numpy as np
import pytest
from browser import Notebook, needs_chromium, new_page
from colors import contrast, over
from conftest import ROOT
from lab import Lab

pytestmark = needs_chromium

WRONG = "def iwae_bound(log_w):\n    return log_w.mean(0)"
SENTENCE = "You average the logs, which is the ELBO"
RIGHT = "def iwae_bound(log_w):\n    return log_w.logsumexp(0) - math.log(log_w.shape[0])"
SUCCESS = "Success! Your notebook passes all the tests."
OTHER = "def multi_sample_elbo(log_w):\n    return log_w.mean(0)"
# Two functions of the assignment, so that it validates in seconds.
KEPT = re.compile(r"title|imports|closing|(iwae_bound|multi_sample_elbo)-(card|solution|check)")

# Every piece of text of an element with its colour, and the background and opacity of all that
# it lies on, from the page inwards; then the colour of the bar.
COLORS = """element => {
  const lying = (node) => {
    const layers = [];
    for (; node; node = node.parentElement) {
      const style = getComputedStyle(node);
      layers.unshift([style.backgroundColor, Number(style.opacity)]);
    }
    return layers;
  };
  const found = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), node = walker.currentNode.parentElement;
    if (text) found.push([text, getComputedStyle(node).color, lying(node)]);
  }
  const bar = element.querySelector("[role=group]");
  found.push(["the bar", getComputedStyle(bar).borderLeftColor, lying(bar)]);
  return found;
}"""


def contrasts(element):
    """The contrast of each piece of text of a check's output, and of its bar."""
    found = {}
    for text, color, layers in element.evaluate(COLORS):
        ground, opacity = (1.0, 1.0, 1.0), 1.0
        for background, of_layer in layers:
            opacity *= of_layer
            ground = over(ground, background, opacity)
        found[text] = contrast(np.clip(over(ground, color, opacity), 0, 1), ground)
    return found


class FirstDay:
    """What the student reads, in the order of the day."""

    def __init__(self, folder):
        shutil.copy(ROOT / "nbgrader_config.py", folder)
        path = folder / "iwae.ipynb"
        notebook = nbformat.read(ROOT / "assignments" / "iwae" / "iwae.ipynb", as_version=4)
        notebook.cells = [cell for cell in notebook.cells if KEPT.fullmatch(cell.id)]
        nbformat.write(notebook, path)
        with Lab(folder) as lab, new_page() as page:
            student = Notebook(page, lab, path.name)
            imports = student.enter("import torch")
            student.run()
            imports.get_by_text("[1]:").wait_for()
            self.fail(student)
            # Somebody else's notebook, which this JupyterLab has not signed.
            text = path.read_text().replace("Importance weighted", "Unequally weighted")
            (folder / "other.ipynb").write_text(text)
            self.succeed(student)
            other = Notebook(page, lab, "other.ipynb")
            shown = other.cell("check(iwae_bound)").locator(".jp-OutputArea")
            shown.get_by_text(SENTENCE).first.wait_for()
            self.untrusted = shown.aria_snapshot()

    def fail(self, student):
        output = student.answer(WRONG, "not yet")
        self.failure = output.aria_snapshot()
        self.contrasts = {"failure, light": contrasts(output)}
        keyboard, summaries = student.page.keyboard, output.locator("summary")
        self.hints = [summaries.count()]
        # From the cell that comes after the check.
        keyboard.press("Shift+Tab")
        keyboard.press("Enter")
        self.hints.append(output.locator("details[open] > summary").all_inner_texts())
        keyboard.press("Tab")
        keyboard.press("Space")
        self.hints.append(output.locator("details[open] > summary").all_inner_texts())
        student.choose_theme("JupyterLab Dark")
        self.contrasts["failure, dark"] = contrasts(output)
        dialog = student.validate()
        self.validated = dialog.inner_text()
        dialog.get_by_role("button", name="Ok").click()

    def succeed(self, student):
        output = student.answer(RIGHT, "passed on")
        self.success = output.aria_snapshot()
        self.contrasts["success, dark"] = contrasts(output)
        student.choose_theme("JupyterLab Light")
        self.contrasts["success, light"] = contrasts(output)
        student.answer(OTHER, "passed on")
        self.validated_again = student.validate().inner_text()


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    return FirstDay(tmp_path_factory.mktemp("student"))


def test_a_wrong_answer_is_told_its_misconception(day):
    assert f'paragraph: "{SENTENCE}' in day.failure


def test_labels_and_values_of_the_evidence_belong_together(day):
    for label, value in (("asked", "the log of the average weight"), ("yours", '"1.2904"')):
        assert f"- term: {label}\n" in day.failure
        assert re.search(rf"term: {label}\n +- definition: {value}", day.failure)


def test_a_screen_reader_is_told_what_begins_and_how_it_came_out(day):
    assert '- group "Check of iwae_bound":' in day.failure
    assert ": not yet" in day.failure
    assert '- group "Check of iwae_bound":' in day.success
    assert ": passed on" in day.success
    assert 'img "The bound against K.' in day.failure


def test_a_notebook_that_is_not_trusted_says_the_same(day):
    assert "Check of" not in day.untrusted
    for kept in (SENTENCE, ": not yet", "- term: yours", '- definition: "1.2904"', "Hint 1"):
        assert kept in day.untrusted
    assert 'img "The bound against K.' in day.untrusted


def test_hints_open_one_by_one_from_the_keyboard(day):
    assert day.hints == [3, ["Hint 1"], ["Hint 1", "Hint 2"]]


@pytest.mark.parametrize("shown", ["failure", "success"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_bar_stand_off_from_their_ground(day, shown, theme):
    """By what WCAG 2.2 asks of text, and of what is no text."""
    found = day.contrasts[f"{shown}, {theme}"]
    assert found.pop("the bar") >= 3
    assert len(found) >= 3
    assert min(found.values()) >= 4.5, found


def test_validate_saves_and_says_what_the_checks_say(day):
    said = " ".join(day.validated.split())
    assert "Validation Results" in said
    assert f"check(iwae_bound) iwae_bound: {SENTENCE}" in said
    assert (
        "check(multi_sample_elbo) multi_sample_elbo: multi_sample_elbo is not written yet" in said
    )
    assert "Traceback" not in said and "…" not in said and "..." not in said


def test_the_students_guide_tells_the_same_day():
    guide = (ROOT / "docs" / "students.md").read_text()
    for answer in (WRONG, RIGHT):
        assert textwrap.indent(answer, "   ") in guide
    assert SUCCESS in " ".join(guide.split())
    images = re.findall(r"!\[.+\]\((.+)\)", guide)
    assert len(images) == 2 and all((ROOT / "docs" / image).is_file() for image in images)


def test_validate_agrees_that_all_is_right(day):
    assert SUCCESS in day.validated_again
