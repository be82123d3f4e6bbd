"""What mock and ingest say when they are done, in plain lines that read the same on a terminal and in a log."""

from collections.abc import Sequence
from typing import Any

from survey import files
from survey.spectrum import REASONS
from survey.store.ingest import Report


def ingest(report: Report, pictures: Sequence[str] = ()) -> str:
    """What came in, what was refused and why, and where to look."""
    lines = [
        f"store      {report.store}",
        f"input      {report.plan}",
        f"shards     {report.shards:,} complete, {report.made:,} made by this run",
        f"rows in    {report.rows_in:,}",
        f"written    {report.written:,}",
        f"refused    {sum(report.refused.values()):,} ({report.refused_share:.2%})",
    ]
    lines += [f"  {count:>9,}  {reason}: {REASONS[reason]}" for reason, count in report.refused.items()]
    if report.plan.changed:
        lines.append(
            f"changed    {report.plan.changed:,} files since, such as {report.plan.examples[0]}; reread=true reads them again"
        )
    if report.refused.get("missing"):
        lines.append("missing    once the files are there, reread=true reads them")
    spectra = files.join(report.store, "spectra")
    lines += [
        f"look at    {spectra}  with pandas.read_parquet, pyarrow, or duckdb: from '{spectra}/*.parquet'",
        f"           {files.join(report.store, 'refused')}",
    ]
    if pictures:
        lines.append(
            f"           {files.join(report.store, 'preview')}  {len(pictures)} spectra, drawn stage by stage"
        )
    return "\n".join(lines)


def mock(out: str, made: dict[str, Any]) -> str:
    """What a mock survey holds, and what to do with it."""
    news = f"{made['new']:,} written by this run" if made["new"] else "nothing to do"
    lines = [
        f"mock       {out}",
        f"files      {made['files']:,} of {made['stars']:,} stars, {news}",
        f"defective  {sum(made['defects'].values()):,}",
    ]
    lines += [
        f"{kind:<10} {', '.join(f'{count:,} {name}' for name, count in made[kind].items())}"
        for kind in ("classes", "layouts")
    ]
    return "\n".join([*lines, f"next       python jobs/ingest.py recipes/cemp.yaml input={out} store=..."])
