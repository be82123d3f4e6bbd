"""Files of an archive -> a folder that an ingest reads.

settings.json        the settings
plan.parquet         which files are wanted, with the columns of the catalogue; plan.json: how many
journal.jsonl        what became of each file; it only grows
PLAN/spec-...        the files, by their names in the archive
catalogues/          catalogues that were asked for by name
catalogue.parquet    one row for each file that is here: path, size, checksum, and the archive's columns
missing.parquet      one row for each file that is not here, with the reason
download.json        the counts; written last

Threads fetch; this module gives them files, counts what they report, and ends the job early where going on
would be no use: the archive does not answer, wants a token, or the disk fills.
"""

import hashlib
import logging
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from survey import files
from survey.archives import contents, plan_table, selection
from survey.archives.addresses import Access
from survey.archives.attempts import Fetcher
from survey.archives.checksums import Checksums
from survey.archives.document import (
    CATALOGUE,
    DOWNLOAD,
    MISSING,
    DownloadDocument,
    catalogue_table,
    missing_table,
)
from survey.archives.failures import PERMANENT, FetchError
from survey.archives.journal import COUNT, JOURNAL, Event, Journal
from survey.archives.pace import Pace
from survey.archives.partial import PARTIAL
from survey.archives.room import check_room, has_room, size_text
from survey.archives.settings import Download
from survey.archives.side_by_side import by_threads
from survey.archives.targets import WantedFile, load_archive
from survey.archives.transfer import Transfer
from survey.folder import Folder
from survey.progress import Progress
from survey.settings import JobError, SettingsError

MOST_LOGINS = 5
"""So many files in a row that want a token end the job."""


@dataclass(frozen=True)
class DownloadResult:
    """A finished download: its folder, its document, and what this run did."""

    folder: str
    document: DownloadDocument
    selected: str
    fetched: int = 0
    requests: int = 0


class MissingError(JobError):
    """The download is complete, but more files are missing than the settings allow."""


def download(settings: Download) -> DownloadResult:
    """Fetch what is wanted and not here yet. A finished download of the same selection is left as it is."""
    folder = Folder(files.absolute(settings.out), DOWNLOAD)
    with folder.claim(settings.plain()):
        result = _Job(settings, folder).run()
    document = result.document
    missing = sum(document.missing.values())
    if missing > settings.missing_above * document.wanted:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in document.missing.items())
        raise MissingError(
            f"download: {folder.path}: done, but {missing:,} of {document.wanted:,} files did not arrive, "
            f"more than missing_above={settings.missing_above:g} allows ({reasons}); read "
            f"{folder.file(MISSING)}; the same command tries passing troubles again, again=true all; "
            f"or give missing_above={min(1.0, missing / document.wanted * 1.1):.2g}"
            f"{_advice_on_selections(folder)}"
        )
    return result


def _advice_on_selections(folder: Folder[DownloadDocument]) -> str:
    """How to leave out earlier selections, where there are some."""
    if plan_table.count_selections(folder.path) < 2:
        return ""
    plan = folder.file(plan_table.PLAN)
    return (
        f"; if an earlier selection for this folder was wrong, remove {plan} and run the same command: this "
        "selection alone counts then, and files that are here stay"
    )


