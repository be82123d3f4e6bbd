"""moto's S3 as a process of its own that keeps its content: ``python tests/s3/server.py PORT JOURNAL``.

moto holds everything in memory. Each request that changes something is written to the journal before it is answered, and on a start the
journal is played into moto before the first connection is taken. So the server can be killed and started again, as a real one can.
"""

import base64
import io
import json
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


class Journalled:
    """A WSGI application that writes down what changes it, and can be brought back to where it was."""

    def __init__(self, application: Any, journal: Path) -> None:
        self.application, self.journal, self.lock = application, journal, threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in CHANGES:
            return self.application(environ, start)
        length = environ.get("CONTENT_LENGTH")
        body = environ["wsgi.input"].read(int(length)) if length else environ["wsgi.input"].read()
        kept = {
            name: value
            for name, value in environ.items()
            if isinstance(value, str) and name != "HTTP_TRANSFER_ENCODING"
        }
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        entry = {
            "environ": kept | {"CONTENT_LENGTH": str(len(body))},
            "body": base64.b64encode(body).decode(),
        }
        with self.lock:  # one change at a time, so that the journal has them in their order
            entry["when"] = moto.core.utils.utcnow().isoformat()
            answer = list(self.application(environ, start))
            with self.journal.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            return answer

    def replay(self) -> int:
        """Bring the application back to where the journal ends; a last line that was cut short was never answered."""
        lines = self.journal.read_bytes().splitlines(keepends=True) if self.journal.exists() else []
        if lines and not lines[-1].endswith(b"\n"):
            self.journal.write_bytes(b"".join(lines[:-1]))
            lines.pop()
        whole = [json.loads(line) for line in lines]
        for entry in whole:
            when = datetime.fromisoformat(entry["when"])
            with mock.patch("moto.s3.models.utcnow", lambda when=when: when):  # an object keeps its time
                run_wsgi_app(
                    self.application,
                    create_environ()
                    | entry["environ"]
                    | {"wsgi.input": io.BytesIO(base64.b64decode(entry["body"]))},
                )
        return len(whole)


def main(port: int, journal: Path) -> None:
    """Serve until killed."""
    application = Journalled(DomainDispatcherApplication(create_backend_app), journal)
    count = application.replay()
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler)
    print(f"ready after {count} changes", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
