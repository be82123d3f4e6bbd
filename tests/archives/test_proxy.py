"""A proxy that wants a name and a password gets them, and nothing else shows them."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from survey.archives.addresses import Access
from survey.archives.pace import Pace
from survey.archives.proxy import parse_proxy
from survey.archives.transfer import Transfer
from survey.settings import JobError

DATA = b"from the archive"
PASSWORD = "hu/sh@ß"
IN_ADDRESS = "me:hu%2Fsh%40%C3%9F@"


class Handler(BaseHTTPRequestHandler):
    """A proxy: it answers itself, or refuses."""

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        """A request for http://."""
        given = self.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
        is_known = base64.b64decode(given).decode() == f"me:{PASSWORD}"
        self.send_response(200 if is_known and self.path.startswith("http://archive.test/") else 407)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA)

    do_CONNECT = do_GET  # for https://, which this proxy always refuses


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def fetch(partial: Path, scheme: str = "http") -> bytes:
    transfer = Transfer(Access(f"{scheme}://archive.test"), Pace(1000), connections=1, timeout=5)
    return transfer.fetch(f"{scheme}://archive.test/a", partial).path.read_bytes()


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_name_and_the_password_of_a_proxy_are_sent_to_it(
    port: int, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"{scheme}{IN_ADDRESS}127.0.0.1:{port}")
    assert fetch(tmp_path / "partial") == DATA


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("given", ["", "me:wrong@"])
def test_a_proxy_that_refuses_ends_the_job_with_a_sentence_about_it(
    port: int, scheme: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", f"http://{given}127.0.0.1:{port}")
    with pytest.raises(JobError, match=r"proxy: it wants a name and a password, or others \(HTTP 407\)"):
        fetch(tmp_path / "partial", scheme)


@pytest.mark.parametrize("text", ["socks5://me:hush@host:1", "me:hush@host:99999", "http://me:hush@"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(text: str) -> None:
    with pytest.raises(JobError, match="cannot be used; give http://HOST:PORT") as caught:
        parse_proxy(text)
    assert "hush" not in str(caught.value)


def test_the_password_is_in_no_address_and_not_shown() -> None:
    found = parse_proxy("me:hush@host:8080")
    assert found.address == "http://host:8080"
    assert found.headers == {"proxy-authorization": f"Basic {base64.b64encode(b'me:hush').decode()}"}
    assert "Basic" not in repr(found)
    assert parse_proxy("http://host:8080").headers == {}
