r"""Text of students as HTML that a browser can be given.

Tags, attributes, style properties and classes come from lists of what is allowed; nh3 does the
parsing, as a browser does it. Identifiers get a prefix and classes that a page's own scripts look
for are none of the allowed, so that no text can stand in for a part of the page. Macros of MathJax
that make links or styles are shown instead of executed.
"""

import base64
import binascii
import html
import re
import secrets
from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.parse import unquote

import nh3
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from nbjudge.errors import readable

# Rendering takes a time that can grow with the square of a text's length or of its tags. Nobody
# writes longer answers, pictures not counted; a longer one is shown as plain text.
MARKDOWN_LIMIT = 20_000
TAG_LIMIT = 20_000

_ID_PREFIX = "user-"
# What was made from a cell that was not safe begins so, and is no markdown any more.
_MADE_SAFE = '<div class="made-safe">'
_LEFT_OUT = (
    '<p class="missing"><em>[What a page would execute, load or lay over others is left out here.]'
    "</em></p>"
)


def _words(*lines):
    return {word for line in lines for word in line.split()}


_TAGS = _words(
    "a abbr b bdi blockquote br caption center cite code col colgroup dd del details dfn div dl dt",
    "em figcaption figure h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q rp rt ruby s samp",
    "small span strike strong sub summary sup table tbody td tfoot th thead tr tt u ul var",
)
# Of these the content goes too: it is nothing that was written to be read.
_WHOLE = _words("script style svg math iframe object embed template noscript head title")
_ATTRIBUTES = {
    "*": {"align", "aria-label", "class", "dir", "id", "lang", "role", "style", "title"},
    "a": {"href"},
    "col": {"span"},
    "colgroup": {"span"},
    "details": {"open"},
    "img": {"alt", "height", "src", "width"},
    "ol": {"start", "type"},
    "table": {"border", "cellpadding", "cellspacing"},
    "td": {"colspan", "rowspan", "valign"},
    "th": {"colspan", "rowspan", "scope", "valign"},
}
# Nothing that takes a box out of its place or lays it over another one.
_PROPERTIES = re.compile(
    r"color|background(-color)?|border(-(top|right|bottom|left))?(-(color|style|width))?"
    r"|border-(collapse|radius|spacing)|(padding|margin)(-(top|right|bottom|left))?|opacity"
    r"|text-align|text-decoration|font-(style|weight|family)|white-space|vertical-align"
    r"|(max-)?width|display|grid-template-columns|column-gap|list-style-type"
)
_VALUES = re.compile(
    r"(#[0-9a-f]{3,8}|(rgb|hsl)a?\([\d.,% ]{1,40}\)|[a-z][a-z-]*"
    r"|\d*\.?\d{1,4}(px|em|ex|rem|pt|%|fr)?)([ ,]+|$)",
    re.IGNORECASE,
)
_CLASSES = re.compile(
    r"highlight|hll|[a-z]{1,2}[a-z0-9]?|ansi-[a-z-]+|language-[\w+-]+|dataframe|anchor-link"
    r"|task-list-item|alert(-[a-z]+)?|made-safe|missing"
)
PICTURE = re.compile(r"data:image/(?:png|jpe?g|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]+={0,2}")
_PICTURE_FILE = re.compile(r"[^/]*\.(png|jpe?g|gif|webp|svg)", re.IGNORECASE)
_MACROS = re.compile(
    r"\\(?=(?:href|url|require|unicode|style|class|cssId|data|mmlToken|texttip|tooltip|toggle|bbox"
    r"|includegraphics|action|html[A-Za-z]*)(?![A-Za-z]))"
)
# Code is not looked at by MathJax. nh3 writes every attribute in double quotes.
_PIECES = re.compile(
    r"(<pre\b.*?</pre>|<code\b.*?</code>|<(?:\"[^\"]*\"|[^\">])*>)", re.DOTALL | re.IGNORECASE
)
# Pygments has some that take exponential time.
_LANGUAGES = _words("bash console ipython ipython3 json py pycon python python3 sh")
# A text with nothing of this is the same in every renderer, and needs none to be looked at.
_SUSPICIOUS = re.compile(rf"[<&]|\]\(|\]:|mermaid|{_MACROS.pattern}")
# An element that HTML does not know and that has no attribute: a formula such as x<y>z.
_FORMULA = re.compile(r"</?([A-Za-z][\w:-]*)\s*/?>")
_SIGNATURES = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
    "image/svg+xml": (b"",),
}
IMAGE_TYPES = frozenset(_SIGNATURES)


