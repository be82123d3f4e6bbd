"""Our client for buckets, against a server of a few lines that answers as it is asked to."""

import inspect
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from s3fs import S3FileSystem

from survey import buckets, files
from survey.buckets import Buckets

PAGE = """<ListBucketResult><Name>sky</Name><IsTruncated>{more}</IsTruncated>
<NextContinuationToken>{token}</NextContinuationToken><Contents><Key>{key}</Key><Size>1</Size>
<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"""
FIRST, LAST = PAGE.format(more="true", token="t", key="a"), PAGE.format(more="false", token="", key="b")
HTML = "<html><body>Back in a minute</body></html>"


class Server(HTTPServer):
    """Gives its answers, status and body, one after the other; the last one again and again."""

    answers: list[tuple[int, str]]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        status, body = self.server.answers[0]
        if len(self.server.answers) > 1:
            self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server; this process's client of buckets talks to it, by an address with a password."""
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    system = Buckets(
        anon=True,
        endpoint_url=f"http://me:hush@127.0.0.1:{server.server_port}",
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={"retries": {"total_max_attempts": 1}, "s3": {"addressing_style": "path"}},
    )
    monkeypatch.setattr(files, "bucket_system", lambda: system)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    server.answers = [(status, ""), (status, "<Error><Code>TooManyRequests</Code></Error>"), (200, "bytes")]
    assert files.read("s3://sky/a") == b"bytes"


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_a_write_that_met_another_one_is_repeated(server: Server, code: str) -> None:
    server.answers = [(409, f"<Error><Code>{code}</Code></Error>"), (200, "bytes")]
    assert files.read("s3://sky/a") == b"bytes", "the code of the answer decides, whatever was asked"


@pytest.mark.parametrize("page", [HTML, "<html><br></html>", "", PAGE.format(more="true", token="", key="b")])
def test_a_page_that_is_no_listing_is_asked_for_again(server: Server, page: str) -> None:
    server.answers = [(200, FIRST), (200, page), (200, LAST)]
    assert [entry.path for entry in files.walk("s3://sky/")] == ["s3://sky/a", "s3://sky/b"]


def test_a_listing_that_stays_incomplete_is_an_error_without_the_password_of_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "PATIENCE", 0.0)
    server.answers = [(200, FIRST), (200, HTML)]
    with pytest.raises(ConnectionError) as caught:
        list(files.walk("s3://sky/"))
    assert "me:***@127.0.0.1" in str(caught.value)
    assert "the answer is no listing" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_name_that_no_bucket_can_have_holds_no_object(server: Server) -> None:
    with pytest.raises(FileNotFoundError, match=r"^s3://a b/c: no such object$"):
        files.read("s3://a b/c")


def test_s3fs_sends_every_request_through_the_method_that_we_override() -> None:
    """`_call_s3` is private; s3fs offers no public place for retries. Here a change of it is noticed."""
    assert inspect.iscoroutinefunction(S3FileSystem._call_s3)
    parameters = inspect.signature(S3FileSystem._call_s3).parameters
    assert [(name, parameter.kind.name) for name, parameter in parameters.items()] == [
        ("self", "POSITIONAL_OR_KEYWORD"),
        ("method", "POSITIONAL_OR_KEYWORD"),
        ("akwarglist", "VAR_POSITIONAL"),
        ("kwargs", "VAR_KEYWORD"),
    ]
    assert Buckets._call_s3 is not S3FileSystem._call_s3
    assert "self._call_s3(" in inspect.getsource(S3FileSystem)
