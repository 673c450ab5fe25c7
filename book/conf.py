"""Sphinx's settings for the site; `book/build.py` gathers the pages and runs it."""

from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from myst_nb.core.render import NbElementRenderer

project = html_title = "Deep generative models"
language = "en"
smartquotes = False
extensions = ["myst_nb"]

# Lectures are committed with their outputs.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath", "fieldlist"]
# As in JupyterLab, $$…$$ is a display inside of a paragraph too.
myst_dmath_double_inline = True
myst_heading_anchors = 3

# A page asks nobody for anything: MathJax is one file from a package, with its glyphs inside, so
# that no browser refuses a font to a page opened from the disk.
_mathjax = Path(find_spec("sphinx-mathjax-offline").submodule_search_locations[0], "static/mathjax")
mathjax_path = "tex-svg-full.js"
mathjax3_config = {"svg": {"fontCache": "global", "scale": 0.92}}
nb_ipywidgets_js = {}

html_theme = "sphinx_book_theme"
html_static_path = ["_static", str(_mathjax / mathjax_path)]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_favicon = "_static/icon.svg"
html_copy_source = False
html_show_copyright = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "footer_content_items": [],
    "navbar_persistent": [],
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}

_render_image = NbElementRenderer.render_image


def _render_image_with_alt(self, data):
    """Give a figure the alternative text of `dgm_utils.plotting.show`; MyST-NB leaves it out."""
    images = _render_image(self, data)
    alt = data.output_metadata.get(data.mime_type, {}).get("alt")
    for image in images if alt else ():
        image["alt"] = alt
    return images


NbElementRenderer.render_image = _render_image_with_alt


def _use_dashes(app, doctree):
    """Between an argument and what it is, Sphinx writes two hyphens."""
    for body in doctree.findall(nodes.field_body):
        for text in [t for t in body.findall(nodes.Text) if t == " -- "]:
            text.parent.replace(text, nodes.Text(" – "))


def setup(app):
    """Called by Sphinx."""
    app.connect("doctree-read", _use_dashes)