def clean_html(text: str) -> str:
    """HTML without anything that acts, loads, or leaves its place.

    With more than `TAG_LIMIT` tags it becomes plain text.
    """
    if text.count("<") > TAG_LIMIT:
        return as_plain_text(text)
    pieces = _PIECES.split(_CLEANER.clean(text))
    # A tag between the backslash and the name: no macro, and it reads the same.
    pieces[::2] = [_MACROS.sub(r"\\<span></span>", piece) for piece in pieces[::2]]
    return "".join(pieces)


def as_plain_text(text: str) -> str:
    """Text as it was typed, in an element that keeps its lines."""
    return f"<pre>{html.escape(readable(text), quote=False)}</pre>"


def render_markdown(source: str, attachments: Mapping | None = None) -> str:
    """The safe HTML of a markdown text.

    Args:
        source: markdown, with formulas.
        attachments: name → type → base64, as nbformat has them.

    """
    return clean_html(_raw(source, attachments))


def safe_markdown(source: str, attachments: Mapping | None = None) -> str:
    """Markdown that is safe in other renderers too.

    It is the same text if rendering it is harmless; otherwise it is the HTML that is left of it, in
    one block. What is safe already does not change.

    Args:
        source: markdown, with formulas.
        attachments: name → type → base64, already checked.

    """
    source = readable(source)
    if not _is_long(source) and not _SUSPICIOUS.search(source):
        return source
    raw = _raw(source, attachments)
    cleaned = clean_html(raw)
    if not _is_long(source) and _seen(raw) == _seen(cleaned):
        return source
    if source.startswith(_MADE_SAFE):
        return cleaned
    # A blank line would end the block.
    cleaned = re.sub(r"\n(?=\s*\n)", "&#10;", cleaned.strip())
    return f"{_MADE_SAFE}{cleaned}{'' if _is_long(source) else _LEFT_OUT}</div>"


def safe_raw(text: str) -> str:
    """HTML that is safe in every page: the same text if it was, otherwise what is left of it."""
    cleaned = clean_html(text)
    few = text.count("<") <= TAG_LIMIT
    return text if few and _seen(text) == _seen(cleaned) else cleaned


def image_data(kind: str, data: object) -> str | None:
    """A picture's base64 without anything else in it; None if it is none of this type."""
    if kind not in _SIGNATURES or not isinstance(data, str):
        return None
    if kind == "image/svg+xml" and "<" in data:
        return base64.b64encode(data.encode("utf-8", "replace")).decode()
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    good = content and content.startswith(_SIGNATURES[kind])
    return base64.b64encode(content).decode() if good else None


# ── What is allowed ──────────────────────────────────────────────────────────────────────────────


def _attribute(tag, name, value):
    """An attribute's value as it may stand; None takes it away."""
    match name:
        case "href":
            return _link(value)
        case "src":
            return value if PICTURE.fullmatch(value) else _file(value, _PICTURE_FILE)
        case "style":
            return _style(value)
        case "class":
            return " ".join(filter(_CLASSES.fullmatch, value.split())) or None
        case "id":
            return value if value.startswith(_ID_PREFIX) else _ID_PREFIX + value
        case "width" | "height" | "border" | "cellpadding" | "cellspacing" | "colspan" | "rowspan":
            return value if re.fullmatch(r"\d{1,4}(px|%)?", value) else None
        case "role":
            return value if value in ("group", "img", "note", "presentation") else None
    return value


def _link(url):
    if url.startswith("#"):
        return url if url.startswith(f"#{_ID_PREFIX}") else f"#{_ID_PREFIX}{url[1:]}"
    if re.match(r"(https?://|mailto:)[^\s\\]", url, re.IGNORECASE):
        return url
    return _file(url, re.compile(".*"))


def _file(url, wanted):
    """A file beside the notebook; nothing else of the server that shows the page."""
    parts = _parts(url)
    return url if parts and ".." not in parts and wanted.fullmatch(parts[-1]) else None


def _parts(url):
    """Of a path from here; none of anything else."""
    parts = unquote(url.partition("#")[0]).split("/")
    # Browsers take blanks at the ends away.
    good = all(part.strip() and not re.search(r"[\\:?#\x00-\x1f]", part) for part in parts)
    return parts if good else []


def _is_of_the_course(url):
    """Whether it names a file elsewhere in the course, such as a lecture; no page has it."""
    parts = _parts(url)
    return ".." in parts and bool(re.fullmatch(r".*[^.]\.\w{1,9}", parts[-1]))


def _style(text):
    pairs = [declaration.partition(":") for declaration in text.split(";") if declaration.strip()]
    good = [
        f"{name.strip()}:{value.strip()}"
        for name, _, value in pairs
        if _PROPERTIES.fullmatch(name.strip().lower())
        and len(value) < 200
        and not _VALUES.sub("", value.strip())
    ]
    if len(good) == len(pairs):
        return text
    return ";".join(good) or None


