"""What a download would fetch, for a look before it runs: nothing is written, and no archive is asked."""

from pathlib import Path

from survey import files
from survey.archives import plan_table, selection
from survey.archives.journal import Journal
from survey.archives.room import has_room, size_text
from survey.archives.settings import Download
from survey.archives.targets import load_archive
from survey.progress import duration_text
from survey.settings import SettingsError


def describe(settings: Download) -> str:
    """What a download would fetch: files, bytes, place and time. Nothing is written, no archive is asked."""
    archive, options = load_archive(settings.archive), settings.archive_options()
    folder = Path(files.absolute(settings.out))
    plan, is_known = plan_table.read_plan(str(folder), settings)
    lines = [f"from: {archive.base_of(options)}"]
    if plan is None or not is_known:
        if settings.around and not settings.input:
            return "\n".join([*lines, "files: the archive is asked when the job runs"])
        selected = selection.select(settings, archive, options, _no_question, plan)
        plan = plan_table.grow(plan, selected.table, selected.corrected)
        lines.append(f"wanted: {selected.text_within(plan)}")
    journal = Journal(folder)
    journal.read(finish=False)
    open_files = [
        key
        for key, _, bad in plan_table.rows_of(plan)
        if not bad and not journal.is_settled(key, settings.again)
    ]
    size = len(open_files) * journal.typical_size(archive.expected_bytes(options))
    free = has_room(folder)
    lines += [
        f"to fetch: {len(open_files):,} files, about {size_text(size)}; {size_text(free)} are free",
        f"time: {duration_text(len(open_files) / settings.rate)} or more, at {settings.rate:g} requests per "
        f"second on {settings.connections} connections",
    ]
    return "\n".join(lines)


def _no_question(address: str) -> str:
    raise SettingsError(f"download: {address}: is not asked now")
