"""Folder -> one HTML file, or files of verdicts -> one table.

The kind of the folder decides what the page shows. A page of the same content, settings and version of the
code is left as it is.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from survey import __version__, files
from survey.arguments import given_command
from survey.catalog.document import CATALOG
from survey.ensemble.ensemble import ENSEMBLE
from survey.evaluate.result import EVALUATION, READS
from survey.explain.explanation import EXPLANATION
from survey.folder import SETTINGS, Folder, Kind
from survey.latent.latent_document import LATENT
from survey.pages import catalog_page, data_pages, training_pages
from survey.pages.data_pages import PREVIEW
from survey.pages.html import HEAD_BYTES, fingerprint, fingerprint_of, render
from survey.pages.page_text import now_text
from survey.pages.report_blocks import ReportPage, as_json, facts
from survey.pages.settings import ReportSettings
from survey.pages.training_pages import EVALUATIONS
from survey.pages.vetted_list import VettedStars, read_list_of
from survey.pages.vetting import vetting_page
from survey.predict.output import PREDICTIONS
from survey.reports.tune import PLOTS
from survey.search.tune import STUDY
from survey.settings import SettingsError
from survey.store.store import STORE
from survey.training.run import RUN

KINDS: dict[str, tuple[Kind[Any], Callable[[ReportPage, Any, str], None] | None]] = {
    "store": (STORE, data_pages.store_page),
    "predictions": (PREDICTIONS, data_pages.predictions_page),
    "latent": (LATENT, None),
    "run": (RUN, training_pages.run_page),
    "ensemble": (ENSEMBLE, training_pages.ensemble_page),
    "evaluation": (EVALUATION, training_pages.evaluation_page),
    "study": (STUDY, training_pages.study_page),
    "catalog": (CATALOG, None),
}
"""The kinds of folders that have a page of their own, with what fills it."""
WITH_POINTS: dict[str, Callable[[ReportPage, Any, str, int], None]] = {
    "catalog": catalog_page.catalog_page,
    "latent": data_pages.latent_page,
}
"""Those that show at most a given number of rows one by one."""


@dataclass(frozen=True)
class PageResult:
    """A page: its path, its size in bytes, what it shows, and whether it was written just now.

    `note` says what is missing in it.
    """

    page: str
    size: int
    shows: str
    created: bool
    note: str = ""


def make_page(settings: ReportSettings) -> PageResult:
    """Write the page of a folder."""
    folder = files.absolute(settings.of or "")
    kind = _kind_of(folder)
    if settings.list_ and kind != "catalog":
        raise SettingsError(
            f"report: list: {settings.list_!r}: {settings.of} holds a {kind}; "
            "give of=CATALOG, or leave list out"
        )
    document = _document(folder, kind)
    page = files.absolute(settings.page or _page_name(folder, settings))
    shown = [document.get("id"), document.get("checksum"), *_explanation_id(settings)]
    if not settings.list_:
        shown += _files_beside(folder, document)
    mark = fingerprint(*shown, folder, settings.plain())
    shows = f"{settings.list_ or kind} of {settings.of}" if settings.list_ else f"the {kind} {settings.of}"
    old = _old_page(page)
    if old and fingerprint_of(old) == mark:
        size = files.stat_of(page)
        return PageResult(page, size.size if size else 0, shows, created=False)
    data, why = _render(settings, folder, kind, document, mark)
    files.write(page, data)
    note = f"it has no spectra: {why}; {_where_from(folder)}" if why else ""
    return PageResult(page, len(data), shows, created=True, note=note)


def _explanation_id(settings: ReportSettings) -> list[str]:
    """What identifies the explanation that a vetting page shows, if it shows one."""
    if not (settings.list_ and settings.explanation):
        return []
    return [Folder(files.absolute(settings.explanation), EXPLANATION).document().id]


def _files_beside(folder: str, document: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and checksums of what a page shows beside the document and the files that it lists: plots, texts,
    and evaluations, which are made later than their run.
    """
    evaluations = files.join(folder, EVALUATIONS)
    inner = [files.join(folder, name) for name in (PLOTS, PREVIEW)]
    inner += [files.join(evaluations, name) for name in files.names(evaluations)]
    found = []
    for here in (folder, *inner):
        endings = (".png", ".txt") if here in inner else (".png", ".txt", ".parquet")
        for name in files.names(here):
            is_shown = name.endswith(endings) or name in (READS, SETTINGS, EVALUATION.file)
            if is_shown and name not in (document.get("content") or {}):
                path = files.join(here, name)
                found.append((path, hashlib.sha256(files.read(path)).hexdigest()))
    return found