# Relative addresses pass, and `_attribute` decides.
_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=_WHOLE,
    attributes=_ATTRIBUTES,
    attribute_filter=_attribute,
    url_schemes={"http", "https", "mailto", "data"},
)


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────


def _is_long(source):
    return len(source) > MARKDOWN_LIMIT and len(PICTURE.sub("", source)) > MARKDOWN_LIMIT


def _raw(source, attachments):
    """The HTML of a markdown text, not safe yet."""
    if source.startswith(_MADE_SAFE):
        return source
    if _is_long(source):
        return as_plain_text(source)
    # The renderer looks at every character of a picture, many times.
    pictures = dict(enumerate(PICTURE.findall(source)))
    mark = secrets.token_hex(8)
    numbers = iter(pictures)
    short = PICTURE.sub(lambda _: f"data:image/png;base64,{mark}{next(numbers)}.", source)
    try:
        made = MarkdownWithMath(renderer=_Renderer(attachments)).render(short)
        return re.sub(
            rf"data:image/png;base64,{mark}(\d+)\.", lambda found: pictures[int(found[1])], made
        )
    except Exception:
        # Whatever the renderer makes of what somebody bent, the text can be read.
        return as_plain_text(source)


class _Renderer(IPythonRenderer):
    """nbconvert's, but for what would load something, fail, or take long."""

    def __init__(self, attachments):
        super().__init__(escape=False, attachments=dict(attachments or {}))

    def image(self, text, url, title=None):
        """A picture of the notebook's own; of any other the address."""
        if url.startswith("attachment:"):
            name = unquote(url.removeprefix("attachment:"))
            found = self.attachments.get(name) or self.attachments.get(url[len("attachment:") :])
            if not found:
                text = f"[the picture {name} is not in the notebook]"
                return f'<em class="missing">{html.escape(text)}</em>'
            kind = min(found, key=lambda kind: [*_SIGNATURES, kind].index(kind))
            url = f"data:{kind};base64,{found[kind]}"
        elif re.match("https?:", url, re.IGNORECASE):
            return self.link(f"[picture: {text or html.escape(url)}]", url, title)
        return super().image(text, url, title)

    def block_code(self, code, info=None):
        """Code in colours, in the languages of a course."""
        words = (info or "").split()
        if words and words[0] not in _LANGUAGES and not words[0].startswith("mermaid"):
            info = None
        return super().block_code(code, info)

    def block_mermaidjs(self, code):
        """No drawing: its program."""
        return super().block_mermaidjs(code) if "<" in code else super().block_code(code)

    def inline_html(self, html):
        """A tag, or what only looks like one."""
        found = _FORMULA.fullmatch(html)
        known = found is None or found[1].lower() in _TAGS | _KNOWN
        return super().inline_html(html) if known else self.escape_html(html)


# Elements of HTML, SVG and MathML that are not allowed and that a browser does something with.
_KNOWN = _WHOLE | _words(
    "animate annotation-xml applet area article aside audio base basefont bgsound body button",
    "canvas data datalist dialog dir fieldset font footer foreignobject form frame frameset header",
    "hgroup html image input isindex keygen label legend link listing main map marquee menu meta",
    "meter nav nobr noembed noframes optgroup option output param picture plaintext progress",
    "search section select set slot source textarea time track use video wbr xmp",
)


class _Reader(HTMLParser):
    """What is seen of an HTML text: its elements in order, and its words."""

    def __init__(self):
        super().__init__()
        self.seen = [""]

    def handle_starttag(self, tag, attrs):
        """An element; what cleaning adds to each is left out."""
        if tag in ("tbody", "br") or (tag == "p" and not attrs):
            return
        about = {name: value or "" for name, value in attrs if name != "rel"}
        about = {
            name: value
            for name, value in about.items()
            if name not in ("href", "src") or not _is_of_the_course(value)
        }
        if "id" in about:
            about["id"] = about["id"].removeprefix(_ID_PREFIX)
        if about.get("href", "").startswith("#"):
            about["href"] = "#" + about["href"][1:].removeprefix(_ID_PREFIX)
        self.seen += [(tag, sorted(about.items())), ""]

    def handle_data(self, data):
        """Words, without the space between them."""
        self.seen[-1] += "".join(data.split())

    def handle_comment(self, data):
        """Parsers differ in where one ends."""
        if set(data) & {"<", ">"}:
            self.unknown_decl(data)

    def unknown_decl(self, data):
        """Nothing that anybody writes."""
        self.seen += [None, ""]

    handle_decl = handle_pi = unknown_decl


def _seen(text):
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.seen
