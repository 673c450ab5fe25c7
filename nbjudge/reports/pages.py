"""Graded notebooks as pages on which nothing of a notebook acts.

A page is made of what `sanitize` leaves. Should something have passed it all the same, the page's
policy forbids the browser to execute, load or send it: only the page's own scripts run, and those
of MathJax from one folder of one server.
"""

import base64
import hashlib
import html
import re

from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode

from nbjudge.errors import readable
from nbjudge.reports.inert import sanitize
from nbjudge.reports.safe_html import clean_html, render_markdown

MATHJAX = "https://cdnjs.cloudflare.com/ajax/libs/mathjax/2.7.7/"
# The settings of nbconvert's own template, as a program executed before MathJax comes. There
# they are a text that MathJax evaluates, and a policy that allows that allows too much.
_SETTINGS = """window.MathJax = {
  TeX: {equationNumbers: {autoNumber: "AMS", useLabelIds: true}},
  tex2jax: {
    inlineMath: [["$", "$"], ["\\\\(", "\\\\)"]], displayMath: [["$$", "$$"], ["\\\\[", "\\\\]"]],
    processEscapes: true, processEnvironments: true
  },
  Safe: {allow: {URLs: "none", classes: "none", cssIDs: "none", styles: "none", require: "none"}},
  displayAlign: "center", messageStyle: "none", CommonHTML: {linebreaks: {automatic: true}}
};"""
# Whatever stands in a cell is painted within its box only.
_STYLE = """<style>
.text_cell_render, .output_subarea, .input_area { contain: paint; overflow-x: auto; }
</style>"""
_LOADER = re.compile(r'<script src="[^"]*mathjax[^"]*">\s*</script>', re.IGNORECASE)
_CONFIGURATION = re.compile(r'<script type="text/x-mathjax-config">.*?</script>', re.DOTALL)
_INLINE = re.compile(r"(<script(?: type=\"text/javascript\")?>)(.*?)(</script>)", re.DOTALL)
_HANDLER = re.compile(r"\son[a-z]+=\"([^\"]*)\"", re.IGNORECASE)
# How `escaped` text is written within a program.
_IN_PROGRAMS = {
    "&lt;": "\\u003c",
    "&gt;": "\\u003e",
    "&quot;": "\\u0022",
    "&#x27;": "\\u0027",
    "&#92;": "\\u005c",
    "&amp;": "\\u0026",
}


def escaped(found: object) -> object:
    """Names and other texts that come from people, to stand in a page; inside lists and dicts too.

    In the page's own programs, `with_programs` gives them their meaning back.
    """
    if isinstance(found, dict):
        return {name: escaped(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [escaped(value) for value in found]
    if isinstance(found, str):
        return html.escape(readable(found)).replace("\\", "&#92;")
    return found


def with_programs(page: str) -> str:
    """A page with `escaped` texts, in whose programs they are written as programs write them."""

    def rewritten(found):
        program = found[2]
        for there, here in _IN_PROGRAMS.items():
            program = program.replace(there, here)
        return f"{found[1]}{program}{found[3]}"

    return _INLINE.sub(rewritten, page)


def policy(page: str, scripts: str = "", images: str = "data:", more: str = "") -> str:
    """A Content-Security-Policy under which the programs of a page run, and nothing else.

    Args:
        page: with nothing in it that comes from a student.
        scripts: addresses of scripts that may be loaded, beside MathJax's.
        images: addresses of pictures.
        more: other directives.

    """
    programs = [program for _, program, _ in _INLINE.findall(page)]
    handlers = [html.unescape(program) for program in _HANDLER.findall(page)]
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()}'"
        for program in dict.fromkeys([*programs, *handlers])
    ]
    allowed = [*hashes, *(["'unsafe-hashes'"] if handlers else []), scripts, MATHJAX]
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(filter(None, allowed))}",
            f"style-src 'unsafe-inline' {scripts}".strip(),
            f"font-src {' '.join(filter(None, [scripts, MATHJAX]))}",
            f"img-src {images}",
            "base-uri 'none'",
            "form-action 'none'",
            *filter(None, [more]),
        ]
    )


class PageExporter(HTMLExporter):
    """nbconvert's pages, of a notebook of which only what is read is left."""

    def default_filters(self):
        """nbconvert's, with safe ones in the place of those that make HTML of a student's text."""
        yield from super().default_filters()
        yield "markdown2html", _markdown
        yield "clean_html", clean_html
        # It rewrites addresses after they were looked at.
        yield "strip_files_prefix", _unchanged

    def from_notebook_node(
        self, nb: NotebookNode, resources: dict | None = None, **options
    ) -> tuple[str, dict]:
        """The page of a notebook."""
        page, resources = super().from_notebook_node(sanitize(nb), resources, **options)
        # What students wrote comes after this.
        head, end, body = page.partition("</head>")
        head = _CONFIGURATION.sub("", head)
        loader = f'<script src="{MATHJAX}MathJax.js?config=TeX-AMS_CHTML-full,Safe"></script>'
        head = _LOADER.sub(lambda _: f"<script>{_SETTINGS}</script>\n{loader}", head)
        return with_programs(f"{head}{_STYLE}{end}{body}"), resources


class FeedbackExporter(PageExporter):
    """The pages that students get back; they carry their policy with them."""

    def from_notebook_node(
        self, nb: NotebookNode, resources: dict | None = None, **options
    ) -> tuple[str, dict]:
        """The page of a notebook."""
        page, resources = super().from_notebook_node(nb, resources, **options)
        head, begin, rest = page.partition("<head>")
        own = rest.partition("</head>")[0]
        # The page is opened as a file, beside which lie the pictures that were handed in.
        rule = policy(own, images="data: 'self' file:")
        return (
            f'{head}{begin}<meta http-equiv="Content-Security-Policy" content="{rule}">{rest}',
            resources,
        )


def _unchanged(text):
    return text


@pass_context
def _markdown(context, source):
    return render_markdown(source, context.get("cell", {}).get("attachments"))
