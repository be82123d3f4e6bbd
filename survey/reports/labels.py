"""What a person sees of a label table: the summary, and pictures of overlaps, ranges, and the sky."""

from collections.abc import Iterator, Mapping, Sequence

from survey import files
from survey.label_tables.label_document import LabelsDocument, SourceRecord
from survey.label_tables.label_tables import CONTRADICTIONS, SCALES, LabelsResult
from survey.reports import label_table_plots
from survey.reports.kept_pictures import keep_pictures, kept_names

REPORT = "report.txt"
MOST_REASONS = 6
SHOWN = 3
"""Contradictions that the summary names."""


def pictures(result: LabelsResult) -> list[str]:
    """Draw the pictures and write the report, unless they are there; the paths of the pictures."""
    report = files.join(result.folder, REPORT)
    if kept_names(result.folder, result.document) is None:
        files.remove(report)  # of another table
    paths = keep_pictures(result.folder, result.document, label_table_plots.plots(result))
    if not files.exists(report):
        files.write(report, (summary(result, paths) + "\n").encode())
    return paths


def summary(result: LabelsResult, pictures: Sequence[str]) -> str:
    """What matched and what did not and why, the table by class, source and S/N, and what to do next."""
    document = result.document
    state = "made now" if result.created else "was finished: nothing to do"
    lines = [f"labels     {result.folder}  ({state})", *_survey_lines(document)]
    for record in document.sources:
        lines += _source_lines(record)
    if document.skipped:
        lines.append(_line("skipped", f"{', '.join(document.skipped)}: their files are not there"))
    lines += [*_star_lines(document), *_label_lines(document), *_scale_lines(result)]
    lines += [*_contradiction_lines(result), *_weak_lines(document)]
    names = ", ".join(path.rpartition("/")[2] for path in pictures)
    lines += [_line("look at", ", ".join(document.content)), _line("", names)]
    table = files.join(files.relative(result.folder), "labels.parquet")
    lines.append(_line("next", f"survey train RECIPE store=... labels={table} run=..."))
    return "\n".join(lines)


def _line(title: str, text: str) -> str:
    return f"{title:<10} {text}"


def _counted(counts: Mapping[str, int], most: int = MOST_REASONS) -> str:
    """Numbers by name, the largest first."""
    ordered = sorted(((name, count) for name, count in counts.items() if count), key=lambda item: -item[1])
    rest = sum(count for _, count in ordered[most:])
    text = ", ".join(f"{count:,} {name}" for name, count in ordered[:most])
    return text + (f", {rest:,} others" if rest else "")


def _survey_lines(document: LabelsDocument) -> list[str]:
    if not document.to:
        return [_line("to", "no survey: all stars of the catalogues")]
    noisy = f", {document.too_noisy:,} below the wanted S/N" if document.too_noisy else ""
    return [
        _line(
            "to",
            f"{document.to}: {document.survey_visits:,} visits of {document.survey_stars:,} stars{noisy}",
        )
    ]


def _source_lines(record: SourceRecord) -> list[str]:
    """A source: rows that are used, by what they were matched, and why the others are not."""
    by = ", ".join(f"{count:,} by {name}" for name, count in record.by.items() if name != "itself")
    ambiguous = f"; {record.ambiguous:,} had another star nearly as near" if record.ambiguous else ""
    lines = [
        _line(
            record.name,
            f"{record.file}: {record.rows:,} rows, {record.used:,} used of {record.stars:,} stars"
            + (f" ({by})" if by else "")
            + ambiguous,
        )
    ]
    if record.refused:
        lines.append(_line("", f"not used: {_counted(record.refused)}"))
    left_out: dict[str, int] = {}
    for label, counts in record.left_out.items():
        for reason, count in counts.items():
            left_out[f"{label} {reason}"] = count
    if left_out:
        lines.append(_line("", f"values left out: {_counted(left_out)}"))
    return lines


def _star_lines(document: LabelsDocument) -> list[str]:
    dropped = f", {document.dropped:,} dropped as contradicting" if document.dropped else ""
    available = _counted(document.available | {"without a class": document.no_class})
    return [
        _line("labelled", f"{document.labelled:,} stars{dropped}: {available}"),
        _line("table", f"{document.visits:,} rows of {document.stars:,} stars: {_counted(document.classes)}"),
        _line("by S/N", ", ".join(f"{name}: {count:,}" for name, count in document.by_snr.items() if count)),
    ]


def _label_lines(document: LabelsDocument) -> Iterator[str]:
    for number, record in enumerate(document.labels):
        text = (
            f"{record.name:<5} {record.stars:>7,} stars, {record.low:g} to {record.high:g} (5th to 95th "
            f"percentile), median {record.middle:g}; from {_counted(record.origin, 3)}"
        )
        yield _line("" if number else "values", text)


def _scale_lines(result: LabelsResult) -> list[str]:
    """Offset and slope of each source against the reference."""
    table = result.table(SCALES)
    rows = [] if table is None else table.to_pylist()
    applied = result.document.settings["scale"]["apply"]
    lines: list[str] = []
    for row in rows:
        where = f"{row['label']:<5} {row['source']} to {row['reference']}"
        if row["offset"] is None:
            text = f"{where}: {row['stars']:,} stars in common, too few for an offset"
        else:
            text = (
                f"{where}: {row['used']:,} of {row['stars']:,} stars, offset {row['offset']:+.3g} "
                f"[{row['offset_low']:+.3g}, {row['offset_high']:+.3g}]"
            )
            if row["slope_low"] is not None:
                text += (
                    f", slope {row['slope']:+.3f} [{row['slope_low']:+.3f}, {row['slope_high']:+.3f}] "
                    f"around {row['pivot']:.4g}"
                )
        lines.append(_line("" if lines else "scales", text))
    if lines:
        state = "were applied" if applied else "were not applied; scale.apply=true puts all on one scale"
        lines.append(_line("", f"these {state}"))
    return lines


def _contradiction_lines(result: LabelsResult) -> list[str]:
    document = result.document
    if not document.contradictions:
        return [_line("contradict", "no two values of a star")]
    treated = {
        "keep": "kept and named in the column contradicts",
        "drop_label": "these labels are left out",
        "drop_star": "these stars are left out",
    }[document.settings["combine"]["contradicting"]]
    lines = [
        _line(
            "contradict",
            f"{document.contradicting_stars:,} stars, {treated}: {_counted(document.contradictions)}",
        )
    ]
    table = result.table(CONTRADICTIONS)
    rows = [] if table is None else sorted(table.to_pylist(), key=lambda row: -row["sigmas"])
    for row in rows[:SHOWN]:
        text = (
            f"{row['star']}: {row['label']} {row['value_1']:.4g} ({row['source_1']}), "
            f"{row['value_2']:.4g} ({row['source_2']}), {row['sigmas']:.1f} sigma"
        )
        lines.append(_line("", text))
    return lines


def _weak_lines(document: LabelsDocument) -> list[str]:
    lines: list[str] = []
    weak = document.settings["weak"]
    if weak["kinds"] and not document.to:
        lines.append(_line("weak", "none: the objects of a survey get weak labels; give to="))
    elif weak["kinds"]:
        lines.append(
            _line(
                "weak",
                f"{_counted(document.weak, 9) or 'no star'} as {weak['label']} with weight "
                f"{weak['weight']:g}: weak.parquet",
            )
        )
    if document.repeats:
        lines.append(_line("repeats", f"{document.repeats:,} pairs of visits of one star: repeats.parquet"))
    return lines
