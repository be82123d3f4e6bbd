"""All attempts for one file: the addresses under which it may be, repeated with growing waits.

An address where the file is not is not asked twice; the next one is tried at once. What may be a passing
trouble (no answer, too few bytes, a page in place of the file, damage) is tried again after a wait that
doubles, with a random part, so that many threads do not come back together. When the archive says how long
to wait, all threads wait.
"""

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from survey.archives import contents
from survey.archives.checksums import Checksums
from survey.archives.failures import NOT_RETRIED, FetchError
from survey.archives.journal import Event, Journal, crc_of
from survey.archives.partial import partial_path, remove_partial
from survey.archives.settings import Download
from survey.archives.targets import Form, WantedFile
from survey.archives.transfer import Transfer
from survey.files import LARGEST
from survey.settings import JobError

START = 4096


@dataclass
class Fetcher:
    """Fetches files of one archive into one folder. Threads share it."""

    settings: Download
    archive: ModuleType
    options: Any
    transfer: Transfer
    journal: Journal
    folder: Path
    checksums: Checksums = field(default_factory=Checksums)
    _last_form: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def fetch(self, target: WantedFile) -> Event:
        """Fetch a file. What became of it is in the journal when this returns."""
        forms, failures = self._in_order(target), list[FetchError]()
        requests = 0
        for attempt in range(self.settings.retries + 1):
            for form in list(forms):
                requests += 1
                try:
                    return self._fetch_once(target, form, requests)
                except FetchError as error:
                    failures.append(error)
                    if error.reason in NOT_RETRIED:
                        forms.remove(form)
                    else:
                        break  # a passing trouble: the same address again, after a wait
            if not forms or attempt == self.settings.retries:
                break
            self._wait(attempt, failures[-1])
        remove_partial(partial_path(self.folder, target.key))
        event = self._failed(target, failures, requests)
        self.journal.add(event)
        return event

    def _in_order(self, target: WantedFile) -> list[Form]:
        """The addresses, first the one under which the last file of this group was."""
        last = self._last_form.get(target.group)
        return sorted(target.forms, key=lambda form: form.label != last)

    def _fetch_once(self, target: WantedFile, form: Form, requests: int) -> Event:
        partial = partial_path(self.folder, target.key)
        largest = float("inf") if target.is_catalogue else LARGEST
        arrived = self.transfer.fetch(form.address, partial, largest)
        try:
            with partial.open("rb") as file:
                start = file.read(START)
            contents.check_page(start, arrived.kind, target.is_catalogue, self.transfer.access.hide)
            if target.is_catalogue:
                contents.check_catalogue(partial)
                data = b""
            else:
                data = partial.read_bytes()
            path = contents.named_by_content(self.archive.path(target, form, arrived.suggested, data), start)
            self.checksums.check(partial, path)
            if not target.is_catalogue:
                contents.check_file(self.archive, target, path, data, self.options)
        except FetchError:
            remove_partial(partial)
            raise
        event = self._keep(target, partial, path, arrived.size, requests)
        self._last_form[target.group] = form.label
        return event

    def _keep(self, target: WantedFile, partial: Path, path: str, size: int, requests: int) -> Event:
        """Give the file its name. A file that is here already, under another key, is kept once."""
        crc = crc_of(partial)
        with self._lock:
            self.transfer.pace.check()
            if self.journal.has_same(path, size, crc):
                event = Event(target.key, path, size, crc, requests=requests)
                self.journal.add(event)
                remove_partial(partial)
                return event
            path = self.journal.free_path(path, target.key)
            event = Event(target.key, path, size, crc, requests=requests)
            self.journal.complete(event, partial)
        return event

    def _failed(self, target: WantedFile, failures: list[FetchError], requests: int) -> Event:
        """Why a file did not arrive: the last failure; not_there only if no address had another one.

        The detail may quote what arrived, and a server may repeat the token that it was sent.
        """
        others = [failure for failure in failures if failure.reason != "not_there"]
        last = others[-1] if others else failures[-1]
        detail = self.transfer.access.hide(last.detail)[:300]
        return Event(target.key, reason=last.reason, detail=detail, requests=requests)

    def _wait(self, attempt: int, error: FetchError) -> None:
        """Wait before the next attempt, as long as the archive asks for or longer each time."""
        longest = self.settings.longest_wait
        if error.after is not None:
            if error.after > longest:
                raise JobError(
                    f"download: {self.transfer.access.base}: asks to come back after {error.after:,.0f} s "
                    f"({error.detail}); run the same command again then, or give a larger longest_wait="
                )
            self.transfer.pace.pause(error.after)
            return
        wait = min(self.settings.first_wait * 2**attempt, longest)
        self.transfer.pace.rest(wait * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
