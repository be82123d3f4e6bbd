"""What a person sees of a follow-up: plots, what to observe and why, and the purity that follows."""

from collections.abc import Iterator, Sequence

from survey.catalog.document import IntervalRecord
from survey.followup.followup import SAMPLE, Followup
from survey.followup.followup_document import FollowupDocument, ResultsDocument
from survey.followup.observed import Observed
from survey.reports import followup_plots
from survey.reports.kept_pictures import keep_pictures

FIRST_ROWS = 5


def pictures(sample: Followup, results: Observed | None) -> list[str]:
    """Draw the plots, unless they are there; their paths."""
    paths = keep_pictures(sample.folder, sample.document, followup_plots.draw_sample_plots(sample))
    if results:
        drawn = followup_plots.draw_result_plots(sample, results)
        paths += keep_pictures(results.folder, results.document, drawn)
    return paths


def summary(sample: Followup, results: Observed | None, pictures: Sequence[str]) -> str:
    """What is to be observed and why; with results, how pure the list is."""
    lines = list(_sample_lines(sample))
    if results:
        lines += ["", *_result_lines(results)]
    named = [path.removeprefix(f"{sample.folder}/") for path in pictures]
    lines += ["", _line("look at", ", ".join(named)), _line("", f"{SAMPLE}.csv, .vot, .fits, .parquet")]
    return "\n".join(lines)


def _line(title: str, text: str) -> str:
    return f"{title:<10} {text}"


def _sample_lines(sample: Followup) -> Iterator[str]:
    document = sample.document
    state = "drawn now" if sample.created else "was drawn before: it stays as it is"
    chosen = document.by_yield + document.random
    strata = "1 stratum" if len(document.strata) == 1 else f"{len(document.strata)} strata"
    yield _line("followup", f"{sample.folder}  ({state})")
    yield _line("of", f"{document.of}, list of {document.search} candidates: {document.definition}")
    yield _line("list", _list_text(document))
    for reason, count in document.left_out.items():
        yield _line("", f"{count:,} cannot be observed: {reason}")
    site = document.site
    yield _line(
        "site",
        f"{site.name} ({site.longitude:.4f}, {site.latitude:.4f}, {site.height:.0f} m), {_nights(document)}",
    )
    yield _line(
        "sample",
        f"{chosen:,} stars in {document.hours:.1f} hours: {document.by_yield:,} by yield per hour, "
        f"{document.random:,} drawn at random in {strata}",
    )
    yield _line("certify", _certify_text(document))
    yield _line("expected", f"{document.expected:.1f} of these {chosen:,} stars are {document.search} stars")
    for note in document.notes:
        yield _line("note", note)
    if sample.created:
        yield ""
        yield from _first_rows(sample)


def _certify_text(document: FollowupDocument) -> str:
    if document.error is None:
        return "no star is drawn at random: the purity cannot be certified; certify=0.3 changes that"
    return f"the results will give the purity to about +-{document.error:.2f} (95 %)"


def _list_text(document: FollowupDocument) -> str:
    rejected = f", {document.rejected:,} rejected ones left out" if document.rejected else ""
    verdicts = document.verdicts
    judged = f" ({', '.join(f'{count:,} {name}' for name, count in verdicts.items())})" if verdicts else ""
    promised = "" if document.promised is None else f"; the catalog expects {document.promised:.2f}"
    return f"{document.listed:,} stars{rejected}{judged}, mean probability {document.purity:.2f}{promised}"


def _nights(document: FollowupDocument) -> str:
    dates = document.settings["dates"]
    nights = f"night of {dates[0]}" if dates[0] == dates[-1] else f"nights {dates[0]} to {dates[-1]}"
    return f"{nights}, {document.site.dark_hours:.0f} dark hours"


def _first_rows(sample: Followup) -> Iterator[str]:
    yield f"{'order':>5}  {'star':<20} {'mag':>5} {'s':>6} {'airmass':>7}  {'best time (UTC)':<16}  why"
    for row in sample.table(f"{SAMPLE}.parquet").slice(0, FIRST_ROWS).to_pylist():
        yield (
            f"{row['order']:>5}  {row['star']:<20} {row['magnitude']:5.2f} {row['exposure']:6.0f} "
            f"{row['airmass']:7.2f}  {row['best_time']:<16}  {row['why']}"
        )


def _result_lines(results: Observed) -> Iterator[str]:
    document = results.document
    state = "read now" if results.created else "were read before: nothing to do"
    yield _line("results", f"{document.results}  ({state})")
    used = {name: count for name, count in document.counts.items() if name != "rows"}
    yield _line(
        "",
        f"{document.counts['rows']:,} rows: {', '.join(f'{count:,} {name}' for name, count in used.items())}",
    )
    yield _line("observed", f"{document.true:,} of {document.observed:,} are true: {_share(document.plain)}")
    yield from _purity_lines(document)
    yield _line("expected", f"{document.expected:.1f} true stars in the list, as far as is known now")
    for verdict, (true, count) in document.by_verdict.items():
        yield _line("verdict", f"{verdict}: {true:,} of {count:,} are true")
    for note in document.notes:
        yield _line("note", note)


def _purity_lines(document: ResultsDocument) -> Iterator[str]:
    if document.not_certified:
        yield _line("purity", f"cannot be certified: {document.not_certified}")
        return
    yield _line(
        "purity",
        f"{_share(document.purity)} of all stars that can be observed (stratified, without bias; "
        f"{document.before:.2f} was expected)",
    )
    if document.list_purity != document.purity:
        yield _line("", f"{_share(document.list_purity)} of the list, with stars that cannot be observed")


def _share(share: IntervalRecord) -> str:
    if share.value is None:
        return "not known"
    return f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]"
