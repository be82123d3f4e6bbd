"""Paths that begin with ``~/``: a shell expands them, but not in quotation marks, and no YAML file does."""

import os
from typing import Any


def expand_home(value: Any) -> Any:
    """A text ``~``, or one that begins with ``~/``, as a path of the home folder; so in a list, where ``~``
    alone may be a mark in a table.
    """
    if isinstance(value, list | tuple):
        items = [item if item == "~" else expand_home(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    is_below_home = isinstance(value, str) and (value == "~" or value.startswith("~/"))
    return os.path.expanduser(value) if is_below_home else value  # noqa: PTH111 - ~ alone too, and as text
