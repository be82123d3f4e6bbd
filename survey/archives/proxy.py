"""The proxy of the environment: its address, and the name and password that it wants.

The password goes into a header of the request, never into an address, so that no message shows it.
"""

import base64
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from survey.messages import without_secrets
from survey.settings import JobError

ADVICE = "give http://HOST:PORT or http://NAME:PASSWORD@HOST:PORT in http_proxy and https_proxy"


@dataclass(frozen=True)
class Proxy:
    """A proxy: its address without a password, and the headers that open it."""

    address: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def proxy_text(address: str) -> str:
    """What the environment gives as the proxy for an address; empty if there is none."""
    scheme, host = urlsplit(address).scheme, urlsplit(address).hostname or ""
    proxies = urllib.request.getproxies()
    return "" if urllib.request.proxy_bypass(host) else proxies.get(scheme, proxies.get("all", ""))


def parse_proxy(text: str) -> Proxy:
    """The proxy that a variable of the environment describes."""
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or no host
        is_usable = False
    if not is_usable:
        raise JobError(f"download: proxy: {without_secrets(text)[:200]}: cannot be used; {ADVICE}")
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = {"proxy-authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return Proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", headers)


def refusal() -> JobError:
    """The error where a proxy answers HTTP 407: no other file would pass either."""
    return JobError(
        "download: proxy: it wants a name and a password, or others (HTTP 407); "
        f"{ADVICE}, then run the same command again"
    )
