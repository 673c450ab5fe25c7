"""Nothing that a student hands in acts on the pages of whoever looks at it, and nothing is lost."""

import base64
import importlib
import json
import re
import shutil

import nbformat
import pytest
from browser import needs_chromium, new_page
from conftest import NO_SANDBOX
from lab import Lab
from nbconvert.filters import markdown2html
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output, new_raw_cell

from dgm_utils.cli import main
from nbjudge.course.folder import Course

kills = importlib.import_module("benchmarks.kills")
ASSIGNMENT = kills.ASSIGNMENT
pytestmark = needs_chromium

# Gives itself all points, as the page's own programs give them, and says that it was there.
PROGRAM = """document.title = 'ACTED';
fetch(location.origin + '/formgrader/api/grades?submission_id=' + location.pathname.split('/')[3])
  .then(answer => answer.json()).then(grades => grades.forEach(grade =>
    fetch(location.origin + '/formgrader/api/grade/' + grade.id, {
      method: 'PUT', body: '{"manual_score": 3}',
      headers: {'X-CSRFToken': document.cookie.match('_xsrf=([^;]*)')[1]}})))"""
ACT = f"eval(atob('{base64.b64encode(PROGRAM.encode()).decode()}'))"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Erk"
    "Jggg=="
)
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" onload="{ACT}"><script>{ACT}</script></svg>'

MARKDOWN = {
    "script": f"<script>{ACT}</script>",
    "script in math": f"$x<script>{ACT}</script>$",
    "comment": f"<!--><script>{ACT}</script>-->",
    "handler": f'<img src=x onerror="{ACT}">',
    "unknown element": f'<x tabindex=1 onfocus="{ACT}" onclick="{ACT}" autofocus>press</x>',
    "svg": SVG,
    "mathml": f'<math><mtext><img src=x onerror="{ACT}"></mtext></math>',
    "link": f"[press](javascript:{ACT})",
    "entity link": f"[press](&#106;avascript:{ACT})",
    "html link": f'<a href="javascript:{ACT.replace(chr(39), "&#39;")}">press</a>',
    "link behind files/": f'<a href="files/javascript:{ACT.replace(chr(39), "&#39;")}">press</a>',
    "reference": f"[press][1]\n\n[1]: <javascript:{ACT}>",
    "frame": f'<iframe srcdoc="<script>parent.{ACT}</script>"></iframe>',
    "frame address": f'<iframe src="javascript:parent.{ACT}"></iframe>',
    "object": f'<object data="data:text/html,<script>{ACT}</script>"></object>',
    "MathJax link": f"$\\href{{javascript:{ACT}}}{{press}}$",
    "MathJax configuration": f'<script type="text/x-mathjax-config">{ACT}</script>',
    "MathJax element": f'<script type="math/tex">\\href{{javascript:{ACT}}}{{x}}</script>',
    "refresh": '<meta http-equiv="refresh" content="0; url=/formgrader/gradebook">',
    "base": '<base href="https://example.org/">',
    "form": '<form action="/x"><button formaction="javascript:alert(1)">press</button>'
    '<input name="score"></form>',
    "overlay": '<div style="position:fixed;inset:0;z-index:9999;background:white">over</div>',
    "overlay by a class": '<div class="modal-backdrop navbar-fixed-top">over</div>',
    "button by a class": '<p><span class="full-credit no-credit">press</span></p>',
    "style element": "<style>* { display: none !important }</style>",
    "style address": '<p style="background: url(/formgrader/x)">x</p>',
    "clobbered names": '<a id="question" name="base_url"></a><img name="body" id="MathJax">',
    "heading that clobbers": "# question",
    "drawing": f'```mermaid\n</pre><img src=x onerror="{ACT}">\n```',
    "picture that acts": "![x](/formgrader?path=/tmp)",
    "script beside the notebook": '<script src="act.js"></script>',
}
OUTPUTS = {
    "html": {"text/html": f'<script>{ACT}</script><b onclick="{ACT}">press</b>'},
    "javascript": {"application/javascript": ACT},
    "latex": {"text/latex": f'$$x$$<img src=x onerror="{ACT}">'},
    "latex link": {"text/latex": f"$\\href{{javascript:{ACT}}}{{x}}$"},
    "markdown": {"text/markdown": f'<img src=x onerror="{ACT}">'},
    "svg": {"image/svg+xml": SVG},
    "png": {"image/png": f'x" onerror="{ACT}'},
    "jpeg": {"image/jpeg": f'x"><script>{ACT}</script>'},
    "widget": {"application/vnd.jupyter.widget-view+json": {"model_id": f"</script><script>{ACT}"}},
    "plain": {"text/plain": f"<script>{ACT}</script>"},
}


