"""The summary of a prediction, as plain lines for a terminal or a log."""

from collections.abc import Iterator

from survey import files
from survey.labels import CLASSES
from survey.predict.output import ARRAYS, PredictionsDocument
from survey.predict.predict import PredictResult
from survey.spectrum import REASONS


def summary(result: PredictResult) -> str:
    """The ensemble, the input, the counts, and where the predictions are."""
    return "\n".join(f"{name:<11}{line}" for name, line in _lines(result))


def _lines(result: PredictResult) -> Iterator[tuple[str, str]]:
    document, ensemble, source = result.document, result.document.ensemble, result.document.source
    names = ", ".join(member.name for member in ensemble.members)
    yield "predicted", result.path
    calibrated = "" if ensemble.calibrated else ", not calibrated"
    yield "ensemble", f"{ensemble.path} ({ensemble.id}): {names}{calibrated}"
    yield "from", f"{source.path}, {'a store' if source.kind == 'store' else 'survey files'}"
    if result.plan:
        yield "input", str(result.plan)
    if result.note:
        yield "assumed", result.note
    if len(result.inputs) > 1:
        yield "inputs", f"these are the spectra of {len(result.inputs)} inputs: {', '.join(result.inputs)}"
        yield "", "for those of one input alone, give another predictions="
    yield "shards", f"{document.shards:,} complete, {result.created:,} made by this run"
    yield "rows", f"{document.rows:,} of {document.rows_in:,}"
    if result.plan and result.plan.changed:
        yield (
            "changed",
            f"{result.plan.changed:,} files, such as {result.plan.examples[0]}; "
            "give ingest.reread=true to read them again",
        )
    if result.plan and result.plan.revised:
        yield (
            "changed",
            f"{result.plan.revised:,} rows have another rv, z, ra, dec, star or obsid in the catalogue; "
            "give ingest.reread=true to read them again",
        )
    yield from _counts(document)
    yield from _choice(document)
    tables = files.join(result.path, "predictions")
    yield "look at", f"{tables}  with pandas.read_parquet, pyarrow, or duckdb: from '{tables}/*.parquet'"
    if document.arrays:
        yield "", f"{files.join(result.path, ARRAYS)}  class_probabilities.npy, labels.npy, ids.parquet"
    if document.rows:
        yield "next", _next_command(result.path, document)


def _next_command(path: str, document: PredictionsDocument) -> str:
    """What can be done with these answers: a catalog of stars, a comparison with labels, or a map."""
    if not (document.classes or document.labels):
        return f"survey latent RECIPE predictions={path} latent=LATENT"
    if set(document.classes) <= set(CLASSES):
        return f"survey catalog RECIPE predictions={path} catalog=CATALOG"
    return f"survey evaluate RECIPE of={path} labels=TABLE"


def _counts(document: PredictionsDocument) -> Iterator[tuple[str, str]]:
    if document.refused:
        refused = sum(document.refused.values())
        yield "refused", f"{refused:,} ({refused / document.rows_in:.2%})"
        for reason, count in document.refused.items():
            yield "", f"{count:>9,}  {reason}: {REASONS[reason]}"
    if cascade := document.cascade:
        yield "cascade", f"{cascade.fastest} alone: {_share(cascade.ruled_out, document.rows)} (ruled_out)"
        for name, missed in cascade.missed.items():
            if missed.share is not None and missed.high is not None:
                yield (
                    "",
                    f"of the validation spectra near the {name} list it rules out {missed.share:.2%} "
                    f"(at most {missed.high:.2%})",
                )
    if document.classes:
        yield "classes", ", ".join(f"{name} {count:,}" for name, count in document.per_class.items())
    if document.ensemble.domain:
        yield (
            "far",
            f"{document.outside_training:,} are farther from the training spectra than 99 % of the "
            "validation spectra (domain > 1)",
        )
    if document.no_answer:
        yield "no answer", f"{document.no_answer:,} rows, which have nulls"


def _share(count: int, rows: int) -> str:
    return f"{count:,} rows, {count / max(rows, 1):.1%}"


def _choice(document: PredictionsDocument) -> Iterator[tuple[str, str]]:
    choice = document.choice
    compiled = ", compiled networks" if choice.compiled else ""
    yield "with", f"batches of {choice.batch}, {choice.precision}{compiled}"
    for note in choice.notes:
        yield "", note
