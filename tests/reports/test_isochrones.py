"""Isochrones from files in the format of MIST: which are read, chosen and refused.

The files are written here in the formats of MIST's own programs (Fortran's i5, es32.16e3), with made-up
numbers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from survey import files
from survey.evaluate.settings import Evaluate
from survey.metrics.score import LabelledAnswers
from survey.reports import evaluate, kiel_plots
from survey.reports.isochrones import Isochrone, choose, read
from survey.settings import SettingsError
from tests.reports.labelled_stars import labelled_stars
from tests.reports.sketches import sketch

RULE = "# " + "-" * 86
THEORY = (
    "log10_isochrone_age_yr",
    "initial_mass",
    "star_mass",
    "star_mdot",
    "log_L",
    "log_Teff",
    "log_R",
    "log_g",
    "surface_h1",
    "phase",
)
MAGNITUDES = (
    "isochrone_age_yr",
    "initial_mass",
    "star_mass",
    "log_Teff",
    "log_g",
    "log_L",
    "[Fe/H]_init",
    "[Fe/H]",
    "PS_g",
    "phase",
)
PHASES = (-1.0, 0.0, 2.0, 5.0, 6.0)


def block(age: float, names: Sequence[str] = THEORY, rows: int = 5, **values: float) -> str:
    """A block of one age in years with a row for each phase; the age is a logarithm if its column is."""
    lines = [
        f"# number of EEPs, cols ={rows:6d}{len(names) + 1:5d}",
        "#   1" + "".join(f"{number:32d}" for number in range(2, len(names) + 2)),
        "# EEP" + "".join(f"{name:>32}" for name in names),
    ]
    ages = {
        name: float(np.log10(age)) if name.startswith("log") else age
        for name in names
        if name.endswith(("age_yr", "log_age"))
    }
    for row in range(rows):
        stars = {"log_Teff": 3.6 + 0.02 * row, "log_g": 5.0 - row, "phase": PHASES[row % 5]}
        cells: dict[str, float] = dict.fromkeys(names, 0.1 * row) | stars | ages | values
        text = (f"{cells[name]:32.16E}".replace("E+", "E+0").replace("E-", "E-0") for name in names)
        lines.append(f"{row + 251:5d}{''.join(text)}")
    return "\n".join(lines)


def write(path: Path, *blocks: str, feh: float = -1.35, count: int | None = None) -> str:
    """Write a file with these blocks below the usual head."""
    head = [
        "# MIST version number  = 1.2     ",
        "# MESA revision number =     7503",
        RULE,
        "#  Yinit        Zinit   [Fe/H]   [a/Fe]  v/vcrit                                        ",
        f"# 0.2500  6.64289E-04  {feh:7.2f}     0.00     0.40",
        RULE,
        f"# number of isochrones ={len(blocks) if count is None else count:6d}",
        RULE,
    ]
    path.write_text("\n".join(head) + "\n" + "\n\n\n".join(blocks) + "\n")
    return str(path)


def test_a_file_of_theory_is_read_from_the_main_sequence_to_the_giants(tmp_path: Path) -> None:
    young, old = read(write(tmp_path / "a.iso", block(1e9), block(1.2e10)))
    assert [young.gyr, old.gyr, young.feh] == pytest.approx([1.0, 12.0, -1.35])
    assert young.teff == pytest.approx(10 ** np.array([3.62, 3.64, 3.66]))
    assert young.logg.tolist() == [4.0, 3.0, 2.0]
    assert old.name == "12 Gyr, [Fe/H] -1.35"


def test_a_file_of_magnitudes_with_ages_in_years_is_read_too(tmp_path: Path) -> None:
    years = 1.2000000000000093e10
    (isochrone,) = read(write(tmp_path / "MIST_iso.iso.cmd", block(years, MAGNITUDES), feh=0.25))
    assert isochrone.gyr == pytest.approx(12.0)
    assert (isochrone.feh, len(isochrone.teff)) == (0.25, 3)
    (without_phase,) = read(write(tmp_path / "old.iso", block(5e9, ("log_age", "log_Teff", "log_g"))))
    assert without_phase.gyr == pytest.approx(5.0)
    assert len(without_phase.teff) == 5


def test_the_nearest_age_is_chosen_under_its_own_name_and_each_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.iso", *(block(10**age) for age in (9.0, 9.5, 9.7, 10.0)))
    names = [isochrone.name for isochrone in choose([path], [1.0, 3.0, 5.0, 10.0, 10.1])]
    assert names == [f"{age} Gyr, [Fe/H] -1.35" for age in ("1", "3.16", "5.01", "10")]
    message = r"a.iso: none of 2 Gyr; its ages are 1, 3.16, 5.01, 10: give ages= of these"
    with pytest.raises(ValueError, match=message):
        choose([path], [2.0])


def test_files_of_equal_age_and_composition_are_told_apart_by_their_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may differ in rotation or in the abundance of alpha elements."""
    at_rest = write(tmp_path / "a.iso", block(1e9))
    rotating = write(tmp_path / "b.iso", block(1e9, log_Teff=3.7))
    both = choose([at_rest, rotating, at_rest], [1.0])
    assert [isochrone.name for isochrone in both] == ["1 Gyr, [Fe/H] -1.35"] * 2
    document = SimpleNamespace(id="1", date="today")
    labelled = SimpleNamespace(labels_name="true")
    evaluation: Any = SimpleNamespace(
        folder=str(tmp_path), document=document, calibrated=labelled, is_new=False
    )
    drawn: list[Any] = []

    def draw(evaluation: Any, curves: Any, look: Any) -> list[str]:
        drawn.append(curves)
        files.write_json(str(tmp_path / evaluate.PICTURES), {"names": [], "look": look})
        return []

    monkeypatch.setattr(evaluate, "_draw", draw)
    for curves in (both[:1], both[:1], both[1:], both):
        evaluate.pictures(evaluation, curves)
    assert drawn == [both[:1], both[1:], both]


