"""One HTML file that needs nothing else: style, code and data are in it, and nothing is loaded.

A strict content security policy allows only the code and the style of this package, by their hashes. What
comes from data is text: the template escapes it, and JSON in the page has no character that HTML reads.
"""

import base64
import gzip
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files as package_files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from survey import __version__

SCRIPTS = (
    "uPlot.iife.min.js",
    "base.js",
    "table.js",
    "curves.js",
    "planes.js",
    "blocks.js",
)
"""The code of every page, in this order."""
VETTING_SCRIPTS = ("spectra.js", "draw.js", "verdicts.js", "details.js", "vetting.js")
"""The code of a vetting page, after that."""
STYLES = ("uPlot.min.css", "page.css")
TEMPLATES = ("page.html", "blocks.html", "vetting.html")
MARK = "survey-page"
"""The name of the meta element that holds the fingerprint of a page."""
HEAD_BYTES = 4096
"""The fingerprint stands in so many bytes at the beginning of a page."""
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass
class Attachments:
    """Data that the code of a page reads, by the id of their script element."""

    json: dict[str, str] = field(default_factory=dict)
    packed: dict[str, str] = field(default_factory=dict)

    def add_json(self, name: str, value: Any) -> None:
        """Values as JSON."""
        self.json[name] = to_json(value)

    def add_packed(self, name: str, data: bytes) -> None:
        """Bytes that are packed by gzip, as base64."""
        self.packed[name] = base64.b64encode(data).decode()


@cache
def static(name: str) -> str:
    """A file of this package that goes into pages."""
    return (package_files("survey.pages") / "static" / name).read_text(encoding="utf-8")


@cache
def environment() -> Environment:
    """The templates, which escape all values; a missing value is an error."""
    loader = DictLoader({name: static(name) for name in TEMPLATES})
    made = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["count"] = lambda number: f"{number:,}"
    return made


def to_json(value: Any) -> str:
    """JSON that may stand in a script element. What is no finite number is null."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub("|".join(ESCAPES), lambda found: ESCAPES[found[0]], text)


def squeezed_json(value: Any) -> bytes:
    """Values as JSON, packed by gzip."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode(), 9, mtime=0)


def _plain(value: Any) -> Any:
    """The value without numbers that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value if value is None or isinstance(value, str | int) else str(value)


def _joined(names: Iterable[str]) -> str:
    """Files after each other. No text in them ends a script or a style element."""
    text = "\n".join(static(name) for name in names)
    if "</script" in text.lower() or "</style" in text.lower():
        raise ValueError(f"page: a static file holds the end of an element: {', '.join(names)}")
    return text


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def code_id() -> str:
    """A hash of the code of pages: other code makes other pages."""
    names = (*SCRIPTS, *VETTING_SCRIPTS, *STYLES, *TEMPLATES)
    return hashlib.sha256("".join(map(static, names)).encode()).hexdigest()[:16]


def fingerprint(*parts: Any) -> str:
    """What decides the content of a page, as a short hash."""
    text = json.dumps([*parts, __version__, code_id()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def fingerprint_of(head: bytes) -> str:
    """The fingerprint in the beginning of a page; empty if it is no page of ours."""
    found = re.search(rb'<meta name="' + MARK.encode() + rb'" content="([0-9a-f]+)"', head[:HEAD_BYTES])
    return found[1].decode() if found else ""


def render(
    template: str, mark: str, attachments: Attachments, *, scripts: Iterable[str] = SCRIPTS, **values: Any
) -> bytes:
    """A page from a template, as the bytes of its file."""
    script, style = _joined(scripts), _joined(STYLES)
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    text = (
        environment()
        .get_template(template)
        .render(
            mark=mark,
            policy=policy,
            script=script,
            style=style,
            attachments=attachments,
            version=__version__,
            **values,
        )
    )
    return text.encode()
