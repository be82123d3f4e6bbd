"""moto's S3 as a process that keeps its content: ``python tests/s3/server.py PORT JOURNAL [ADDRESS]``.

moto holds everything in memory. Each request with a change is written to the journal before it is answered.
At the start, the journal is replayed before the first connection is accepted. So the server can be killed and
started again, like a real one.
"""

import base64
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import moto.core.utils
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import create_environ, run_wsgi_app

CHANGES = ("PUT", "POST", "DELETE")


class JournalledApplication:
    """A WSGI application that records its changes and can repeat them."""

    def __init__(self, application: Any, journal: Path) -> None:
        self.application, self.journal, self.lock = application, journal, threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in CHANGES:
            answer: Iterable[bytes] = self.application(environ, start)
            return answer
        length = environ.get("CONTENT_LENGTH")
        body = environ["wsgi.input"].read(int(length)) if length else environ["wsgi.input"].read()
        texts = {
            name: value
            for name, value in environ.items()
            if isinstance(value, str) and name != "HTTP_TRANSFER_ENCODING"
        }
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        entry = {
            "environ": texts | {"CONTENT_LENGTH": str(len(body))},
            "body": base64.b64encode(body).decode(),
        }
        with self.lock:  # one change at a time, so that the journal keeps their order
            entry["when"] = moto.core.utils.utcnow().isoformat()
            response: list[bytes] = list(self.application(environ, start))
            with self.journal.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            return response

    def replay(self) -> int:
        """Repeat all changes of the journal. A last line that was cut short was never answered."""
        lines = self.journal.read_bytes().splitlines(keepends=True) if self.journal.exists() else []
        if lines and not lines[-1].endswith(b"\n"):
            self.journal.write_bytes(b"".join(lines[:-1]))
            lines.pop()
        entries = [json.loads(line) for line in lines]
        for entry in entries:
            when = datetime.fromisoformat(entry["when"])
            with mock.patch("moto.s3.models.utcnow", lambda when=when: when):  # an object keeps its time
                run_wsgi_app(
                    self.application,
                    create_environ()
                    | entry["environ"]
                    | {"wsgi.input": io.BytesIO(base64.b64decode(entry["body"]))},
                )
        return len(entries)


def serve(port: int, journal: Path, address: str) -> None:
    """Serve until the process is killed."""
    application = JournalledApplication(DomainDispatcherApplication(create_backend_app), journal)
    count = application.replay()
    server = make_server(address, port, application, threaded=True, request_handler=MotoRequestHandler)
    print(f"process {os.getpid()} is ready after {count} changes", flush=True)
    server.serve_forever()


def main(port: int, journal: Path, address: str = "127.0.0.1") -> None:
    """Serve in a second process. After it was killed, SIGUSR1 starts another, which need not import moto."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    while True:
        child = os.fork()
        if not child:
            serve(port, journal, address)
        os.waitpid(child, 0)
        signal.sigwait({signal.SIGUSR1})


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
