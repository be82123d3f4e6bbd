"""What a person sees of a latent space: pictures of its maps, and a summary with the numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from survey.latent.latent import CLASSIFIERS, LATENT_FEATURES, OUTLIERS, STATISTICS, LatentResult
from survey.latent.latent_document import LatentDocument
from survey.latent.outliers import OUTLIER
from survey.reports import latent_maps, latent_plots
from survey.reports.kept_pictures import keep_pictures

SHOWN = 3
"""Outliers that the summary names, of each list."""
MOST_CLASSES = 12


def pictures(result: LatentResult) -> list[str]:
    """Draw the pictures, unless they are there; their paths."""
    return keep_pictures(result.folder, result.document, _drawn(result))


def _drawn(result: LatentResult) -> Iterator[tuple[str, bytes]]:
    yield from latent_maps.plot_maps(result).items()
    others = {
        "classifiers": latent_plots.plot_classifiers(result),
        "pairs": latent_plots.plot_pairs(result),
    }
    yield from ((name, data) for name, data in others.items() if data)


def summary(result: LatentResult, pictures: Sequence[str]) -> str:
    """The numbers: components, clusters, outliers, classifiers and pairs; then what to look at."""
    document = result.document
    state = "made now" if result.created else "was finished: nothing to do"
    shares, count = document.shares, len(document.shares)
    without = f", {document.no_latent:,} without a latent" if document.no_latent else ""
    lines = [
        f"latent     {result.folder}  ({state})",
        _line(
            "from", f"{document.predictions}: {document.rows:,} rows of {document.width} features{without}"
        ),
        _line(
            "components",
            f"{count} kept with {sum(shares):.1%} of the variance, the first two with {sum(shares[:2]):.1%}",
        ),
        *_map_lines(document),
        *_cluster_lines(document),
        *_table_lines(document),
        *_outlier_lines(result),
        *_classifier_lines(result),
        *_pair_lines(document),
    ]
    if document.like:
        lines.append(_line("neighbours", f"of {', '.join(document.like)}: neighbours.parquet"))
    names = ", ".join(path.rpartition("/")[2] for path in pictures)
    tables = ", ".join(document.content)
    lines += [_line("look at", f"{tables}"), _line("", names)]
    return "\n".join(lines)


def _line(title: str, text: str) -> str:
    return f"{title:<10} {text}"


def _map_lines(document: LatentDocument) -> list[str]:
    lines = [_line("maps", f"{', '.join(document.maps)}; from a sample of {document.sample:,} rows")]
    return lines + [_line("", f"no {name}: {advice}") for name, advice in document.left_out.items()]


def _counted(counts: Mapping[str, int]) -> str:
    """Numbers by name, the largest first."""
    ordered = sorted(((name, count) for name, count in counts.items() if count), key=lambda item: -item[1])
    texts = [f"{count:,} {name}" for name, count in ordered[:MOST_CLASSES]]
    return ", ".join(texts) + (
        f" and {len(ordered) - MOST_CLASSES} more" if len(ordered) > MOST_CLASSES else ""
    )


def _cluster_lines(document: LatentDocument) -> list[str]:
    method = document.settings["clusters"]["method"]
    if method == "none":
        return []
    named = {f"in cluster {number}": count for number, count in document.clusters.items() if number != "-1"}
    alone = document.clusters.get("-1", 0)
    outside = f"; {alone:,} rows in none" if alone else ""
    if method == "hdbscan" and alone > document.rows / 2:
        outside += ", so no clear clusters; clusters.method=kmeans divides all rows"
    return [_line("clusters", f"{len(named)} by {method}: {_counted(named) or 'none'}{outside}")]


def _table_lines(document: LatentDocument) -> list[str]:
    """The tables that were joined, and the classes that they give."""
    lines = [
        _line(
            "table", f"{table.table}: {table.rows:,} rows, {table.matched:,} predictions found by {table.key}"
        )
        for table in document.tables
    ]
    for question in document.questions:
        more = f"; {question.contradicting:,} rows contradict" if question.contradicting else ""
        lines.append(_line("classes", f"{question.name}: {_counted(question.rows) or 'none'}{more}"))
    return lines


def _outlier_lines(result: LatentResult) -> list[str]:
    """The first outliers of each list."""
    table = result.table(OUTLIERS)
    lines: list[str] = []
    for row in [] if table is None else table.to_pylist():
        if row["kind"] != OUTLIER or row["rank"] > SHOWN:
            continue
        by_centre = row["by"] == "centre"
        value = row["centre_ratio"] if by_centre else row["density_score"]
        about = f"{value:.1f} times the median distance from the centre of {row['group']}"
        text = about if by_centre else f"{value:.1f} times the median distance to its neighbours"
        lines.append(_line("" if lines else "outliers", f"{_name(row)}: {text}"))
    return lines


def _name(row: Mapping[str, Any]) -> str:
    """What names an object: its star, visit or file."""
    path = str(row.get("path") or "").rpartition("/")[2]
    return str(row.get("star") or row.get("visit") or path or row["row_in_shard"])


def _classifier_lines(result: LatentResult) -> list[str]:
    """Balanced accuracy and accuracy of each question."""
    table = result.table(CLASSIFIERS)
    rows = {
        (row["question"], row["features"], row["classifier"], row["metric"]): row
        for row in ([] if table is None else table.to_pylist())
        if not row["class"]
    }
    lines = []
    for question in result.document.questions:
        if question.why_not:
            lines.append(_line("learned", f"nothing of {question.why_not}"))
            continue
        majority = rows[question.name, "nothing", "majority", "accuracy"]
        lines.append(
            _line(
                "learned",
                f"{question.name}: of {majority['train']:,} rows, tested on {majority['n']:,}; "
                f"the most common class alone: accuracy {majority['value']:.3f}",
            )
        )
        for features in (LATENT_FEATURES, STATISTICS):
            for classifier in ("forest", "linear"):
                pair = [rows.get((question.name, features, classifier, name)) for name in _TWO]
                if pair[0] and pair[1]:
                    text = f"accuracy {_interval(pair[0])}, balanced {_interval(pair[1])}"
                    lines.append(_line("", f"{features:<10} {classifier:<6} {text}"))
    return lines


_TWO = ("accuracy", "balanced_accuracy")


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _pair_lines(document: LatentDocument) -> list[str]:
    """How the pairs rank, and how far the surveys are from each other."""
    pairs = document.pairs
    if pairs is None:
        return []
    distances = ", ".join(
        f"{name} {value:.3g} (two halves of the first survey: {pairs.within[name]:.2g})"
        for name, value in pairs.distances.items()
    )
    surveys = _line("surveys", distances)
    if not pairs.same_ensemble:
        note = "of another ensemble: distances mean something only if it was trained from the first one"
        surveys += "\n" + _line("", f"the second survey has predictions {note}")
    if pairs.median_rank is None or pairs.top_1 is None or pairs.top_10 is None:
        return [_line("pairs", "no object is in both surveys, by visit, star or position"), surveys]
    return [
        _line("pairs", f"{pairs.pairs:,} objects in both surveys, by {pairs.by}; {pairs.ranked:,} ranked"),
        _line(
            "",
            f"median rank {pairs.median_rank:,.0f} of {pairs.other_rows:,} (by chance {pairs.chance:,.0f}); "
            f"the own partner is the nearest for {pairs.top_1:.1%}, "
            f"among the nearest 10 for {pairs.top_10:.1%}",
        ),
        surveys,
    ]
