"""What a person sees of a catalog: its pictures, and a summary with numbers of stars and candidates and how
certain the lists are.
"""

from collections.abc import Iterator, Mapping, Sequence

from survey import files
from survey.catalog.candidates import NOT_SELECTED
from survey.catalog.catalog import KNOWN, TRUTH, CatalogResult
from survey.catalog.document import CatalogDocument, ExpectedRecord, IntervalRecord
from survey.catalog.settings import LIST_NAMES, ListName
from survey.messages import counted
from survey.reports import (
    asked_plots,
    candidate_plots,
    candidate_spectra,
    check_plots,
    key_plots,
    kind_plots,
    selection_plots,
    truth_plots,
)
from survey.reports.check_plots import check_lines
from survey.reports.kept_pictures import PICTURES, keep_pictures, left_out_of
from survey.reports.shown_lists import shown_lists

CLASS_ORDER = ("EMP", "VMP", "MP", "CEMP", "NMP", "no answer", "unknown")


def pictures(result: CatalogResult) -> list[str]:
    """Draw the plots unless all of them are there; their paths."""
    if result.created:
        files.remove(files.join(result.folder, PICTURES))
    left_out: dict[str, str] = {}
    return keep_pictures(result.folder, result.document, _drawn(result, left_out), left_out)


