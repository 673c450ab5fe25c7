"""A result as plain data: tensors, numbers and texts in containers, and no more than can travel."""

from typing import Any

import torch

# Characters: of what is printed, of a line of code, of an error's message, of a type's name.
PRINTED_LIMIT = 2_000
LINE_LIMIT = 100
MESSAGE_LIMIT = 500
NAME_LIMIT = 100
# Parts of one result, in all its containers, of which right ones have a dozen; how deep these
# nest; digits of a whole number.
PARTS_LIMIT = 200
# Bytes of a tensor; of a larger one the shape is wrong, and all that is kept.
TENSOR_LIMIT = 2**26
DEPTH_LIMIT = 8
DIGITS_LIMIT = 300


def plain(value) -> tuple[Any, str | None]:
    """Detached copies of a result, or the name of the first type that is not plain data.

    What inherits from a container or a number is one, and travels as one.
    """
    parts = _Parts()
    return parts.copy(value), parts.foreign


class _Parts:
    """Makes plain copies, until there are too many or one is not plain data."""

    def __init__(self):
        self.foreign = None
        self._left = PARTS_LIMIT

    def copy(self, value, depth=0):
        """A plain copy; None for what cannot be copied, of which `foreign` then has the name."""
        self._left -= 1
        if isinstance(value, torch.Tensor) and value.layout != torch.strided:
            return self._refuse("sparse tensor")
        if isinstance(value, torch.Tensor):
            kept = value.detach()
            return kept.clone() if kept.nbytes <= TENSOR_LIMIT else kept.to("meta")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__getitem__(value, slice(PRINTED_LIMIT))
        if isinstance(value, float):
            return float(value)
        if isinstance(value, int):
            if abs(int(value)) >= 10**DIGITS_LIMIT:
                return self._refuse(f"whole number of more than {DIGITS_LIMIT} digits")
            return int(value)
        kind = next((kind for kind in (dict, tuple, list) if isinstance(value, kind)), None)
        if kind is None or type(value).__module__ == "torch.return_types":
            name = f"{type(value).__module__}.{type(value).__qualname__}"
            return self._refuse(name.removeprefix("builtins."))
        if kind.__len__(value) > self._left or depth == DEPTH_LIMIT:
            return self._refuse(f"{kind.__name__} of more parts than any answer has")
        # Its items as the type itself has them, whatever one that inherits from it makes of them.
        if kind is dict:
            items = [(str(key)[:NAME_LIMIT], item) for key, item in dict.items(value)]
            return {key: self.copy(item, depth + 1) for key, item in items}
        return kind(self.copy(item, depth + 1) for item in kind.__iter__(value))

    def _refuse(self, name):
        self.foreign = self.foreign or name[:NAME_LIMIT]