def hostile():
    """Cells, every one of which tries to act."""
    cells = [new_markdown_cell(text) for text in MARKDOWN.values()]
    attached = new_markdown_cell("![x](attachment:a.png) ![x](attachment:b.png)")
    attached.attachments = {
        "a.png": {f'image/png" onerror="{ACT}': PIXEL},
        "b.png": {"image/png": f'x" onerror="{ACT}'},
    }
    tagged = new_code_cell("1", metadata={"tags": [f'"><script>{ACT}</script>']})
    sized = new_output(
        "display_data",
        data={"image/png": PIXEL},
        metadata={"image/png": {"width": f"1 onload={ACT}", "height": "1 onerror=x"}},
    )
    framed = new_output(
        "display_data",
        data={"text/html": f"<script>parent.{ACT}</script>"},
        metadata={"text/html": {"isolated": True}},
    )
    error = new_output(
        "error", ename="<img src=x>", evalue=SVG, traceback=[f"\x1b[0;31m{SVG}\x1b[0m"]
    )
    stream = new_output("stream", text=f"<script>{ACT}</script>\x1b]8;;x")
    outputs = [new_output("display_data", data=data) for data in OUTPUTS.values()]
    code = new_code_cell("1", outputs=[*outputs, sized, framed, error, stream])
    code.execution_count = 1
    raw = new_raw_cell(f"<script>{ACT}</script>", metadata={"raw_mimetype": "text/html"})
    return [*cells, attached, tagged, code, raw]


def displays():
    """The same outputs, by code that a kernel executes."""
    lines = ["from IPython.display import display"]
    lines += [f"display({data!r}, raw=True)" for data in OUTPUTS.values()]
    lines.append(f"print({f'<script>{ACT}</script>'!r})")
    return new_code_cell("\n".join(lines))


HONEST = r"""## What *I* found

Where $a<b$ and $c > d$, `x < y`:

$$\begin{aligned}\log p(x) &\ge \mathcal{L}_K \\
&= \mathbb{E}\Big[\log \tfrac1K \sum_k w_k\Big]\end{aligned}$$

| K | bound |
|---|------:|
| 1 | -90.5 |
| 5 | -88.1 |

1. first, with a [link](https://arxiv.org/abs/1509.00519)
2. second <b>bold</b>
   - inner

> quoted, a<b>c</b>

```python
def f(x):
    return "<script>" if x < 3 else x
```

![two pixels](attachment:two%20pixels.png)

<details><summary>More</summary>folded</details>
"""
TABLE = """<div>
<style scoped>.dataframe tbody tr th { vertical-align: top; }</style>
<table border="1" class="dataframe">
<thead><tr style="text-align: right;"><th></th><th>elbo</th></tr>
</thead><tbody><tr><th>0</th><td>-90.5</td></tr></tbody></table><p>1 rows × 1 columns</p></div>"""


def honest():
    """What a diligent student hands in."""
    text = new_markdown_cell(HONEST, id="rich")
    text.attachments = {"two pixels.png": {"image/png": PIXEL}}
    outputs = [
        new_output("execute_result", data={"text/html": TABLE, "text/plain": "  elbo"}),
        new_output("display_data", data={"image/png": PIXEL}),
        new_output("stream", text="\x1b[31mred\x1b[0m and a < b\n"),
        new_output("display_data", data={"text/latex": "$x < y$"}),
    ]
    return [text, new_code_cell("x = 1 < 2  # <b>", outputs=outputs, execution_count=3)]


def put(course, folder, student, cells):
    """Put cells into the notebook of a student."""
    path = course.notebook(folder, ASSIGNMENT, student)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1:1] = cells
    path.chmod(0o600)
    path.write_text(json.dumps(notebook))


