"""One file over HTTP: an address becomes bytes in a partial file, or a `FetchError` with its reason.

urllib3 makes single requests: it repeats nothing, follows no redirect and unpacks nothing, so that each
request passes through the `Pace`, the token goes to the archive's own host alone, and what is kept is what
was sent. A partial file is continued by Range if the server says which version of the file it is of.
"""

import errno
import json
import logging
import math
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3 import exceptions
from urllib3.response import BaseHTTPResponse

from survey import __version__, files
from survey.archives import proxy
from survey.archives.addresses import Access
from survey.archives.failures import FetchError
from survey.archives.pace import Pace
from survey.archives.partial import notes_of, remove_partial

PIECE = 1 << 16
MOST_REDIRECTS = 5
SLOWEST = 200.0
"""Bytes per second: a connection that is slower on the average stands still."""
REASONS_OF_STATUS = {401: "needs_login", 403: "forbidden", 404: "not_there", 410: "not_there"}
BUSY = (408, 425, 429, 503)
PROXY_REFUSES = 407
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass
class Arrived:
    """A partial file that is complete by the word of the server.

    `suggested` is the name that the server gives, `kind` its content type.
    """

    path: Path
    size: int
    suggested: str = ""
    kind: str = ""


@dataclass
class Transfer:
    """Requests to an archive by all threads of a job; `sent` counts them.

    `keep_free`: bytes of the disk that stay free.
    """

    access: Access
    pace: Pace
    connections: int
    timeout: float
    keep_free: float = 0.0
    sent: int = 0
    _pools: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # at DEBUG, urllib3 writes each address with its token into the log
        logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

    def fetch(self, address: str, partial: Path, largest: float = math.inf) -> Arrived:
        """The file at an address, as a partial file; continued if a part of it is there already."""
        before = _Part.read(partial)
        headers = before.headers()
        with self._answer(address, headers) as answer:
            if answer.status == 416 and before.size:
                before.remove()
                raise FetchError("truncated", "the part that was there does not fit the file")
            self._check_status(answer)
            start = before.size if answer.status == 206 and before.fits(answer) else 0
            if answer.status == 206 and not start:
                before.remove()
                raise FetchError("truncated", "the server sent another part than was asked for")
            announced = answer.length_remaining
            if announced is not None and start + announced > largest:
                raise FetchError("too_large", f"{start + announced:,} bytes are announced")
            self._check_room(partial, announced or 0)
            before.note(answer)
            size = self._save(answer, partial, start, largest)
            return Arrived(partial, size, _suggested(answer), answer.headers.get("Content-Type", ""))

    def _check_room(self, partial: Path, announced: int) -> None:
        partial.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(partial.parent).free - self.keep_free
        if announced > free:
            raise files.DiskFullError(
                f"download: {partial}: {announced:,} bytes are to come, {max(free, 0):,.0f} are free besides "
                "keep_free=; make room, then run the same command again to continue"
            )

    def read(self, address: str, largest: int = 64 << 20) -> bytes:
        """The bytes of a short answer, such as a list of files."""
        with self._answer(address, {}) as answer:
            self._check_status(answer)
            pieces, size = [], 0
            for piece in self._pieces(answer):
                pieces.append(piece)
                size += len(piece)
                if size > largest:
                    raise FetchError("too_large", f"more than {largest:,} bytes")
            return b"".join(pieces)

    @contextmanager
    def _answer(self, address: str, headers: dict[str, str]) -> Iterator[BaseHTTPResponse]:
        """The answer to a request, after redirects. A connection that is not read to its end is closed."""
        answer = None
        try:
            for _ in range(MOST_REDIRECTS + 1):
                self.pace.wait()
                self.sent += 1
                answer = self._request(address, headers)
                location = answer.headers.get("Location")
                if answer.status not in REDIRECTS or not location:
                    yield answer
                    return
                _close(answer)
                address = self._next_address(address, location)
            raise FetchError("redirects", f"more than {MOST_REDIRECTS} redirects")
        except exceptions.HTTPError as error:
            raise self._failure(error) from None
        finally:
            if answer is not None:
                _close(answer)

    def _request(self, address: str, headers: dict[str, str]) -> BaseHTTPResponse:
        own = {"User-Agent": f"survey-processor/{__version__}", "Accept-Encoding": "identity"}
        answer: BaseHTTPResponse = self._pool(address).request(
            "GET",
            self.access.signed(address),
            headers=own | headers,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )
        return answer

    def _pool(self, address: str) -> Any:
        """Connections to a host, through the proxy of the environment if there is one for it."""
        text = proxy.proxy_text(address)
        if text not in self._pools:
            given: dict[str, Any] = {
                "maxsize": self.connections,
                "block": True,
                "timeout": urllib3.Timeout(connect=self.timeout, read=self.timeout),
            }
            manager: urllib3.PoolManager = urllib3.PoolManager(**given)
            if text:
                found = proxy.parse_proxy(text)
                manager = urllib3.ProxyManager(found.address, proxy_headers=found.headers, **given)
            self._pools.setdefault(text, manager)
        return self._pools[text]

    def _next_address(self, address: str, location: str) -> str:
        """The address of a redirect. An error if no request can be sent there."""
        try:
            following = self.access.follow(address, location)
            parts = urlsplit(following)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # such as http://[::1/x, or a port above 65535
            following, is_usable = location, False
        if not is_usable:
            raise FetchError("redirects", f"a redirect to {self.access.hide(following)[:200]}")
        return following

    def _check_status(self, answer: BaseHTTPResponse) -> None:
        status = answer.status
        if status in (200, 206):
            return
        if status == PROXY_REFUSES:
            raise proxy.refusal()
        detail = f"HTTP {status} {self.access.hide(answer.reason or '')}".strip()
        if status in BUSY or (answer.headers.get("Retry-After") and status >= 500):
            raise FetchError("busy", detail, retry_after(answer.headers))
        if status >= 500:
            raise FetchError("server_error", detail)
        raise FetchError(REASONS_OF_STATUS.get(status, "refused"), detail)

    def _save(self, answer: BaseHTTPResponse, partial: Path, start: int, largest: float) -> int:
        """Write the body behind the first `start` bytes of the partial file; the size of all."""
        size = start
        try:
            with partial.open("r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                for piece in self._pieces(answer):
                    size += len(piece)
                    if size > largest:
                        raise FetchError("too_large", f"more than {largest:,.0f} bytes")
                    file.write(piece)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise files.DiskFullError(
                f"download: {partial}: the disk is full; make room, then run the same command again"
            ) from error
        return size

    def _pieces(self, answer: BaseHTTPResponse) -> Iterator[bytes]:
        """The body as it arrives. One that hardly moves is an error, and so is the end of the job."""
        begun, size = time.monotonic(), 0
        while piece := answer.read1(PIECE):
            yield piece
            self.pace.check()
            size += len(piece)
            passed = time.monotonic() - begun
            if passed > self.timeout and size < SLOWEST * passed:
                raise FetchError("no_answer", f"only {size:,} bytes in {passed:.0f} s")
        if answer.length_remaining:
            raise FetchError("truncated", f"{answer.length_remaining:,} bytes did not arrive")
        answer.release_conn()

    def _failure(self, error: Exception) -> Exception:
        """What an error of urllib3 means. Its text may hold an address, so the token is taken out."""
        if isinstance(error, exceptions.ProxyError) and f" {PROXY_REFUSES} " in str(error):
            return proxy.refusal()
        if isinstance(error, exceptions.LocationValueError):
            return FetchError("redirects", f"no address: {self.access.hide(str(error))[:200]}")
        cause = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], Exception) else error
        if isinstance(cause, exceptions.IncompleteRead):
            return FetchError("truncated", f"{cause.expected:,} bytes did not arrive")
        text = re.sub(r"^<[^>]*>: |^HTTPS?ConnectionPool\([^)]*\): ", "", str(error))
        return FetchError("no_answer", f"{type(error).__name__}: {self.access.hide(text)[:200]}")


