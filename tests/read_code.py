"""The code as tests read it: the text of a file, its syntax tree and all nodes of that, each found once."""

import ast
import gc
from functools import cache
from pathlib import Path


@cache
def text_of(path: Path) -> str:
    """The text of a file."""
    return path.read_text()


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file. The garbage collector would look at all trees again and again: it pauses."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text_of(path), str(path))
    finally:
        if was_on:
            gc.enable()


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of the tree of a file."""
    return tuple(ast.walk(tree(path)))