BAD = {
    "no text": (b"\xff\xfe\x00\x01", r"is not text \(byte 0"),
    "nothing": (b"", r"has no isochrone \(0 lines\)"),
    "another table": (b"# a table\n1 2 3\n", r"has no isochrone \(2 lines\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_without_isochrones_is_refused(name: str, tmp_path: Path) -> None:
    data, message = BAD[name]
    (tmp_path / "bad.iso").write_bytes(data)
    message = rf"isochrones: .*bad.iso: {message}.*give a file of MIST isochrones"
    with pytest.raises(ValueError, match=message):
        read(str(tmp_path / "bad.iso"))


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    complete = block(1e9)
    with pytest.raises(ValueError, match="announces 3 isochrones and has 1, so it may be cut off"):
        read(write(tmp_path / "a.iso", complete, count=3))
    with pytest.raises(ValueError, match="a block of 4 rows that announces 5, so it may be cut off"):
        read(write(tmp_path / "b.iso", complete.rpartition("\n")[0]))
    with pytest.raises(ValueError, match=r"line 9: rows that are not 11 numbers each"):
        read(write(tmp_path / "c.iso", complete[:-40]))


def test_a_block_without_the_columns_is_refused(tmp_path: Path) -> None:
    ages = r"a block without a column of ages \(log10_isochrone_age_yr, log_age, isochrone_age_yr\)"
    with pytest.raises(ValueError, match=ages):
        read(write(tmp_path / "a.iso", block(1e9, ("log_Teff", "log_g"))))
    with pytest.raises(ValueError, match=r"a block without log_g; it has EEP, log_age, log_Teff"):
        read(write(tmp_path / "b.iso", block(1e9, ("log_age", "log_Teff"))))


def test_a_block_without_a_single_valid_age_is_refused(tmp_path: Path) -> None:
    mixed = block(1e9, rows=2) + "\n" + block(2e9, rows=1).rpartition("\n")[2]
    message = r"a block without a single valid age \(log10_isochrone_age_yr from 9 to 9.30103"
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "c.iso", mixed.replace("=     2", "=     3")))
    with pytest.raises(ValueError, match="without a single valid age"):
        read(write(tmp_path / "d.iso", block(1e9, log_Teff=float("nan"))))


Plot = Callable[[LabelledAnswers, Sequence[Isochrone]], bytes | None]
PLOTS: dict[str, Plot] = {
    "kiel": kiel_plots.kiel,
    "abundance": lambda stars, isochrones: kiel_plots.abundance(stars, "FeH", isochrones),
}


@pytest.mark.parametrize("name", PLOTS)
def test_isochrones_are_drawn_in_each_kiel_diagram_inside_the_limits_of_the_stars(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(tmp_path / "a.iso", block(1e9)), write(tmp_path / "b.iso", block(1e9), feh=0.0)]
    isochrones = choose(paths, [1.0])
    figures = sketch(monkeypatch)
    stars = labelled_stars(40)
    assert PLOTS[name](stars, ()) is not None
    assert PLOTS[name](stars, isochrones) is not None
    without, with_isochrones = figures
    panels = [axis for axis in with_isochrones.axes if axis.get_lines()]
    assert [len(axis.get_lines()) for axis in panels] == [2] * len(panels)
    for line, isochrone in zip(panels[0].get_lines(), isochrones, strict=True):
        assert np.asarray(line.get_xdata(), float) == pytest.approx(isochrone.teff)
        assert np.asarray(line.get_ydata(), float) == pytest.approx(isochrone.logg)
    assert with_isochrones.axes[0].get_xlim() == without.axes[0].get_xlim()
    assert with_isochrones.axes[0].get_xlim()[0] > with_isochrones.axes[0].get_xlim()[1]
    legend = [text.get_text() for text in with_isochrones.legends[0].get_texts()]
    assert legend == ["1 Gyr, [Fe/H] -1.35", "1 Gyr, [Fe/H] +0.00"]


def test_files_are_read_before_any_work_and_ages_are_checked(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere.iso")
    with pytest.raises(FileNotFoundError, match=r"nowhere.iso: no such file"):
        evaluate.read_isochrones(Evaluate.from_dict("evaluate", {"of": "run", "isochrones": [missing]}))
    assert evaluate.read_isochrones(Evaluate.from_dict("evaluate", {"of": "run"})) == ()
    with pytest.raises(SettingsError, match=r"ages"):
        Evaluate.from_dict("evaluate", {"of": "run", "ages": [0]})