def take(course, source):
    """Take a cell out of Ann's autograded notebook again."""
    path = course.notebook("autograded", ASSIGNMENT, "ann")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.source != source]
    path.write_text(json.dumps(notebook))


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Ann's submission tries everything, also in the cell of her answer; Cyd's is honest."""
    folder = tmp_path_factory.mktemp("graded") / "course"
    kills.make_course(folder)
    course = Course(folder)
    course.release(ASSIGNMENT)
    put(course, "submitted", "ann", [*hostile(), displays()])
    path = course.notebook("submitted", ASSIGNMENT, "ann")
    notebook = nbformat.read(path, as_version=4)
    (question,) = (cell for cell in notebook.cells if cell.id == "question")
    question.source = "\n\n".join(MARKDOWN.values())
    path.write_text(json.dumps(notebook))
    (path.parent / "act.js").write_text(ACT)
    (path.parent / "act.html").write_text(f"<script>{ACT}</script>")
    put(course, "submitted", "cyd", honest())
    # Eve handed in no notebook.
    assert main(["--course", str(folder), "grade", ASSIGNMENT, *NO_SANDBOX]) == 1
    return folder


@pytest.fixture
def course(graded, tmp_path):
    return Course(shutil.copytree(graded, tmp_path / "course"))


def manual_scores(course):
    with course.api.gradebook as gradebook:
        notebook = gradebook.find_submission_notebook(ASSIGNMENT, ASSIGNMENT, "ann")
        return [grade.manual_score for grade in notebook.grades]


def only_from(page, url):
    """Let the browser load nothing from other servers."""
    page.route(lambda asked: not asked.startswith(url), lambda route: route.abort())


def look(course, lab, page, student="ann"):
    """Open the page on which a submission is graded."""
    with course.api.gradebook as gradebook:
        found = gradebook.find_submission_notebook(ASSIGNMENT, ASSIGNMENT, student).id
    only_from(page, lab.url)
    page.goto(f"{lab.url}lab?token={lab.token}", wait_until="commit")
    with page.expect_response(lambda answer: "/api/comments?" in answer.url):
        page.goto(f"{lab.url}formgrader/submissions/{found}/")
    return found


def press_everything(page):
    """Click on whatever a student may have put there."""
    page.evaluate(
        """() => document.querySelectorAll('.rendered_html *, .output_subarea *').forEach(
             element => element.dispatchEvent(new MouseEvent('click', {bubbles: true})))"""
    )
    page.wait_for_timeout(1000)


def test_nothing_acts_in_what_is_stored(course):
    """Whatever renders it."""
    cells = nbformat.read(course.notebook("autograded", ASSIGNMENT, "ann"), as_version=4).cells
    data = [o.data for cell in cells for o in cell.get("outputs", ()) if "data" in o]
    texts = [
        # The renderer fails where a picture is missing.
        markdown2html(cell.source.replace("attachment:", ""))
        for cell in cells
        if cell.cell_type == "markdown"
    ]
    texts += [cell.source for cell in cells if cell.cell_type == "raw"]
    texts += [bundle["text/html"] for bundle in data if "text/html" in bundle]
    texts += [
        markdown2html(bundle["text/markdown"]) for bundle in data if "text/markdown" in bundle
    ]
    assert len(texts) > 30
    for text in texts:
        assert not re.search("<(script|svg|iframe|object|style|form|button|input|meta|base)", text)
        assert not re.search(r"""<[^>]*\s(on\w+|formaction|name)=""", text)
        assert not re.search(r"""(href|src)="?[^">]*(javascript|formgrader)""", text)
        assert "\\href" not in text
    kinds = {kind for bundle in data for kind in bundle}
    assert kinds == {
        "text/html",
        "text/markdown",
        "text/plain",
        "application/vnd.nbjudge.verdict+json",
    }


@pytest.mark.parametrize("how", ["graded", "older release", "policy alone"])
def test_nothing_acts_where_submissions_are_graded(course, how):
    if how != "graded":
        put(course, "autograded", "ann", hostile())
    if how == "policy alone":
        for name in ("refresh", "clobbered names", "style element"):
            # No programs, and in the way of the others.
            take(course, MARKDOWN[name])
        # As if nothing were ever found in what students hand in.
        with open(course.root / "nbgrader_config.py", "a") as config:
            config.write(
                "import nbjudge.reports.pages as pages\n"
                "from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath\n"
                "pages.sanitize = pages.clean_html = lambda found: found\n"
                "pages.render_markdown = lambda source, attachments: MarkdownWithMath(\n"
                "    renderer=IPythonRenderer(escape=False)\n"
                ").render(source.replace('attachment:', ''))\n"
            )
    with Lab(course.root) as lab, new_page() as page:
        look(course, lab, page)
        if how == "policy alone":
            # Otherwise this would say nothing.
            assert page.evaluate("document.querySelectorAll('.rendered_html script').length")
        press_everything(page)
        assert page.title() != "ACTED"
        assert set(manual_scores(course)) == {None}
        if how == "policy alone":
            return
        # And a person can give points, where the box for them is.
        page.locator("#question").scroll_into_view_if_needed()
        page.locator("#question").click()
        with page.expect_response(lambda answer: "/api/grade/" in answer.url):
            page.locator("#question").fill("2")
            page.locator("#question").press("Tab")
        assert sorted(filter(None, manual_scores(course))) == [2]


def test_files_of_students_do_not_act(course):
    with Lab(course.root) as lab, new_page() as page:
        found = look(course, lab, page)
        page.goto(f"{lab.url}formgrader/submissions/{found}/act.html")
        page.wait_for_timeout(500)
        assert page.title() != "ACTED"
        # Settings are a program: those that a student handed in are not read.
        folder = course.path("autograded", "ann", ASSIGNMENT)
        assert page.goto(f"{lab.url}formgrader?path={folder}").status == 403
        answer = page.goto(f"{lab.url}formgrader/api/submissions/{ASSIGNMENT}")
        assert "sandbox" in answer.header_value("content-security-policy")


def test_nothing_acts_in_names(course):
    name = f'"<img src=x onerror="{ACT}">'
    with course.api.gradebook as gradebook:
        gradebook.update_or_create_student("ann", first_name=name, last_name="O'Hara & \\ sons")
    with Lab(course.root) as lab, new_page() as page:
        look(course, lab, page)
        assert "O'Hara & \\ sons" in page.locator(".live-notebook").inner_html().replace(
            "&amp;", "&"
        )
        for place in (
            "gradebook",
            f"gradebook/{ASSIGNMENT}",
            f"gradebook/{ASSIGNMENT}/{ASSIGNMENT}",
            f"manage_submissions/{ASSIGNMENT}",
            "manage_students",
            "manage_students/ann",
            f"manage_students/ann/{ASSIGNMENT}",
            "manage_students/%22;document.title='ACTED';%22",
            "manage_students/%3C%2Fscript%3E%3Cscript%3Edocument.title='ACTED'%3C%2Fscript%3E",
        ):
            page.goto(f"{lab.url}formgrader/{place}")
            page.locator("#main-table tr").first.wait_for()
            page.wait_for_timeout(300)
            assert page.title() != "ACTED", place
        assert set(manual_scores(course)) == {None}


def test_the_buttons_of_formgraders_pages_work(course):
    with Lab(course.root) as lab, new_page() as page:
        look(course, lab, page, "cyd")
        page.locator(".glyphicon-eye-open").click()
        page.locator(".name-shown", has_text="cyd").first.wait_for()
        page.goto(f"{lab.url}formgrader/gradebook/{ASSIGNMENT}/{ASSIGNMENT}")
        page.get_by_role("link", name="Submission #1").wait_for()
        page.get_by_role("button", name="Show All Names").click()
        page.get_by_role("button", name="Hide All Names").wait_for()
        page.goto(f"{lab.url}formgrader/manage_students")
        page.get_by_text("Add new student...").click()
        page.locator(".modal-title").get_by_text("Add New Student").wait_for()


def shown(page):
    """What is there of an honest notebook, on either page."""
    text = page.locator("#notebook-container").first.inner_text()
    for words in (
        "What I found",
        "x < y",
        "-88.1",
        "second bold",
        'return "<script>"',
        "red and a",
    ):
        assert words in text, words
    loaded = page.evaluate(
        "[...document.querySelectorAll('#notebook-container img')].map(i => i.naturalWidth > 0)"
    )
    assert loaded == [True, True]
    assert page.locator("table.dataframe td").inner_text() == "-90.5"
    assert page.get_by_role("group", name="Check of").count() == 2
    box = page.get_by_role("group", name="Check of").first
    assert "4px" in box.evaluate("element => getComputedStyle(element).borderLeft")
    assert page.locator("dl").first.evaluate("e => getComputedStyle(e).display") == "grid"
    assert page.locator("a[href='https://arxiv.org/abs/1509.00519']").count() == 1


def test_an_honest_notebook_is_stored_as_it_was_written(course):
    notebook = nbformat.read(course.notebook("autograded", ASSIGNMENT, "cyd"), as_version=4)
    (rich,) = (cell for cell in notebook.cells if cell.id == "rich")
    assert rich.source == HONEST
    assert rich.attachments == {"two pixels.png": {"image/png": PIXEL}}


def test_nothing_honest_is_lost(course, tmp_path_factory):
    put(course, "autograded", "cyd", honest()[1:])
    folder = tmp_path_factory.mktemp("shown")
    with Lab(course.root) as lab, new_page() as page:
        look(course, lab, page, "cyd")
        page.screenshot(path=folder / "formgrader.png", full_page=True)
        shown(page)
    course.feedback("cyd", ASSIGNMENT)
    with new_page() as page:
        only_from(page, "file:")
        page.goto(f"file://{course.path('feedback', 'cyd', ASSIGNMENT)}/{ASSIGNMENT}.html")
        page.screenshot(path=folder / "feedback.png", full_page=True)
        shown(page)


@pytest.mark.parametrize("how", ["graded", "older release"])
def test_nothing_acts_in_feedback(course, how):
    if how == "older release":
        put(course, "autograded", "ann", hostile())
    course.feedback("ann", ASSIGNMENT)
    with new_page() as page:
        only_from(page, "file:")
        page.goto(f"file://{course.path('feedback', 'ann', ASSIGNMENT)}/{ASSIGNMENT}.html")
        press_everything(page)
        assert page.title() == ASSIGNMENT
        # Under the page's policy a script that is not the page's does nothing.
        page.evaluate(
            """() => { const script = document.createElement('script');
                 script.textContent = "document.title = 'ACTED'";
                 document.body.append(script) }"""
        )
        assert page.title() == ASSIGNMENT
