"""Pictures of a label table: a source has one colour in all panels, and missing labels stop nothing."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from survey.reports.label_table_plots import OTHERS, plots
from survey.reports.style import SERIES
from tests.label_tables.catalogues_by_hand import make, write_csv

LABELS = {"FeH": {"column": "feh"}, "Teff": {"column": "teff"}}


def catalogues(folder: Path, sizes: dict[str, int]) -> dict[str, Any]:
    """Catalogues of stars of their own; every second one, by the alphabet, has temperatures too."""
    sources: dict[str, Any] = {}
    for number, (name, size) in enumerate(sorted(sizes.items())):
        teff = 5000 if number % 2 else ""
        rows = [(star, number * 5, -1 - 0.1 * star, teff) for star in range(size)]
        path = write_csv(folder / f"{name}.csv", "ra dec feh teff", rows)
        sources[name] = {"file": path, "priority": number, "labels": LABELS}
    return sources


def colours(axis: Axes) -> dict[str, str]:
    """The colour of each line of a panel, by its name."""
    handles, words = axis.get_legend_handles_labels()
    lines: list[Any] = list(handles)
    return {word: to_hex(line.get_edgecolor()) for word, line in zip(words, lines, strict=True)}


def test_a_source_has_one_colour_in_all_panels_and_the_largest_ones_come_first(
    tmp_path: Path, figures: list[Figure]
) -> None:
    sizes = {letter: 3 + number for number, letter in enumerate("abcdefghi")}
    names = [name for name, _ in plots(make(tmp_path, catalogues(tmp_path, sizes)))]
    assert names == ["ranges", "sky"]
    teff, iron = (colours(axis) for axis in figures[0].axes[2:4])
    assert set(teff) <= set(iron)
    assert all(teff[word] == iron[word] for word in teff)
    assert len(set(iron.values())) == len(iron) == len(SERIES)
    legend = figures[0].axes[3].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [*"hfdigb", OTHERS]


def test_a_table_without_the_labels_of_the_ranges_has_no_picture_of_them(
    tmp_path: Path, figures: list[Figure]
) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec x", [(star, 5, 0.1 * star) for star in range(5)])
    sources = {"a": {"file": path, "labels": {"MgFe": {"column": "x"}}}}
    assert [name for name, _ in plots(make(tmp_path, sources))] == ["sky"]
