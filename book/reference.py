"""The reference of both packages: a page for each module, made from signatures and docstrings.

The sources are read, not imported, so a page needs neither torch nor a running kernel. Docstrings
are Markdown with Google's sections; what has none, or a name with an underscore in front, is left
out.
"""

import ast
import inspect
from pathlib import Path

from sphinx.ext.napoleon import Config, GoogleDocstring

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, JUDGE = ROOT / "dgm_utils", ROOT / "nbjudge"
# For maintainers, who read the source.
LEFT_OUT = {"cli.py", "authoring"}
SECTIONS = {
    "Topics": "the functions an assignment is about",
    "Models": "what the topics are built from",
    "Shared ground": "exact answers, data, training, figures, argument checks",
    "Exercises": "for students: what a notebook imports",
    "Grading": "for instructors: how an exercise is described, checked and graded",
}
_NAPOLEON = Config(napoleon_use_rtype=False, napoleon_use_ivar=True)


def pages():
    """Section → name of a page → its summary and its text, in Markdown."""
    sections = {title: {} for title in SECTIONS}
    exercises = sorted(PACKAGE.glob("exercises/[a-z]*"))
    topics = {path.stem for path in exercises}
    for path in (*sorted(PACKAGE.rglob("*.py")), *sorted(JUDGE.rglob("*.py"))):
        folder = path.parent.name
        asked = path.is_relative_to(PACKAGE / "exercises")
        if path.name.startswith("_") or asked or LEFT_OUT & set(path.parts):
            continue
        if folder == "models":
            section = "Models"
        elif path.is_relative_to(JUDGE):
            section = "Grading"
        else:
            section = "Topics" if path.stem in topics else "Shared ground"
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        sections[section][name] = ast.get_docstring(tree).splitlines()[0], page(name, tree)
    sections["Exercises"]["dgm_utils.exercises"] = (
        "`check` of each assignment.",
        _exercises(exercises),
    )
    return sections


def index(sections):
    """The first page of the reference, which lists the others."""
    text = [
        "# Reference\n",
        "`dgm_utils` and `nbjudge` from their docstrings. Shapes are written as in `(K, B)`; the "
        "letters are those of the [notation](../lectures/README.md#notation).\n",
    ]
    for title, found in sections.items():
        text.append(f"## {title}\n\n{SECTIONS[title][0].upper()}{SECTIONS[title][1:]}.\n")
        text += [f"- [`{name}`]({name}.md): {summary}" for name, (summary, _) in found.items()]
        short = [f"{name.removeprefix('dgm_utils.')} <{name}>" for name in found]
        text.append("\n".join(["", "```{toctree}", ":hidden:", "", *short, "```", ""]))
    return "\n".join(text)


def page(name, tree):
    """The page of a module."""
    text = [f"# {name}\n", f"```{{py:module}} {name}\n```\n", _docstring(tree)]
    for node in tree.body:
        if _is_public(node):
            text.append(_class(node) if isinstance(node, ast.ClassDef) else _function(node))
    return "\n".join(text)


def _exercises(paths):
    text = [
        "# dgm_utils.exercises\n",
        "One module for each assignment. A notebook takes `check` from it: `check(function)` is "
        "{py:meth}`nbjudge.check.Checker.__call__`, `check.hint(name, 1)` is "
        "{py:meth}`nbjudge.check.Checker.hint`.\n",
    ]
    for path in paths:
        tree = ast.parse((path / "__init__.py" if path.is_dir() else path).read_text())
        (table,) = (n.value for n in tree.body if _assigns(n, "EXERCISES"))
        # A folder lists names in a call; a module lists variables in a tuple.
        asked = (
            [entry.value for entry in table.args[1:]]
            if isinstance(table, ast.Call)
            else [entry.id.removeprefix("_") for entry in table.elts]
        )
        names = ", ".join(f"`{name}`" for name in asked)
        text.append(f"```{{py:module}} dgm_utils.exercises.{path.stem}\n```\n")
        text.append(_directive("data", "check", f"Checks {names}.", [":type: Checker"]))
    return "\n".join(text)


def _assigns(node, name):
    return isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name


def _is_public(node):
    if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or not ast.get_docstring(node):
        return False
    return not node.name.startswith("_") or node.name == "__call__"


def _function(node, kind="function"):
    """The entry of a function or method, with its signature."""
    decorators = {getattr(d, "id", getattr(d, "attr", "")) for d in node.decorator_list}
    arguments = node.args
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    if decorators & {"property", "cached_property"}:
        signature = node.name
        kind = "property"
        options = [f":type: {ast.unparse(node.returns)}"] if node.returns else []
        return _directive(kind, signature, _docstring(node), options)
    options = [f":{d}:" for d in ("staticmethod", "classmethod") if d in decorators]
    if kind == "method" and "staticmethod" not in decorators:
        arguments.args = arguments.args[1:]  # self or cls
    signature = f"{node.name}({ast.unparse(arguments)}){returns}"
    return _directive(kind, signature, _docstring(node), options)


def _class(node):
    """The entry of a class: how it is made, and its public methods."""
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
    init = next((m for m in methods if m.name == "__init__"), None)
    if init:
        init.args.args = init.args.args[1:]
        arguments = ast.unparse(init.args)
    else:
        # A dataclass takes its fields.
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        arguments = ", ".join(ast.unparse(_WithDefaults().visit(n)) for n in fields)
    inside = [_docstring(node), *(_function(m, "method") for m in methods if _is_public(m))]
    return _directive("class", f"{node.name}({arguments})", "\n".join(inside))


class _WithDefaults(ast.NodeTransformer):
    """Says of a dataclass's field what its default is, not how it is made."""

    def visit_Call(self, node):
        if getattr(node.func, "id", "") != "field":
            return node
        (made_by,) = (k.value for k in node.keywords if k.arg == "default_factory")
        is_lambda = isinstance(made_by, ast.Lambda)
        return made_by.body if is_lambda else ast.Call(made_by, args=[], keywords=[])


def _docstring(node):
    """A docstring as Markdown, with the sections on arguments and errors as fields."""
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    return str(GoogleDocstring(text, _NAPOLEON)) + "\n"


def _directive(kind, signature, content, options=()):
    # A fence must be longer than those inside it.
    fence = "`" * (3 if "```" not in content else 4 if "````" not in content else 5)
    lines = [f"{fence}{{py:{kind}}} {signature}", *options, "", content.rstrip(), fence, ""]
    return "\n".join(lines)
