"""nbgrader's formgrader, made safe for an instructor who looks at what anybody handed in.

`quirks` calls `guard` for `nbgrader_config.py`, because Jupyter's server reads that. Whoever is
logged in there can give points and execute programs, and so could a script in a submission.
"""

from pathlib import Path

from nbformat.v4 import new_notebook
from nbgrader.server_extensions.formgrader.base import BaseHandler
from nbgrader.server_extensions.formgrader.handlers import FormgraderHandler
from tornado.web import HTTPError

_POLICY = "Content-Security-Policy"
# Of what is no page: data for the pages' programs, and files that students handed in.
_INERT = "default-src 'none'; sandbox"
_EXPORTER = "nbjudge_page_exporter"


def guard() -> None:
    """Replace how formgrader makes its pages; once for a process, however often it is called."""
    if BaseHandler.render is _render:
        return
    BaseHandler.render, BaseHandler.plain_render = _render, BaseHandler.render
    BaseHandler.exporter = property(_Exporter)
    BaseHandler.content_security_policy = property(lambda handler: _with_frames(handler, _INERT))
    FormgraderHandler.get, FormgraderHandler.plain_get = _open, FormgraderHandler.get


def _render(handler, name, **about):
    """A page of lists and names."""
    from nbjudge.reports.pages import escaped, with_programs

    page = with_programs(handler.plain_render(name, **escaped(about)))
    _set_policy(handler, page)
    return page


class _Exporter:
    """Makes the page on which a submission is graded.

    Args:
        handler: of the request for it.

    """

    def __init__(self, handler):
        self._handler = handler

    def from_filename(self, filename, resources):
        """The page of a notebook, as nbconvert's exporters make it."""
        from nbjudge.reports.pages import PageExporter, escaped

        settings = self._handler.settings
        if _EXPORTER not in settings:
            settings[_EXPORTER] = PageExporter(config=settings["nbgrader_exporter"].config)
        exporter, resources = settings[_EXPORTER], escaped(resources)
        # Its programs are those of the page without a submission.
        empty, _ = exporter.from_notebook_node(new_notebook(), dict(resources))
        _set_policy(self._handler, empty, resources["submission_id"])
        return exporter.from_filename(filename, resources=resources)


def _set_policy(handler, page, submission=None):
    """Let the programs of a page run, and nothing else; it has nothing of a student's in it."""
    from nbjudge.reports.pages import policy

    request = handler.request
    root = f"{request.protocol}://{request.host}{handler.base_url}/formgrader"
    # Of the server only pictures beside the notebook: other addresses of it do something.
    images = "data:" if submission is None else f"data: {root}/submissions/{submission}/"
    rule = policy(page, f"{root}/static/", images, f"connect-src {root}/api/")
    handler.set_header(_POLICY, _with_frames(handler, rule))


def _with_frames(handler, rule):
    """A policy, and where the page may be shown: what the server is told, or in JupyterLab."""
    told = handler.settings.get("headers", {}).get(_POLICY, "frame-ancestors 'self'")
    return f"{rule}; {told}"


def _open(handler):
    """Formgrader's first address, with which one can name the folder of another course.

    Settings are programs, and one that a student handed in would be executed.
    """
    folders = handler.coursedir
    root = Path(folders.root).resolve()
    wanted = Path(handler.get_argument("path", "") or root).resolve()
    for name in ("submitted", "autograded", "feedback"):
        parts = Path(getattr(folders, f"{name}_directory")).parts
        if wanted.is_relative_to(root / parts[0]):
            raise HTTPError(403, "no course is opened from a folder that students fill")
    return handler.plain_get()