@dataclass
class _Part:
    """What is there of a file from an earlier attempt, and which version of it, by the word of the server."""

    path: Path
    size: int = 0
    version: str = ""

    @property
    def _notes(self) -> Path:
        return notes_of(self.path)

    @classmethod
    def read(cls, path: Path) -> "_Part":
        part = cls(path)
        with suppress(OSError, ValueError):
            version = json.loads(part._notes.read_bytes())["version"]
            part.size, part.version = path.stat().st_size, str(version)
        return part

    def headers(self) -> dict[str, str]:
        """What asks for the rest of this version, else for the file from its beginning."""
        return (
            {"Range": f"bytes={self.size}-", "If-Range": self.version} if self.size and self.version else {}
        )

    def fits(self, answer: BaseHTTPResponse) -> bool:
        """Whether an answer continues this part."""
        found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        is_next = found is not None and int(found[1]) == self.size
        return is_next and _version(answer) in ("", self.version)

    def note(self, answer: BaseHTTPResponse) -> None:
        """Note the version that is about to be written, if the server can continue it later."""
        version = _version(answer)
        if answer.status == 206:
            return
        self._notes.unlink(missing_ok=True)
        if version and answer.headers.get("Accept-Ranges", "").lower() == "bytes":
            self.path.unlink(missing_ok=True)
            self._notes.write_text(json.dumps({"version": version}))

    def remove(self) -> None:
        remove_partial(self.path)


def _close(answer: BaseHTTPResponse) -> None:
    """Close the connection, unless its answer was read to the end; the pool may open another one for it."""
    answer.close()
    answer.release_conn()


def _version(answer: BaseHTTPResponse) -> str:
    """The version of a file by a strong ETag, else by its date; empty if the server tells neither."""
    tag: str = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else str(answer.headers.get("Last-Modified", ""))


def _suggested(answer: BaseHTTPResponse) -> str:
    """The name of the file by the header Content-Disposition."""
    message = Message()
    message["Content-Disposition"] = answer.headers.get("Content-Disposition", "")
    return unquote(message.get_filename() or "")


def retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait, given as a number or as a date by its own clock."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    with suppress(ValueError, TypeError):
        moment = parsedate_to_datetime(text)
        now = datetime.now(UTC)
        with suppress(ValueError, TypeError):
            now = parsedate_to_datetime(headers.get("Date", ""))
        return max((moment - now).total_seconds(), 0.0)
    return None
