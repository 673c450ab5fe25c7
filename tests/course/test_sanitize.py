"""What is kept of a notebook: everything that is read, nothing that acts, in bounded time."""

import base64
import copy
import json

import nbformat
import pytest
from conftest import ROOT
from nbformat import from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from nbjudge.reports import safe_html
from nbjudge.reports.inert import CELL_LIMIT, TEXT_LIMIT, sanitize
from nbjudge.reports.safe_html import clean_html, image_data, render_markdown, safe_markdown
from nbjudge.submissions.note import MENDED_ID, mended, note

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and more").decode()

HONEST = [
    "a < b and b > c, R&D, &lt;",
    "x<y>z",
    "```\n<script>alert(1)</script>\n```",
    "`<script>` and `javascript:`",
    "$a<b$, $$\\begin{aligned}a&<b\\\\c&=d\\end{aligned}$$ and \\\\(x<y\\\\)",
    "$$\nx < y \\newcommand{\\E}{\\mathbb{E}}\n$$",
    "|a|b|\n|-|-:|\n|1|2|\n",
    "# question\n\n## 2. text",
    "- [x] done\n- [ ] not",
    "[link](https://a.b/c?d=e&f=g#h), <https://x.y> and http://foo.bar/x",
    "[other](other%20notebook.ipynb#part) [below](#below)",
    "[lecture](../../lectures/05_iwae.ipynb) ![p](../photo.png)",
    "![p](photo.png) ![p](./pictures/my%20photo.jpg)",
    f"![p](data:image/png;base64,{PNG})",
    f"![p][1]\n\n[1]: <data:image/png;base64,{PNG}>",
    "![p](https://x.y/z.png)",
    "<b>bold</b> <br> <details><summary>x</summary>y</details>",
    "<table><tr><td>1</td></tr></table>",
    "<!-- your answer -->\n\nhi",
    "> q\n\n1. a\n2. b\n\n   ```python\n   def f(x): return x < 3\n   ```",
    '<div class="alert alert-info">note</div>',
    '<p style="color: red; text-align: center">x</p>',
    '<img src="photo.jpg" width="300">',
    "term\n: def\n\n~~x~~",
    "[x][1]\n\n[1]: https://foo.bar 'title'",
    "שלום עולם, مرحبا, 你好",
]
HARMFUL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x]: <javascript:alert(1)>\n\n[x]",
    "<javascript:alert(1)>",
    "<a href='files/javascript:alert(1)'>x</a>",
    "<a href='data:text/html,x'>x</a>",
    "[x](/formgrader?path=/x)",
    "[x]( /x)",
    "[x](..%2f..%2fx)",
    "[x](../../../x.html?y)",
    "[x](//example.org)",
    "![x](/formgrader?path=/x)",
    "$\\href{javascript:alert(1)}{x}$",
    "<p>$\\h&#114;ef{javascript:x}{y}$</p>",
    "$\\style{position:fixed}{x}$",
    "<x onclick=alert(1)>x</x>",
    "<div style='position:fixed;top:0'>x</div>",
    "<div style='margin-top:-100px'>x</div>",
    "<div style='background:url(x)'>x</div>",
    "<div style='color:re\\64'>x</div>",
    "<div class='full-credit'>x</div>",
    "<form><button formaction=x>y</button></form>",
    "<meta http-equiv=refresh content=0>",
    "<base href=//example.org>",
    "<a name=base_url>t</a>",
    "<!--><script>alert(1)</script>-->",
    "```mermaid\n<img src=x onerror=alert(1)>\n```",
]


@pytest.mark.parametrize("source", HONEST)
def test_honest_text_stays_byte_for_byte(source):
    assert safe_markdown(source) == source


@pytest.mark.parametrize("source", HARMFUL)
def test_harmful_text_becomes_what_is_left_of_it(source):
    made = safe_markdown(source)
    assert made != source
    assert safe_markdown(made) == made
    assert render_markdown(made) == clean_html(made)
    # A page shows the same of both, but for the word about it.
    assert render_markdown(source).strip() in made.replace("&#10;", "\n")


def test_what_is_shown_of_honest_text():
    assert "a &lt; b" in render_markdown("a < b")
    assert "x&lt;y&gt;z" in render_markdown("x<y>z")
    assert "&lt;script&gt;" in render_markdown("```\n<script>\n```")
    assert "$a&lt;b$" in render_markdown("$a<b$")
    assert '<a href="https://x.y/z.png"' in render_markdown("![p](https://x.y/z.png)")
    assert 'src="photo.png"' in render_markdown("![p](photo.png)")
    # Not the name of anything on the page.
    assert 'id="user-question"' in render_markdown("# question")


@pytest.mark.parametrize("path", sorted(ROOT.glob("solutions/*/*.ipynb")), ids=lambda p: p.stem)
def test_the_courses_own_texts_stay_as_they_are(path):
    notebook = nbformat.read(path, as_version=4)
    made = sanitize(notebook)
    assert [cell.source for cell in made.cells] == [cell.source for cell in notebook.cells]


def test_what_is_unseen_is_shown():
    assert safe_markdown("a\u202eb\x1b[31m\ud800") == "a�b�[31m?"
    cell = new_code_cell("x = 1  # \u2066\u202e")
    assert sanitize(new_notebook(cells=[cell])).cells[0].source == "x = 1  # ��"


