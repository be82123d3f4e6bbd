"""Addresses of an archive, and the token that opens them: where it may be sent, and that it is never shown.

A token comes from the environment only. It is added to an address at the moment of the request, for the host
of the archive alone. What is shown of an address, an error or an answer passes through `Access.hide`.
"""

import os
import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, quote_plus, urlencode, urljoin, urlsplit, urlunsplit

from pydantic import AfterValidator

from survey.messages import without_secrets

PORTS = {"http": 80, "https": 443}
HIDDEN = "***"
SHORTEST_TOKEN = 4


def _check_base(value: str) -> str:
    """An address without a name, a password, or anything after a question mark."""
    parts = urlsplit(value)
    try:
        is_usable = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_usable = False
    if not is_usable or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError("is no address of an archive; give one such as https://www.lamost.org")
    if "@" in parts.netloc:
        raise ValueError("holds a name or a password; give the address without, and the token by environment")
    return value.rstrip("/")


BaseAddress = Annotated[str, AfterValidator(_check_base)]
"""Where an archive or its mirror is."""


@dataclass(frozen=True, repr=False)
class Access:
    """The host of an archive, and the token for it; `parameter` is what the archive calls the token."""

    base: str
    token: str = ""
    parameter: str = "token"
    variable: str = ""

    def __repr__(self) -> str:
        return f"Access({self.base!r})"

    @classmethod
    def from_environment(cls, base: str, variable: str, parameter: str = "token") -> "Access":
        """The token in an environment variable; an archive without tokens has no variable."""
        token = os.environ.get(variable, "").strip() if variable else ""
        if token and (len(token) < SHORTEST_TOKEN or not token.isprintable() or " " in token):
            raise ValueError(f"download: {variable}: holds no token; copy it again from the archive's page")
        return cls(base, token, parameter, variable)

    def is_for(self, address: str) -> bool:
        """Whether the token may go to this address: the archive's own host and port, never less protected."""
        own, other = urlsplit(self.base), urlsplit(address)
        if own.hostname != other.hostname:
            return False
        is_upgrade = (own.scheme, other.scheme) == ("http", "https")
        if is_upgrade and own.port is None and other.port is None:
            return True
        return own.scheme == other.scheme and _port(own) == _port(other)

    def signed(self, address: str) -> str:
        """The address as it is sent: with the token for the archive's own host, else without any trace."""
        address = self.unsigned(address)
        if not self.token or not self.is_for(address):
            return address
        parts = urlsplit(address)
        pair = urlencode({self.parameter: self.token})
        return urlunsplit(parts._replace(query=f"{parts.query}&{pair}" if parts.query else pair))

    def unsigned(self, address: str) -> str:
        """The address without the token, also where a server has repeated it."""
        if not self.token or not any(form in address for form in self._forms):
            return address
        parts = urlsplit(address)
        pairs = [pair for pair in parts.query.split("&") if not any(form in pair for form in self._forms)]
        cleaned = urlunsplit(parts._replace(query="&".join(pairs), fragment=""))
        return self._replaced(cleaned)

    def follow(self, address: str, location: str) -> str:
        """The address that a redirect leads to, without the token."""
        return self.unsigned(urljoin(self.unsigned(address), location))

    def hide(self, text: str) -> str:
        """A text that may be shown: the token and passwords are replaced by stars."""
        return without_secrets(self._replaced(text))

    def _replaced(self, text: str) -> str:
        for form in self._forms if self.token else ():
            text = text.replace(form, HIDDEN)
        return text

    @property
    def _forms(self) -> set[str]:
        """How the token may be written in an address."""
        once = {self.token, quote(self.token, safe=""), quote_plus(self.token)}
        return once | {quote(form, safe="") for form in once}


def _port(parts: object) -> int | None:
    port: int | None = getattr(parts, "port", None)
    return port or PORTS.get(getattr(parts, "scheme", ""))