def _where_from(folder: str) -> str:
    """Advice for paths that were given from another folder."""
    written = files.read_json(files.join(folder, SETTINGS))
    made_in = str(written.get("command_folder") or "")
    if made_in and made_in != str(Path.cwd()):
        return f"its paths are those of {made_in}, where it was made: run the command there"
    return "put the spectra back, and run the command again"


def _old_page(path: str) -> bytes:
    """The beginning of a page that is there. A file that is no page of ours is not replaced."""
    if files.is_folder(path):
        raise SettingsError(f"report: page: {path}: is a folder; give the name of an HTML file")
    if not files.exists(path):
        return b""
    with files.open_file(path) as stream:
        head = stream.read(HEAD_BYTES)
    if head and not fingerprint_of(head):
        raise SettingsError(
            f"report: page: {path}: is there and was not made by survey report; give another name"
        )
    return head


def _page_name(folder: str, settings: ReportSettings) -> str:
    ending = f"-{settings.list_}" if settings.list_ else ""
    return f"{folder.rstrip('/')}{ending}.html"


def _kind_of(folder: str) -> str:
    """The kind of a finished folder, by its settings or its document."""
    names = set(files.names(folder)) if files.is_folder(folder) else set()
    if not names:
        raise FileNotFoundError(f"report: of: {folder}: no such folder; give the folder that a job has made")
    kind = ""
    if SETTINGS in names:
        written = files.read_json(files.join(folder, SETTINGS))
        kind = str(written.get("kind") or "") if isinstance(written, dict) else ""
    kind = kind or next((name for name in KINDS if f"{name}.json" in names), "")
    if not kind and {"mock.json", "mock-begun.json"} & names:
        raise SettingsError(
            f"report: of: {folder}: a mock survey, which has no page (survey status {folder} shows it); "
            "ingest it, and give of= with the store"
        )
    if not kind:
        raise SettingsError(
            f"report: of: {folder}: holds {', '.join(sorted(names)[:3])}, so no job has made it; "
            "give the folder of a job"
        )
    if f"{kind}.json" not in names:
        raise SettingsError(
            f"report: of: {folder}: a {kind} that is not finished (no {kind}.json); "
            f"run its job to the end (survey status {folder} shows how)"
        )
    return kind


def _document(folder: str, kind: str) -> dict[str, Any]:
    """The content of the document as it stands."""
    written = files.read_json(files.join(folder, f"{kind}.json"))
    return written if isinstance(written, dict) else {}


def _render(
    settings: ReportSettings, folder: str, kind: str, written: dict[str, Any], mark: str
) -> tuple[bytes, str]:
    command = given_command() or "survey report"
    if settings.list_:
        stars: VettedStars = read_list_of(settings, folder)
        return vetting_page(stars, settings, mark, command)
    page = ReportPage(kind, files.relative(folder))
    if kind not in KINDS:
        data_pages.other_page(page, written, folder)
    else:
        kind_of_folder, fill = KINDS[kind]
        document = Folder(folder, kind_of_folder).document()
        if fill is None:
            WITH_POINTS[kind](page, document, folder, settings.points)
        else:
            fill(page, document, folder)
    _add_provenance(page, folder, kind, written)
    data = render(
        "blocks.html",
        mark,
        page.attachments,
        title=f"{kind} {page.heading}",
        kind=kind,
        heading=page.heading,
        sections=page.sections,
        page_class="report-page",
        command=command,
        date=now_text(),
    )
    return data, ""


def _add_provenance(page: ReportPage, folder: str, kind: str, written: dict[str, Any]) -> None:
    """Where the folder comes from: versions, ids, its command, all settings."""
    path = files.join(folder, SETTINGS)
    begun = files.read_json(path) if files.exists(path) else {}
    rows = {
        "folder": folder,
        "id": written.get("id"),
        "made by": f"survey {written.get('code', '')}",
        "format": f"{kind}, version {written.get('version')}",
        "begun": begun.get("begun"),
        "command": begun.get("command"),
        "in folder": begun.get("command_folder"),
        "page made by": f"survey {__version__}",
    }
    settings = begun.get("settings", {})
    content = {name: entry.get("size") for name, entry in (written.get("content") or {}).items()}
    page.add(
        "Settings and provenance",
        facts(rows),
        as_json(f"all settings ({len(json.dumps(settings)):,} characters)", settings),
        as_json(f"files and their sizes in bytes ({len(content)})", content) if len(content) < 500 else None,
    )


def summary(result: PageResult) -> str:
    """What was written, for the terminal."""
    state = "written now" if result.created else "was up to date: nothing to do"
    lines = [f"page       {result.page}  ({result.size / 1e6:.1f} MB, {state})", f"shows      {result.shows}"]
    return "\n".join([*lines, *([f"warning    {result.note}"] if result.note else [])])