def test_the_checks_own_screen_is_kept():
    from nbjudge.judging.screen import _FAILED, _GRID, _box, _nested_hints

    class Exercise:
        name = "elbo"

    made = _box(
        Exercise,
        _FAILED,
        f'<b>✗ <code>elbo</code></b><p style="margin:.4em 0">x &lt; 1</p><dl style="{_GRID}">'
        '<dt style="opacity:.7;white-space:nowrap">asked</dt>'
        '<dd style="margin:0;white-space:pre-wrap">f</dd></dl>'
        f'<img style="background:white" alt="two bars" src="data:image/png;base64,{PNG}">'
        f"{_nested_hints(['one', 'two'])}",
    )
    assert safe_html._seen(clean_html(made)) == safe_html._seen(made)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("image/png", PNG + '" onerror="x'),
        ("image/png", base64.b64encode(b"<script>").decode()),
        ("image/png", ""),
        ("image/png", 3),
        ('image/png" onerror="x', PNG),
        ("text/html", PNG),
    ],
)
def test_what_is_no_picture_is_none(kind, data):
    assert image_data(kind, data) is None


def test_a_picture_is_a_picture():
    assert image_data("image/png", f"{PNG[:8]}\n{PNG[8:]}\n") == PNG


def test_what_is_safe_does_not_change_again():
    outputs = [
        new_output("stream", text="\x1b[31mred\x1b[0m \x1b]8;;x\x07"),
        new_output("error", ename="E", evalue="e", traceback=["\x1b[0;31mE\x1b[0m", "a\nb"]),
        new_output("display_data", data={"image/svg+xml": "<svg/>", "text/plain": "x"}),
        new_output("display_data", data={"text/html": "<table><tr><td>1", "text/latex": "$x$"}),
        new_output("display_data", data={"application/pdf": "x"}),
        new_output(
            "display_data", data={"image/png": PNG}, metadata={"image/png": {"width": 3, "x": 1}}
        ),
    ]
    cells = [*map(new_markdown_cell, [*HONEST, *HARMFUL]), new_raw_cell("a <b>c<script>d</script>")]
    cells.append(new_code_cell("f(x)", outputs=outputs, metadata={"tags": ["x"]}))
    once = sanitize(new_notebook(cells=cells, metadata={"widgets": {}, "title": "<script>"}))
    assert sanitize(copy.deepcopy(once)) == once
    nbformat.validate(once)
    shown = once.cells[-1].outputs
    assert [sorted(o.data) for o in shown if "data" in o] == [
        ["text/html", "text/plain"],
        ["text/html", "text/latex"],
        ["text/plain"],
        ["image/png"],
    ]
    assert shown[-1].metadata == {"image/png": {"width": 3}}
    assert set(once.metadata) == {"kernelspec", "language_info"}


def test_a_raw_cell_is_a_text_or_what_is_left_of_it():
    texts = ["a < b & c", "<b>x</b>", "<script>x</script>y", "$\\href{javascript:x}{y}$"]
    made = sanitize(new_notebook(cells=[new_raw_cell(text) for text in texts])).cells
    assert [cell.source for cell in made] == [
        *texts[:2],
        "y",
        "$\\<span></span>href{javascript:x}{y}$",
    ]
    assert not any(cell.metadata for cell in made)


def test_a_verdict_is_kept_in_a_graded_check_only():
    data = {"application/vnd.nbjudge.verdict+json": {"passed": True}, "text/plain": "x"}
    about = {"grade_id": "f-check", "grade": True, "points": 1, "solution": False, "evil": "x"}
    cells = [
        new_code_cell("1", outputs=[new_output("display_data", data=data)], metadata=metadata)
        for metadata in ({"nbgrader": about}, {}, {"nbgrader": about | {"grade_id": '"><b>'}})
    ]
    made = sanitize(new_notebook(cells=cells)).cells
    assert [len(cell.outputs[0].data) for cell in made] == [2, 1, 1]
    assert "evil" not in made[0].metadata.nbgrader
    assert not made[2].metadata


def test_what_was_mended_is_still_read():
    said = ["`iwae (1).ipynb` was graded.", "A cell <script>x</script> [x](javascript:y)."]
    notebook = sanitize(new_notebook(cells=[note(said)]))
    assert notebook.cells[0].id == MENDED_ID
    first, second = mended(notebook)
    assert first == said[0]
    assert "<" not in second


def test_more_than_anybody_reads_is_cut_and_said():
    graded = {"nbgrader": {"grade_id": "q", "grade": True, "solution": True, "points": 1}}
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "x"}
    cells = [cell] * (CELL_LIMIT + 5) + [cell | {"metadata": graded, "source": "an answer"}]
    made = sanitize(from_dict(new_notebook() | {"cells": cells})).cells
    assert len(made) == CELL_LIMIT + 2
    assert made[-2].source == "an answer"
    assert made[-1].source.startswith("[5 more cells")
    long = new_notebook(cells=[new_code_cell("x" * (TEXT_LIMIT + 7))])
    assert sanitize(long).cells[0].source.endswith("\n[7 more characters are not shown here.]")


@pytest.mark.parametrize(
    "source",
    ["[" * 10**6, "<div>" * 10**6, "*a " * 10**6, "\\begin{a}" * 10**5, "<b" * 10**6, "$" * 10**6],
)
def test_a_text_that_would_take_minutes_is_plain_text(source):
    made = sanitize(new_notebook(cells=[from_dict(new_markdown_cell("x") | {"source": source})]))
    assert render_markdown(made.cells[0].source).count("<pre>") == 1
    output = new_output("display_data", data={"text/html": source})
    made = sanitize(new_notebook(cells=[new_code_cell("1", outputs=[output])]))
    assert len(json.dumps(made)) < 10 * TEXT_LIMIT


def test_a_large_picture_within_a_text_is_no_long_text():
    large = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(3 * 10**6)).decode()
    source = f"See ![p](data:image/png;base64,{large}) and <b>more</b>"
    cells = [new_markdown_cell(source)]
    assert sanitize(new_notebook(cells=cells)).cells[0].source == source