def _drawn(result: CatalogResult, left_out: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """The plots that can be drawn; `left_out` is filled with the reasons why others cannot be."""
    for name, png, why in _plots(result):
        if png is not None:
            yield name, png
        elif why:
            left_out[name] = why


def _plots(result: CatalogResult) -> Iterator[tuple[str, bytes | None, str]]:
    """Name and bytes of each plot, or none, and why there is none where a user may miss it."""
    why = selection_plots.why_not_promised(result)
    yield "purity_completeness", selection_plots.plot_curves(result), why
    yield "selection", selection_plots.plot_selection(result), why
    lists = shown_lists(result)
    drawn = candidate_plots.plot_lists(result, lists)
    for shown in lists:
        yield shown.file, drawn.get(shown.name), ""
        yield shown.spectra_file, *candidate_spectra.plot_spectra(result, shown)
    yield "kinds", kind_plots.plot_kinds(result), ""
    yield "checks", check_plots.plot_checks(result), ""
    yield "asked", asked_plots.plot_asked(result), ""
    yield "second_key", key_plots.plot_keys(result), ""
    for name, png in truth_plots.plot_truth(result).items():
        yield f"{name.lower()}_truth", png, ""


def summary(result: CatalogResult, pictures: Sequence[str]) -> str:
    """Counts, the lists and what to expect of them, comparisons with known stars and labels, file names."""
    document, folder = result.document, result.folder
    predictions, visits = document.predictions, document.counts.get("visits", {})
    state = "created now" if result.created else "was finished: nothing to do"
    lines = [
        f"catalog    {folder}  ({state})",
        *_calibration_lines(document),
        *(line for name in LIST_NAMES for line in _short_lines(document, name)),
        *([_line("warning", f"the CEMP list is {too_long}")] if (too_long := _too_long(document)) else []),
        f"from       {predictions.path}  {predictions.rows:,} spectra, "
        f"{counted(len(document.ensemble.members), 'member')}",
        f"stars      {document.stars:,}, {visits.get('stars with several', 0):,} with several visits, "
        f"{document.no_position:,} without a position",
    ]
    if repeated := predictions.rows - visits.get("total", 0):
        lines.append(_line("", f"{repeated:,} spectra repeat a visit; the best spectrum of a visit counts"))
    lines += _asked_lines(document) + _count_lines(document)
    lines += [line for name in LIST_NAMES for line in _list_lines(document, name)]
    lines += _vetted_lines(document)
    lines += _kind_list_lines(document) + check_lines(document) + _known_lines(result) + _truth_lines(result)
    cemp = files.join(folder, "cemp_candidates")
    lines += [
        _line(
            "look at",
            f"{files.join(folder, 'hats')}  lsdb.open_catalog(...); its stars/dataset: any Parquet reader",
        ),
        _line("", f"{cemp}.*, mp_candidates.* in TOPCAT, astropy, pandas, duckdb"),
        _line("", "next_cemp.*, next_mp.*: the best stars that are not in a list, with what keeps each out"),
        _line("", "not_fgk.parquet, unsure.parquet: all stars that may not be in a list, and why"),
        _line("", f"{len(pictures)} plots, selection.parquet, flags.csv and columns.csv (descriptions)"),
    ]
    for name, why in left_out_of(folder).items():
        lines.append(_line("no plot", f"{name}: {why}"))
    return "\n".join(lines)


def _line(title: str, text: str) -> str:
    return f"{title:<10} {text}"


def _asked_lines(document: CatalogDocument) -> list[str]:
    """How many stars are asked whether they are metal-poor, and why the others are not."""
    asked, kinds = document.counts.get("asked", {}), document.counts.get("kind", {})
    others = {kind: count for kind, count in kinds.items() if kind not in document.settings["ask"]}
    texts = [f"{asked.get('yes', 0):,} of {document.stars:,} stars"]
    if asked.get("not_fgk"):
        texts.append(f"{asked['not_fgk']:,} of other kinds ({_counted(others)})")
    if asked.get("unsure"):
        texts.append(f"{asked['unsure']:,} unsure ({_counted(document.counts['unsure'])})")
    return [_line("asked", "; ".join(texts))]


def _counted(counts: Mapping[str, int]) -> str:
    """Numbers by name, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in ordered)


def _count_lines(document: CatalogDocument) -> list[str]:
    """How many stars have each class and each flag."""
    lines = []
    titles = (("predicted_class", "classes"), ("class_by_labels", "by labels"), ("feh_class", "by [Fe/H]"))
    for column, title in titles:
        if counts := document.counts.get(column):
            ordered = sorted(counts.items(), key=lambda item: CLASS_ORDER.index(item[0]))
            lines.append(_line(title, ", ".join(f"{count:,} {name}" for name, count in ordered)))
    titles = (("flag_warn", "look twice"), ("flag_bad", "do not use"), ("flag_info", "to know"))
    for column, title in titles:
        counts = dict(document.counts.get(column, {"any": 0}))
        total = counts.pop("any")
        bits = _counted({name.lower(): count for name, count in counts.items()})
        lines.append(_line(title, f"{total:,}{f' ({bits})' if bits else ''}"))
    return lines


def _list_lines(document: CatalogDocument, name: ListName) -> list[str]:
    """A list and what to expect of it."""
    title, candidates = f"{name} list", f"{document.candidates[name]:,} candidates"
    threshold = document.thresholds.get(name)
    if threshold is None:
        return [_line(title, f"{candidates}, selected by {document.selected_by[name]}")]
    goal = "the best F1" if threshold.goal == "f1" else f"{threshold.goal} {threshold.level:g}"
    purity, completeness = _interval(threshold.purity), _interval(threshold.completeness)
    expected, too_long = document.expected[name], f"the list is {_too_long(document)}"
    repeated = (*document.why_short.get(name, ()), too_long)  # at the top of the summary
    shares = ", ".join(f"{share.share:.2%} {class_}" for class_, share in threshold.mix.classes.items())
    chosen = f"{candidates}: score of {threshold.value:.3f} or more, chosen for {goal}"
    if threshold.withheld:
        return [
            _line(title, f"{chosen}; nothing is promised of it, neither purity nor completeness, because"),
            *(_line("", reason) for reason in threshold.withheld),
            *(_line("", f"note: {note}") for note in threshold.notes if note not in repeated),
        ]
    promise = f"; expected purity {purity}, completeness {completeness}"
    return [
        _line(title, chosen + promise if document.candidates[name] else chosen),
        *(_expected_lines(expected) if document.candidates[name] else []),
        _line("", f"class shares of the survey, {threshold.mix.how}: {shares}"),
        *(_line("", f"note: {note}") for note in threshold.notes if note not in repeated),
    ]


def _vetted_lines(document: CatalogDocument) -> list[str]:
    """What people have said about the lists."""
    lines = []
    for name, found in document.vetted.items():
        judged = found.accept + found.reject + found.unsure
        counts = f"{found.accept:,} accepted, {found.reject:,} rejected, {found.unsure:,} unsure"
        text = f"{name} list: {judged:,} of {document.candidates[name]:,} judged by eye: {counts}"
        lines.append(_line("vetted", f"{text}; purity of these {_interval(found.purity)}"))
    return lines


def _kind_list_lines(document: CatalogDocument) -> list[str]:
    """The lists of other kinds."""
    lines = []
    for name, title in (("m_subdwarfs", "subdwarfs"), ("carbon_stars", "carbon")):
        if counts := document.counts.get(name):
            text = f"{sum(counts.values()):,} stars ({_counted(counts)}) by their bands or type, in {name}.*"
            lines.append(_line(title, text))
    return lines


def _expected_lines(expected: ExpectedRecord) -> list[str]:
    """How many stars of a list belong in it."""
    if expected.true is None:
        return []
    interval = f"{expected.true:.0f} [{expected.low:.0f}, {expected.high:.0f}]"
    return [_line("", f"{interval} of them belong in it; purity_to_here says so for each row, best first")]


def _too_long(document: CatalogDocument) -> str:
    """That the CEMP list is longer than can be; empty if it is not."""
    return document.frequency.warning if document.frequency else ""


def _calibration_lines(document: CatalogDocument) -> list[str]:
    """A warning about predictions of a run whose calibration was not possible."""
    if document.ensemble.calibrated:
        return []
    return [
        _line(
            "warning", "not calibrated: errors and probabilities are not to be believed, distances from the"
        ),
        _line("", "training spectra are unknown; use the lists to look at spectra only"),
    ]


def _short_lines(document: CatalogDocument, name: ListName) -> list[str]:
    """Why a list is empty or very short; nothing if the labels that it needs are not predicted at all."""
    if document.selected_by.get(name) == NOT_SELECTED:
        return []
    reasons = document.why_short.get(name, ())
    return [_line("" if number else f"{name} list", reason) for number, reason in enumerate(reasons)]


def _interval(measure: IntervalRecord) -> str:
    if measure.value is None:
        return "unknown"
    return f"{measure.value:.2f} [{measure.low:.2f}, {measure.high:.2f}]"


def _known_lines(result: CatalogResult) -> list[str]:
    """How many stars of each list of known stars are in the catalog and among the candidates."""
    table = result.table(KNOWN)
    lines = []
    for row in [] if table is None else table.to_pylist():
        more = f" ({row['no_position']:,} more have no position)" if row["no_position"] else ""
        observed = f"{row['observed']:,} of {row['stars']:,} are in the catalog{more}"
        candidates = f"{row['recovered']:,} of these are {row['search']} candidates"
        lines.append(_line("known", f"{row['list']}: {observed}, {candidates}"))
    return lines


def _truth_lines(result: CatalogResult) -> list[str]:
    """The measured purity and completeness of the lists."""
    table = result.table(TRUTH)
    if table is None:
        return []
    counts = ", ".join(f"{count:,} {name}" for name, count in (result.document.truth or {}).items() if count)
    lines = [_line("truth", counts)]
    for row in table.to_pylist():
        measure = IntervalRecord(value=row["value"], low=row["low"], high=row["high"])
        hits = f"({row['hits']:,} of {row['n']:,})"
        lines.append(_line("", f"{row['search']:<4} {row['metric']:<13} {_interval(measure)}  {hits}"))
    return lines
