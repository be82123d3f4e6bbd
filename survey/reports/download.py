"""The summary that survey download prints, in plain lines for a terminal and a log."""

from survey import files
from survey.archives.document import CATALOGUE, MISSING
from survey.archives.download import DownloadResult
from survey.archives.failures import REASONS
from survey.archives.room import size_text


def summary(result: DownloadResult) -> str:
    """What is here, what is missing and why, and the next command."""
    document = result.document
    did = (
        f"{result.fetched:,} by this run with {result.requests:,} requests"
        if result.requests
        else "nothing to do"
    )
    missing = sum(document.missing.values())
    lines = [
        f"download   {result.folder}",
        f"wanted     {result.selected}",
        f"complete   {document.complete:,} files, {size_text(document.bytes)}, {did}",
        f"missing    {missing:,}",
    ]
    lines += [f"  {count:>9,}  {reason}: {REASONS[reason]}" for reason, count in document.missing.items()]
    if missing:
        lines.append(f"           {files.join(result.folder, MISSING)} lists them")
    if document.complete:
        catalogue = files.relative(files.join(result.folder, CATALOGUE))
        lines.append(f"next       survey ingest RECIPE input={catalogue} store=STORE")
    return "\n".join(lines)
