"""What a topic, an exercise and its arguments may be called."""

import builtins
import keyword
import re
from collections.abc import Sequence

from nbjudge.errors import UserError

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
# A cell's id has 64 characters, and a line of code holds a name beside other words.
_MAX_NAME = 40


def require_names(topic: str, name: str, arguments: Sequence[str]) -> None:
    """Refuse a name that Python, a notebook or a line of code has no room for.

    Raises:
        UserError: with the name, and what it has to be.

    """
    for kind, word in (("topic", topic), ("name", name), *(("argument", a) for a in arguments)):
        if not _IDENTIFIER.fullmatch(word) or keyword.iskeyword(word) or "__" in word:
            raise UserError(
                f"the {kind} {word!r} will not do: it becomes a name in Python, of small letters, "
                "digits and single underscores, a letter first, and no keyword"
            )
        if len(word) > _MAX_NAME:
            raise UserError(
                f"the {kind} {word!r} is longer than {_MAX_NAME} characters: shorten it"
            )
    if hasattr(builtins, name):
        raise UserError(f"{name!r} is a function of Python's own: choose another name")
    if len(set(arguments)) < len(arguments):
        raise UserError(f"an argument is named twice: {', '.join(arguments)}")
