"""The book has a page for everything, asks nobody for anything, and shows formulas and figures."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from browser import AS_ROOT, CHROMIUM, needs_chromium
from bs4 import BeautifulSoup
from conftest import ROOT

pytest.importorskip(
    "sphinx_book_theme", reason="the book's packages are missing: pip install --editable .[book]"
)
LECTURES = sorted(path.stem for path in ROOT.glob("lectures/*.ipynb"))
ASSIGNMENTS = sorted(path.stem for path in ROOT.glob("assignments/*/*.ipynb"))
each_lecture = pytest.mark.parametrize("name", LECTURES)

# Written into a copy of a page: what only the browser knows goes where --dump-dom shows it.
PROBE = """<script>
const page = document.documentElement;
page.dataset.missing = "";
addEventListener("error", (event) => { page.dataset.missing += event.target.outerHTML; }, true);
addEventListener("load", () => {
  for (const image of document.images) image.dataset.width = image.naturalWidth;
  page.dataset.outside = page.scrollWidth - page.clientWidth;
  const names = performance.getEntriesByType("resource").map((entry) => entry.name);
  page.dataset.foreign = names.filter((name) => !/^(file|data):/.test(name));
});
</script>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book") / "site"
    build = [sys.executable, ROOT / "book" / "build.py", folder]
    done = subprocess.run(build, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def parse(path):
    return BeautifulSoup(path.read_text(), "html.parser")


def cells(path):
    return nbformat.read(ROOT / path, as_version=4).cells


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tmp_path_factory.mktemp("chromium")


def open_in_chromium(path, profile, query=""):
    # What the page is once its scripts have run, with no network, and what stands in the console.
    command = [
        *(CHROMIUM, "--headless", "--dump-dom", "--disable-gpu", "--no-first-run"),
        *("--window-size=1280,1024", "--virtual-time-budget=20000"),
        *("--enable-logging=stderr", "--v=0"),
        *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *AS_ROOT,
        *(f"--user-data-dir={profile}", path.as_uri() + query),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    # The theme says which colours it has chosen.
    return BeautifulSoup(done.stdout, "html.parser"), [x for x in console if '"[PST]: ' not in x]


def test_every_lecture_and_assignment_has_a_page_with_its_title(site):
    pages = [f"lectures/{name}" for name in LECTURES]
    pages += [f"assignments/{name}/{name}" for name in ASSIGNMENTS]
    for page in pages:
        title = cells(f"{page}.ipynb")[0].source.splitlines()[0].removeprefix("# ")
        assert parse(site / f"{page}.html").h1.find(string=True) == title
    index = {link["href"] for link in parse(site / "index.html").find_all("a", href=True)}
    assert index >= {f"{page}.html" for page in pages}


def test_assignments_follow_each_other_as_the_lectures_do(site):
    links = [link["href"] for link in parse(site / "index.html").nav.find_all("a", href=True)]
    shown = [link.split("/")[1] for link in links if link.startswith("assignments/")]
    listed = re.findall(r"\(\.\./assignments/(\w+)/", (ROOT / "lectures/README.md").read_text())
    assert shown == [topic for topic in listed if topic in ASSIGNMENTS]


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_a_description_has_every_card_and_no_code(site, name):
    page = parse(site / "assignments" / name / f"{name}.html")
    headings = {heading.find(string=True) for heading in page.find_all(["h2", "h3"])}
    for cell in cells(f"assignments/{name}/{name}.ipynb"):
        if cell.id.endswith("-card"):
            assert cell.source.splitlines()[0].strip("#` ") in headings
    assert not page.select("div.cell_input")
    assert "Your answer here" not in page.text


@each_lecture
def test_figures_carry_their_alternative_texts(site, name):
    shown = [image["alt"] for image in parse(site / f"lectures/{name}.html").find_all("img")]
    for cell in cells(f"lectures/{name}.ipynb"):
        for output in cell.get("outputs", []):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            assert alt is None or alt in shown


def test_pages_refer_to_nothing_outside_and_to_nothing_that_is_missing(site):
    # The theme leaves a template in _static that is no page.
    pages = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    assert len(pages) > len(LECTURES) + len(ASSIGNMENTS)
    for path in pages:
        page = parse(path)
        loaded = [tag[name] for name in ("src", "data") for tag in page.find_all(**{name: True})]
        loaded += [tag["href"] for tag in page.find_all("link", href=True)]
        for url in map(urlsplit, loaded):
            assert not url.scheme and not url.netloc, (path, url)
        linked = [urlsplit(tag["href"]) for tag in page.find_all("a", href=True)]
        for url in [*map(urlsplit, loaded), *(url for url in linked if not url.scheme)]:
            assert not url.path or (path.parent / unquote(url.path)).exists(), (path, url)
    for path in site.rglob("*.css"):
        assert not re.search(r"""(@import|url\()\s*["']?(https?:)?//""", path.read_text()), path


def test_only_links_that_lead_out_of_the_book_become_text(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book")
    build = importlib.import_module("build")
    (tmp_path / "lectures").mkdir()
    (tmp_path / "lectures" / "README.md").touch()
    kept = "[a](README.md#notation), [b](https://arxiv.org/abs/1), [c](#claims), [d](mistyped.md)"
    text = kept + ", [`e`](../tests/site/test_book.py), [f](08_continuous_flows.ipynb)"
    page = Path("lectures/01_a.ipynb")
    assert build.unlink(text, page, tmp_path) == kept + ", `e`, f"


def reference_page(site, module):
    """The entries of a module's page: full name → its signature and what is said of it."""
    entries = parse(site / "reference" / f"{module}.html").select("dt.sig[id]")
    return {e["id"]: (e.text.replace("\n", ""), e.find_next_sibling("dd").text) for e in entries}


def test_every_module_has_a_page_in_the_reference(site):
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in ROOT.glob("dgm_utils/**/[a-z]*.py")
        # The last two are for maintainers.
        if not {"exercises", "authoring", "cli.py"} & set(path.parts)
    }
    listed = parse(site / "reference" / "index.html").article.find_all("a", href=True)
    assert {link["href"].removesuffix(".html") for link in listed} >= modules
    for module in modules:
        docstring = ast.get_docstring(
            ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        )
        first = docstring.splitlines()[0].replace("`", "")
        assert first in parse(site / "reference" / f"{module}.html").article.text


@pytest.mark.parametrize("module", ["dgm_utils.vampprior", "dgm_utils.models.vae"])
def test_a_page_has_what_its_module_has(site, module):
    entries = reference_page(site, module)
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    public = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    public = [node for node in public if not node.name.startswith("_")]
    assert public
    for node in public:
        signature, text = entries[f"{module}.{node.name}"]
        assert re.sub(r"\W", "", ast.get_docstring(node).splitlines()[0]) in re.sub(r"\W", "", text)
        if isinstance(node, ast.FunctionDef):
            assert f"{node.name}({ast.unparse(node.args)})" in signature
    assert not any("._" in name for name in entries)


def test_arguments_and_errors_of_a_function_are_said(site):
    signature, text = reference_page(site, "nbjudge.check")["nbjudge.check.Checker.__call__"]
    assert signature.startswith("__call__(function: Callable, seed: int = 0) → None")
    for words in ("Parameters:", "seed – makes the cases", "Raises:", "CheckFailed – when"):
        assert words in text
    signature, _ = reference_page(site, "dgm_utils.training")["dgm_utils.training.History"]
    assert "History(loss: list = list()" in signature


def test_search_index_knows_a_word_of_lecture_5(site):
    text = (site / "searchindex.js").read_text()
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    found = index["terms"]["frullani"]
    found = found if isinstance(found, list) else [found]
    assert "lectures/05_iwae" in [index["docnames"][number] for number in found]


@needs_chromium
@pytest.mark.parametrize(
    ("word", "page_found"),
    [
        ("frullani", "lectures/05_iwae.html"),
        ("sample_vampprior", "reference/dgm_utils.vampprior.html#dgm_utils.vampprior.sample_va"),
    ],
)
def test_search_works_from_the_disk(site, profile, word, page_found):
    page, console = open_in_chromium(site / "search.html", profile, f"?q={word}")
    hits = [link["href"] for link in page.select("#search-results a")]
    assert any(page_found in hit for hit in hits)
    assert console == []


@needs_chromium
@pytest.mark.parametrize(
    "page",
    [
        *("index", "lectures/README", "assignments/iwae/iwae"),
        *(f"lectures/{x}" for x in LECTURES),
        *("reference/index", "reference/dgm_utils.models.vae", "reference/nbjudge.check"),
    ],
)
def test_a_page_opened_from_the_disk_shows_formulas_and_figures(site, profile, page):
    path = site / f"{page}.html"
    built = path.read_text()
    copy = path.with_suffix(".probe.html")
    copy.write_text(built.replace("<head>", "<head>" + PROBE, 1))
    shown, console = open_in_chromium(copy, profile)
    copy.unlink()
    assert console == []
    assert shown.html["data-missing"] == ""
    assert shown.html["data-foreign"] == ""
    assert int(shown.html["data-outside"]) <= 0, "the page is wider than the window"

    article = shown.article
    assert all(int(image["data-width"]) > 0 for image in article.find_all("img"))
    formulas = BeautifulSoup(built, "html.parser").article.select(".math")
    assert len(article.select("mjx-container")) == len(formulas)
    # Unknown commands come out in red, others that fail as an error.
    assert not article.select("merror, [data-mjx-error], [data-mml-node=merror], [mathcolor=red]")
    for tag in article.select("pre, code, mjx-container, script"):
        tag.decompose()
    assert "$" not in article.text


@needs_chromium
def test_chromium_tells_what_is_wrong_with_a_page(profile, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<html><head>" + PROBE + "</head><body><script>nothing()</script>"
        '<img src="missing.png"><link rel="stylesheet" href="http://example.org/a.css">'
        '<style>@font-face { font-family: far; src: url("http://example.org/a.woff2"); }</style>'
        '<p style="font-family: far">text</p>'
    )
    shown, console = open_in_chromium(page, profile)
    assert "nothing is not defined" in console[0]
    for name in ("missing.png", "a.css"):
        assert name in shown.html["data-missing"]
    assert "http://example.org/a.woff2" in shown.html["data-foreign"]