class _Job:
    """One run of a download."""

    def __init__(self, settings: Download, folder: Folder[DownloadDocument]) -> None:
        self.settings, self.folder = settings, folder
        self.path = Path(folder.path)
        self.archive: ModuleType = load_archive(settings.archive)
        self.options: Any = settings.archive_options()
        self.access = Access.from_environment(self.archive.base_of(self.options), self.archive.TOKEN)
        self.pace = Pace(settings.rate)
        self.transfer = Transfer(
            self.access, self.pace, settings.connections, settings.timeout, settings.keep_free * 1e9
        )
        self.journal = Journal(self.path)
        self.checksums = Checksums()
        self.streak: list[Event] = []

    def run(self) -> DownloadResult:
        before = self._begin()
        self.checksums = self._read_checksums()
        plan, selected = self._plan()
        self._give_up_differing()
        waiting = [
            row
            for row in plan_table.rows_of(plan)
            if not self.journal.is_settled(row[0], self.settings.again)
        ]
        if before is not None and before.id == self._identity(plan) and not waiting:
            self._report_unlisted()
            return DownloadResult(self.folder.path, before, selected)
        self.folder.withdraw()
        targets = self._targets(waiting)
        check_room(self.path, self.settings, self.journal, targets, self.archive.expected_bytes(self.options))
        fetched = self._fetch(targets) if targets else 0
        shutil.rmtree(self.path / PARTIAL, ignore_errors=True)
        document = self._finish(plan)
        self._report_unlisted()
        return DownloadResult(self.folder.path, document, selected, fetched, self.transfer.sent)

    def _begin(self) -> DownloadDocument | None:
        """The folder with these settings; the document of an earlier end."""
        plain = self.settings.plain()
        self.journal.read()
        has_files = any(event.is_complete for event in self.journal.events.values())
        if not self.folder.agree(plain, started=has_files):
            for name in (JOURNAL, COUNT, plan_table.PLAN):
                files.remove(self.folder.file(name))
            self.journal = Journal(self.path)
            self.folder.begin(plain)
        return self.folder.sound_document()

    def _plan(self) -> tuple[pa.Table, str]:
        """The files that are wanted, of this selection and of earlier ones for the same folder."""
        plan, is_known = plan_table.read_plan(self.folder.path, self.settings)
        if plan is not None and is_known:
            return plan, f"{plan.num_rows:,} files"
        selected = selection.select(self.settings, self.archive, self.options, self._ask, plan)
        grown = plan_table.grow(plan, selected.table, selected.corrected)
        grown = plan_table.write_plan(self.folder.path, self.settings, plan, grown)
        return grown, selected.text_within(grown)

    def _targets(self, waiting: list[tuple[str, Any, str | None]]) -> list[WantedFile]:
        """The files to fetch; rows that name none are settled here."""
        targets = []
        for key, row, bad in waiting:
            if bad:
                self.journal.add(Event(key, reason="bad_row", detail=bad))
            else:
                targets.append(plan_table.target_of(key, row, self.archive, self.options))
        return targets

    def _fetch(self, targets: list[WantedFile]) -> int:
        """Fetch the files by threads; how many arrived."""
        fetcher = self._fetcher()
        failed, size, arrived = Counter[str](), 0, 0
        try:
            with Progress("download", len(targets), "files") as progress:
                for event in by_threads(fetcher.fetch, targets, self.settings.connections, self.pace):
                    arrived, size = arrived + event.is_complete, size + event.size
                    failed[event.reason] += not event.is_complete
                    note = f"{size_text(size)}, {sum(failed.values()):,} missing"
                    progress.add(1, note)
                    self._stop_if_useless(event)
        finally:
            self.pace.stop.set()
            self.journal.close()
        return arrived

    def _fetcher(self) -> Fetcher:
        fetcher = Fetcher(self.settings, self.archive, self.options, self.transfer, self.journal, self.path)
        fetcher.checksums = self.checksums
        return fetcher

    def _read_checksums(self) -> Checksums:
        """The list of checksums that is given."""
        place = self.settings.checksums
        if not place:
            return Checksums()
        is_address = place.startswith(("http://", "https://"))
        if not is_address and not files.exists(files.absolute(place)):
            raise SettingsError(f"download: checksums: {place}: no such file; give the path of a list")
        data = self._read(place) if is_address else files.read(files.absolute(place))
        found = Checksums.read(data.decode("utf-8", "replace"))
        if not found.lines:
            raise SettingsError(
                f"download: checksums: {self.access.hide(place)}: no line is a checksum and a name; "
                "give a list as md5sum, sha1sum or sha256sum write it"
            )
        return found

    def _give_up_differing(self) -> None:
        """Files that are complete, but differ from the list of checksums, are removed and wanted again."""
        for event, error in self.checksums.differing(self.path, self.journal.events.values()):
            self.journal.add(Event(event.key, reason=error.reason, detail=error.detail))
            (self.path / event.path).unlink(missing_ok=True)

    def _report_unlisted(self) -> None:
        """A warning if the list of checksums has the name of no file that is here."""
        complete = [event.path for event in self.journal.events.values() if event.is_complete]
        if self.checksums.lines and complete and not any(map(self.checksums.of, complete)):
            logging.getLogger(__name__).warning(
                "download: checksums: %s: names none of the %s files that are here (the first is %s): "
                "nothing was compared; give the list of this release",
                self.access.hide(self.settings.checksums),
                f"{len(complete):,}",
                complete[0],
            )

    def _ask(self, address: str) -> str:
        """The archive's list of what is around the position, as a file."""
        data = self._read(address)
        with suppress(UnicodeDecodeError):  # it is no text, so it repeats no token
            data = self.access.hide(data.decode()).encode()
        lines = [line for line in data[: 1 << 16].splitlines() if line.strip()]
        if len(lines) < 2 and self.settings.around:  # at most a header, or a sentence
            ra, dec, radius = self.settings.around
            shown = data.decode("utf-8", "replace").split()
            answer = f" (it answers {' '.join(shown)[:100]!r})" if shown else ""
            raise JobError(
                f"download: around: {self.access.base} lists no spectra within {radius:g} degrees of "
                f"{ra:g},{dec:g}{answer}; give a larger radius"
            )
        path = self.path / PARTIAL / "around.csv"
        files.write(str(path), data)
        return str(path)

    def _read(self, address: str) -> bytes:
        """A short answer, asked for again after passing troubles."""
        for attempt in range(self.settings.retries + 1):
            try:
                data = self.transfer.read(address)
                contents.check_page(data[: 1 << 12], "", is_catalogue=True, hide=self.access.hide)
            except FetchError as error:
                if error.reason in PERMANENT or attempt == self.settings.retries:
                    place, detail = self.access.hide(address), self.access.hide(error.detail)[:300]
                    advice = self._advice(error.reason)
                    raise JobError(f"download: {place}: {error.reason}: {detail}; {advice}") from None
                self.pace.rest(
                    min(error.after or self.settings.first_wait * 2**attempt, self.settings.longest_wait)
                )
            else:
                return data
        raise RuntimeError("download: no attempt was made; please report this")

    def _stop_if_useless(self, event: Event) -> None:
        """An error if going on is no use: the disk fills, or file after file does not arrive."""
        if has_room(self.path) < self.settings.keep_free * 1e9:
            raise JobError(
                f"download: {self.path}: less than keep_free={self.settings.keep_free:g} GB of the disk are "
                "free; make room, then run the same command again to continue"
            )
        has_files = bool(self.journal.paths)
        if event.is_complete:
            self.streak = []
        elif event.reason not in PERMANENT or not has_files:
            self.streak.append(event)
        logins = sum(failed.reason == "needs_login" for failed in self.streak)
        most = self.settings.stop_after
        if most and (len(self.streak) >= most or logins >= min(MOST_LOGINS, most)):
            raise JobError(
                f"download: {self.access.base}: {len(self.streak)} files in a row did not arrive, the last "
                f"({event.key}): {event.reason}: {event.detail}; {self._advice(event.reason)}"
            )

    def _advice(self, reason: str) -> str:
        variable = self.archive.TOKEN
        if reason == "needs_login" and variable:
            state = "the archive does not take the token in" if self.access.token else "put your token into"
            return f"{state} {variable}; then run the same command again"
        if reason in ("not_there", "refused", "other_file"):
            return "check options.release and the archive's other options, and the ids"
        return "run the same command again later; what is here stays"

    def _identity(self, plan: pa.Table) -> str:
        """An identity of the content: settings, files, and why others are missing."""
        digest = hashlib.sha256(self.settings.fingerprint().encode())
        for key in plan[plan_table.KEY].to_pylist():
            event = self.journal.events.get(key)
            what = f"{event.path} {event.size} {event.crc} {event.reason}" if event else ""
            digest.update(f"{key} {what}\n".encode())
        return digest.hexdigest()[:16]

    def _finish(self, plan: pa.Table) -> DownloadDocument:
        """Write both tables and the document."""
        events = [self.journal.events[key] for key in plan[plan_table.KEY].to_pylist()]
        is_image = self.archive.is_image(self.options)
        for name, table in (
            (CATALOGUE, catalogue_table(plan, events, is_image)),
            (MISSING, missing_table(events)),
        ):
            files.write_table(self.folder.file(name), table, durable=True)
        complete = [event for event in events if event.is_complete]
        document = DownloadDocument(
            version=DOWNLOAD.version,
            id=self._identity(plan),
            archive=self.settings.archive,
            wanted=len(events),
            complete=len(complete),
            bytes=sum({event.path: event.size for event in complete}.values()),
            missing=dict(Counter(event.reason for event in events if not event.is_complete).most_common()),
            settings=self.settings.plain(),
        )
        return self.folder.finish(document, [CATALOGUE, MISSING])
