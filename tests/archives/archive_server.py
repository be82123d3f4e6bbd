"""An archive on this machine that behaves badly, and that counts what it is asked.

It serves files under the addresses of LAMOST. Each file may have troubles: what happens at its first
requests, one after the other, or for ever. Connections are counted when one is opened: those that the client
has closed do not count, even if their thread has not noticed yet.
"""

import contextlib
import select
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "F1e2d3c4b5a6"
PAGE = b"<!DOCTYPE html><html><title>Maintenance</title>We are back soon.</html>" + b" " * 500
LOGIN = b"<!DOCTYPE html><html><head><title>LAMOST: please log in</title></head></html>"
STALL = 60.0
"""Seconds after which a connection that stands still ends; the client closes it long before."""
PERMANENT = ("404", "403", "html for ever", "damaged for ever", "500 for ever", "another file")
PASSING = (
    *("stall", "stall at once", "cut", "429", "500", "503", "short", "long", "html", "redirect", "away"),
    *("damaged", "close", "chunked", "chunked cut", "slow answer"),
)


@dataclass
class Served:
    """A file of the archive. `under`: only addresses with this part lead to it."""

    key: str
    name: str
    data: bytes
    troubles: list[str] = field(default_factory=list)
    under: str = ""


@dataclass
class Asked:
    """A request, as it arrived."""

    moment: float
    path: str
    key: str
    signed: bool
    range: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        """Answer a request."""
        moment, parts = time.monotonic(), urlsplit(self.path)
        query = parse_qs(parts.query)
        position = [",".join(query[name][0] for name in ("ra", "dec"))] if "ra" in query else []
        key = (query.get("obsid") or query.get("name") or position or [parts.path.rpartition("/")[2]])[0]
        signed = TOKEN in self.path
        with self.server.lock:
            asked = Asked(moment, parts.path, key, signed, self.headers.get("Range", ""))
            self.server.asked.append(asked)
            self.server.seen_text.append(f"{self.path} {self.headers}")
            served = self.server.files.get(key)
            served = served if served and served.under in parts.path else None
            trouble = served.troubles.pop(0) if served and served.troubles else ""
            if served and (trouble.endswith("for ever") or trouble in PERMANENT):
                served.troubles.insert(0, trouble)
        if self.server.needs_token and query.get("token") != [TOKEN]:
            self.send(LOGIN, kind="text/html")
        elif served is None:
            self.send(b"no such file", 404, "text/plain")
        else:
            self.answer(served, trouble.removesuffix(" for ever"))

    def answer(self, served: Served, trouble: str) -> None:
        """The file, or what goes wrong."""
        data = served.data
        half = data[: len(data) // 2]
        to_moved, to_mirror = f"/moved/{served.key}", f"{self.server.mirror}/away/{served.key}"
        answers: dict[str, dict[str, Any]] = {
            "404": {"data": b"sorry", "status": 404},
            "403": {"data": b"sorry", "status": 403},
            "500": {"data": b"sorry", "status": 500},
            "429": {"data": b"later", "status": 429, "headers": {"Retry-After": self.server.retry_after}},
            "503": {"data": b"later", "status": 503, "headers": {"Retry-After": self.server.retry_after}},
            "html": {"data": PAGE, "kind": "text/html"},
            "redirect": {"data": b"", "status": 302, "headers": {"Location": f"{to_moved}?token={TOKEN}"}},
            "away": {"data": b"", "status": 302, "headers": {"Location": f"{to_mirror}?token={TOKEN}"}},
            "damaged": {"data": damaged(data), "name": served.name},
            "short": {"data": data, "name": served.name, "headers": {"Content-Length": str(len(half))}},
            "another file": {"data": self.server.other_file, "name": served.name},
        }
        if trouble.startswith("to "):
            self.send(b"", 302, headers={"Location": trouble.removeprefix("to ")})
        elif trouble in answers:
            self.send(**answers[trouble])
        elif trouble in ("chunked", "chunked cut"):
            self.send_chunks(served, half if trouble == "chunked cut" else data, trouble == "chunked")
        elif trouble in ("stall", "stall at once", "cut", "long", "close"):
            self.send_part(served, half, trouble)
        else:
            time.sleep(0.2 if trouble == "slow answer" else 0)
            self.send_whole(served)

    def send_whole(self, served: Served) -> None:
        """The file, or the part of it that is asked for."""
        data, headers = served.data, {}
        if self.server.offers_ranges:
            tag = f'"{len(data)}-{served.key}"'
            headers = {"Accept-Ranges": "bytes", "ETag": tag}
            wanted = self.headers.get("Range", "")
            if wanted and self.headers.get("If-Range") == tag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                self.send(data[start:], 206, name=served.name, headers=headers)
                return
        self.send(data, name=served.name, headers=headers)
        self.note_complete(served.key)

    def note_complete(self, key: str) -> None:
        """A file was sent completely."""
        with self.server.lock:
            self.server.complete[key] += 1

    def send_part(self, served: Served, half: bytes, trouble: str) -> None:
        """Half of the file, or nothing; then nothing more, or the end of the connection."""
        headers = {"Content-Length": str(len(served.data) + (1000 if trouble == "long" else 0))}
        if self.server.offers_ranges:
            headers |= {"Accept-Ranges": "bytes", "ETag": f'"{len(served.data)}-{served.key}"'}
        if trouble not in ("stall at once", "close"):
            self.send(served.data if trouble == "long" else half, name=served.name, headers=headers)
        if trouble.startswith("stall"):
            with contextlib.suppress(OSError):
                select.select([self.connection], [], [], STALL)
        self.close_connection = True

    def send_chunks(self, served: Served, data: bytes, is_complete: bool) -> None:
        """The file in chunks, without its length."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Disposition", f"attachment; filename={served.name}")
        self.end_headers()
        for start in range(0, len(data), 5000):
            piece = data[start : start + 5000]
            self.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if is_complete:
            self.write(b"0\r\n\r\n")
            self.note_complete(served.key)
        self.close_connection = not is_complete

    def send(
        self,
        data: bytes,
        status: int = 200,
        kind: str = "application/octet-stream",
        headers: dict[str, str] | None = None,
        name: str = "",
    ) -> None:
        """An answer."""
        self.send_response(status)
        given = {"Content-Type": kind, "Content-Length": str(len(data))} | (headers or {})
        if name:
            given["Content-Disposition"] = f"attachment; filename={name}"
        for header, value in given.items():
            self.send_header(header, value)
        self.end_headers()
        self.write(data)

    def write(self, data: bytes) -> None:
        """To a client that may be gone."""
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True


def damaged(data: bytes) -> bytes:
    """A gzip file with zeros inside; a plain file, which has no checksum, without its end."""
    middle = len(data) // 2
    is_gzip = data.startswith(b"\x1f\x8b")
    return data[:middle] + bytes(64) + data[middle + 64 :] if is_gzip else data[:-5760]


class Server(ThreadingHTTPServer):
    """The archive, or its mirror."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, files: list[Served], needs_token: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {served.key: served for served in files}
        self.needs_token, self.offers_ranges = needs_token, False
        self.mirror, self.retry_after = "", "0"
        self.other_file = b""
        self.lock = threading.Lock()
        self.asked: list[Asked] = []
        self.seen_text: list[str] = []
        self.complete: Counter[str] = Counter()
        self.most_open = 0
        self._open: set[socket.socket] = set()

    @property
    def base(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count the open connections when one is opened."""
        with self.lock:
            self._open = {other for other in self._open if _is_open(other)} | {request}
            self.most_open = max(self.most_open, len(self._open))
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The connection ends."""
        with self.lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed break their connections."""

    def requests_by_key(self) -> dict[str, list[Asked]]:
        """All requests for each file."""
        found = defaultdict(list)
        for asked in self.asked:
            found[asked.key].append(asked)
        return found


def _is_open(connection: socket.socket) -> bool:
    """Whether the client has not closed a connection yet."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextlib.contextmanager
def serve(files: list[Served], needs_token: bool = False) -> Iterator[Server]:
    """An archive and a mirror, which has another port and wants no token."""
    with Server(files, needs_token) as server, Server(files, needs_token=False) as mirror:
        mirror.files = {served.key: Served(served.key, served.name, served.data) for served in files}
        server.mirror = mirror.base
        server.other = mirror  # type: ignore[attr-defined]
        threads = [threading.Thread(target=one.serve_forever, args=(0.05,)) for one in (server, mirror)]
        for thread in threads:
            thread.start()
        try:
            yield server
        finally:
            for one in (server, mirror):
                one.shutdown()
            for thread in threads:
                thread.join()
