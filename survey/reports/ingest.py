"""The summary that survey ingest prints, in plain lines for a terminal and a log."""

from collections.abc import Iterator, Sequence

from survey import files, plugins
from survey.spectrum import REASONS
from survey.store.ingest import IngestResult
from survey.store.schema import FLAG_MEANINGS
from survey.store.store import StoreSettings


def summary(result: IngestResult, pictures: Sequence[str] = ()) -> str:
    """What is in the store, what was refused and why, and how to read both."""
    document, plan = result.document, result.plan
    lines = [
        f"store      {result.path}",
        f"input      {plan}",
        f"shards     {document.shards:,} complete, {result.created:,} made by this run",
        f"rows in    {document.rows_in:,}",
        f"written    {document.written:,}",
        f"refused    {sum(document.refused.values()):,} ({result.refused_share:.2%})",
    ]
    lines += [f"  {count:>9,}  {reason}: {REASONS[reason]}" for reason, count in document.refused.items()]
    if document.flagged:
        lines.append("flags      spectra with each flag")
        meanings = {str(flag.name).lower(): text for flag, text in FLAG_MEANINGS.items()}
        lines += [f"  {count:>9,}  {name}: {meanings[name]}" for name, count in document.flagged.items()]
    if document.written and document.flagged.get("no_velocity") == document.written:
        if {"rv", "z"} & plan.unreadable.keys():
            lines.append("velocity   correct the column of the catalogue (see input), then give reread=true")
        else:
            lines.append("velocity   give prepare.velocity=rest if the spectra are in the rest frame already")
    if result.note:
        lines.append(f"assumed    {result.note}")
    if result.slow:
        lines.append(f"slow       {result.slow}")
    lines += _media(document.settings)
    lines += _to_read_again(result)
    spectra, refused = (files.join(result.path, kind) for kind in ("spectra", "refused"))
    lines += [
        f"read       {spectra}  with pandas.read_parquet, pyarrow, or duckdb: from '{spectra}/*.parquet'",
        f"           {refused}",
    ]
    if pictures:
        folder = files.join(result.path, "preview")
        lines.append(f"           {folder}  {len(pictures)} spectra, drawn stage by stage")
    if document.written:
        lines.append(f"next       survey train RECIPE store={result.path} labels=TABLE run=RUN")
    return "\n".join(lines)


def _to_read_again(result: IngestResult) -> Iterator[str]:
    """Files that changed, rows that the catalogue corrects, missing files; and how to read them."""
    plan = result.plan
    if plan.changed:
        yield f"changed    {plan.changed:,} files, such as {plan.examples[0]}; reread=true reads them again"
    if plan.revised:
        yield (
            f"changed    {plan.revised:,} rows have another rv, z, ra, dec, star or obsid in the catalogue; "
            "reread=true reads them again"
        )
    if result.document.refused.get("missing"):
        yield f"missing    such as {' and '.join(result.not_found)}"
        yield "           give reread=true to read them when the files exist, or forget=missing"
        yield "           to take out those that the input does not name any more"


def _media(settings: StoreSettings) -> Iterator[str]:
    """In which medium the wavelengths of files were taken to be, whose format does not say it."""
    for name in settings.sources:
        options = plugins.options("sources", name)
        if "medium" in options.model_fields:
            medium = options.from_dict(name, settings.options.get(name, {})).model_dump()["medium"]
            yield f"medium     wavelengths of {name} were taken as in {medium} (options.{name}.medium=)"
        elif name == "arrays":
            yield "medium     wavelengths of arrays were taken as in vacuum; convert those in air before"
