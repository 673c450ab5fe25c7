"""What a kernel says, written down as a cell's outputs, as far as it stays within limits.

It may be student code that speaks: nothing is taken for granted, and whatever is kept is small
enough to be read again by whoever marks it.
"""

from dataclasses import dataclass

from nbformat import NotebookNode, from_dict

# Of one cell: messages, outputs, and what the data of outputs consists of beside text.
MESSAGES, OUTPUTS, PARTS = 50_000, 2_000, 20_000
# A part takes much more memory than the two characters it may be written with.
PART_COST = 100
# Of one output: kinds of data, and characters of a kind's name.
KINDS, KIND_NAME = 20, 200
# What is kept of an error: its name, its message, entries of its traceback at either end.
NAME, MESSAGE, ENTRIES, ENTRY = 200, 10_000, 20, 5_000
# What is kept of a flood.
HEAD = 1_000


class Flood(Exception):
    """More than one cell may put out; the message says of what."""


@dataclass
class Account:
    """What a cell may still send; whatever comes is charged before it is read.

    Args:
        limit: characters.

    """

    limit: int

    def __post_init__(self):
        self.spent = 0
        self._messages, self._parts = MESSAGES, PARTS

    def charge(self, characters: int = 0, messages: int = 0, parts: int = 0) -> None:
        """Charge what has come.

        Raises:
            Flood: when it is more than there was.

        """
        self.spent += characters + PART_COST * parts
        self._messages -= messages
        self._parts -= parts
        if self.spent > self.limit:
            raise Flood(f"This cell put out more than {self.limit:,} characters.")
        if self._messages < 0:
            raise Flood(f"This cell put out more than {MESSAGES:,} messages.")
        if self._parts < 0:
            raise Flood(f"This cell put out data of more than {PARTS:,} parts.")


class Outputs:
    """The outputs of one cell, made of messages.

    Args:
        cell: loses those it had.
        account: of this cell.
        displayed: id → the outputs that bear it; a later cell may change them.

    """

    def __init__(self, cell: NotebookNode, account: Account, displayed: dict):
        self._cell, self._account, self._displayed = cell, account, displayed
        self._texts = {}
        self._clear_next = False
        cell.outputs = []

    def read(self, kind: str, content: dict) -> None:
        """Take in what one message says.

        Raises:
            Flood: when the cell puts out too much.
            Exception: of any kind, when no kernel sends this.

        """
        if isinstance(number := content.get("execution_count"), int):
            self._cell.execution_count = number
        if kind == "clear_output":
            self._clear_next = bool(content["wait"])
            if not self._clear_next:
                self._clear()
        elif kind == "update_display_data":
            self._update(content)
        elif made := _MAKE.get(kind):
            if self._clear_next:
                self._clear()
            self._add(made(content, self._account), content)

    def must_tell(self, error: dict) -> None:
        """Have an error among the outputs, also where the cell saw to it that none is shown.

        Args:
            error: what the kernel answered.

        Raises:
            Exception: of any kind, when no kernel answers this.

        """
        told = [output.ename for output in self._cell.outputs if output.output_type == "error"]
        if _text(error["ename"])[:NAME] not in told:
            self._add(_error(error, self._account), error)

    def finish(self) -> None:
        """Put texts together that came in several messages."""
        for number, parts in self._texts.items():
            self._cell.outputs[number].text = "".join(parts)

    def cut(self) -> None:
        """Keep the beginning of what was printed, and nothing else."""
        self.finish()
        first = [output for output in self._cell.outputs[:1] if output.output_type == "stream"]
        self._cell.outputs = [from_dict({**o, "text": o.text[:HEAD]}) for o in first]

    def _clear(self):
        self._cell.outputs, self._texts, self._clear_next = [], {}, False

    def _add(self, output, content):
        outputs = self._cell.outputs
        if output.output_type == "stream":
            last = outputs[-1] if outputs else {}
            if last.get("output_type") == "stream" and last.name == output.name:
                self._texts[len(outputs) - 1].append(output.text)
                return
            self._texts[len(outputs)] = [output.text]
        outputs.append(output)
        if len(outputs) > OUTPUTS:
            raise Flood(f"This cell put out more than {OUTPUTS:,} outputs.")
        name = content.get("transient", {}).get("display_id")
        if name is not None and output.output_type != "stream":
            self._displayed.setdefault(_text(name, KIND_NAME), []).append(output)

    def _update(self, content):
        shown = self._displayed.get(content["transient"]["display_id"], ())
        # As many may bear the name as there are outputs, and each is changed.
        self._account.charge(messages=len(shown))
        new = _display(content, self._account)
        for output in shown:
            output.data, output.metadata = new.data, new.metadata


def _stream(content, account):
    name = content["name"]
    if name not in ("stdout", "stderr"):
        raise ValueError("a stream that is neither stdout nor stderr")
    return from_dict({"output_type": "stream", "name": name, "text": _text(content["text"])})


def _display(content, account):
    data, metadata = _bundle(content, account)
    return from_dict({"output_type": "display_data", "data": data, "metadata": metadata})


def _result(content, account):
    data, metadata = _bundle(content, account)
    number = content["execution_count"]
    if not isinstance(number, int):
        raise TypeError("a result without a number")
    about = {"data": data, "metadata": metadata, "execution_count": number}
    return from_dict({"output_type": "execute_result", **about})


def _error(content, account):
    entries = [_text(entry)[:ENTRY] for entry in content["traceback"]]
    if len(entries) > 2 * ENTRIES:
        entries = [*entries[:ENTRIES], "...", *entries[-ENTRIES:]]
    about = {"ename": _text(content["ename"])[:NAME], "evalue": _text(content["evalue"])[:MESSAGE]}
    return from_dict({"output_type": "error", **about, "traceback": entries})


_MAKE = {
    "stream": _stream,
    "display_data": _display,
    "execute_result": _result,
    "error": _error,
}


def _bundle(content, account):
    """Data by its kind, and what is said about it."""
    data, metadata = content["data"], content.get("metadata", {})
    if not (isinstance(data, dict) and isinstance(metadata, dict)):
        raise TypeError("data of no kind")
    if max(len(data), len(metadata)) > KINDS:
        raise ValueError("data of too many kinds")
    for kind, item in data.items():
        _text(kind, KIND_NAME)
        if not kind.endswith("json") and not isinstance(item, str):
            raise TypeError("data that is no text")
    for part in (*data.values(), metadata):
        account.charge(parts=0 if isinstance(part, str) else _parts(part))
    return data, metadata


def _parts(item, most=PARTS):
    """How many things an item of JSON consists of; soon too many, if there are too many."""
    found, todo = 0, [item]
    while todo and found <= most:
        item = todo.pop()
        found += 1
        if isinstance(item, (dict, list)):
            if len(item) > most:
                return most + 1
            todo += item.values() if isinstance(item, dict) else item
    return found


def _text(value, limit=None):
    if not isinstance(value, str) or (limit and len(value) > limit):
        raise TypeError(f"no text, or too long a one: {type(value).__name__}")
    return value
