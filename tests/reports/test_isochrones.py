"""Isochrones from files in the format of MIST: what is read, what is chosen, and what is refused.

The files are written here by the formats of its own programs (Fortran's i5, es32.16e3); the numbers in them are of no star.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from survey.evaluate.evaluate import Evaluate
from survey.reports import evaluate, kiel_plots
from survey.reports.isochrones import chosen, read
from survey.settings import SettingsError
from tests.reports import test_evaluation_plots
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
CMD = (
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
    """A block of one age, a row for each phase; an age of 1.2e10 is written as its logarithm where the column wants that."""
    lines = [
        f"# number of EEPs, cols ={rows:6d}{len(names) + 1:5d}",
        "#   1" + "".join(f"{number:32d}" for number in range(2, len(names) + 2)),
        "# EEP" + "".join(f"{name:>32}" for name in names),
    ]
    for row in range(rows):
        told: dict[str, Any] = dict.fromkeys(names, 0.1 * row) | {
            "log_Teff": 3.6 + 0.02 * row,
            "log_g": 5.0 - row,
            "phase": PHASES[row % 5],
        }
        told |= {
            name: np.log10(age) if name.startswith("log") else age
            for name in names
            if name.endswith(("age_yr", "log_age"))
        } | values
        lines.append(
            f"{row + 251:5d}"
            + "".join(f"{told[name]:32.16E}".replace("E+", "E+0").replace("E-", "E-0") for name in names)
        )
    return "\n".join(lines)


def write(path: Path, *blocks: str, feh: float = -1.35, count: int | None = None) -> str:
    """A file of these blocks under the head that they have."""
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


def test_a_file_of_theory_is_read_block_by_block_from_the_main_sequence_to_the_giants(tmp_path: Path) -> None:
    one, two = read(write(tmp_path / "a.iso", block(1e9), block(1.2e10)))
    assert (one.gyr, two.gyr, one.feh) == (pytest.approx(1.0), pytest.approx(12.0), -1.35)
    assert one.teff == pytest.approx(10 ** np.array([3.62, 3.64, 3.66]))
    assert one.logg.tolist() == [4.0, 3.0, 2.0]
    assert two.name == "12 Gyr, [Fe/H] -1.35"


def test_a_file_of_magnitudes_with_ages_in_years_is_read_too(tmp_path: Path) -> None:
    (one,) = read(write(tmp_path / "MIST_iso.iso.cmd", block(1.2000000000000093e10, CMD), feh=0.25))
    assert (one.gyr, one.feh, len(one.teff)) == (pytest.approx(12.0), 0.25, 3)
    (older,) = read(write(tmp_path / "old.iso", block(5e9, ("log_age", "log_Teff", "log_g"))))
    assert (older.gyr, len(older.teff)) == (pytest.approx(5.0), 5)  # it tells no phase


def test_the_nearest_age_is_taken_under_its_own_name_and_each_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.iso", *(block(10**age) for age in (9.0, 9.5, 9.7, 10.0)))
    assert [one.name for one in chosen([path], [1.0, 3.0, 5.0, 10.0, 10.1])] == [
        f"{age} Gyr, [Fe/H] -1.35" for age in ("1", "3.16", "5.01", "10")
    ]
    with pytest.raises(
        ValueError, match=r"a.iso: none of 2 Gyr; its ages are 1, 3.16, 5.01, 10: give ages= of these"
    ):
        chosen([path], [2.0])


BAD = {
    "no text": (b"\xff\xfe\x00\x01", r"no text \(byte 0"),
    "nothing": (b"", r"no block of an age in it \(0 lines\)"),
    "another table": (b"# a table\n1 2 3\n", r"no block of an age in it \(2 lines\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_holds_none_is_told(name: str, tmp_path: Path) -> None:
    data, message = BAD[name]
    (tmp_path / "bad.iso").write_bytes(data)
    with pytest.raises(
        ValueError, match=rf"isochrones: .*bad.iso: {message}.*give a file of MIST isochrones"
    ):
        read(str(tmp_path / "bad.iso"))


def test_a_file_that_was_cut_off_is_told(tmp_path: Path) -> None:
    whole = block(1e9)
    with pytest.raises(ValueError, match="announces 3 isochrones and holds 1: cut off"):
        read(write(tmp_path / "a.iso", whole, count=3))
    with pytest.raises(ValueError, match="a block of 4 rows that announces 5: cut off"):
        read(write(tmp_path / "b.iso", whole.rpartition("\n")[0]))
    with pytest.raises(ValueError, match=r"line 9: rows that are no table of 11 numbers"):
        read(write(tmp_path / "c.iso", whole[:-40]))


def test_blocks_of_other_columns_or_of_no_one_age_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"a block whose names have no age \(log10_isochrone_age_yr, log_age, isochrone_age_yr\)",
    ):
        read(write(tmp_path / "a.iso", block(1e9, ("log_Teff", "log_g"))))
    with pytest.raises(ValueError, match=r"a block without log_g; it has EEP, log_age, log_Teff"):
        read(write(tmp_path / "b.iso", block(1e9, ("log_age", "log_Teff"))))
    mixed = block(1e9, rows=2) + "\n" + block(2e9, rows=1).rpartition("\n")[2]
    with pytest.raises(ValueError, match=r"a block that is of no one age \(from 9 to 9.30103"):
        read(write(tmp_path / "c.iso", mixed.replace("=     2", "=     3")))
    with pytest.raises(ValueError, match="of no one age"):
        read(write(tmp_path / "d.iso", block(1e9, log_Teff=float("nan"))))
    with pytest.raises(FileNotFoundError, match=r"nowhere.iso: no such file"):
        read(str(tmp_path / "nowhere.iso"))


def test_they_are_drawn_into_every_kiel_diagram_within_the_stars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = chosen(
        [write(tmp_path / "a.iso", block(1e9)), write(tmp_path / "b.iso", block(1e9), feh=0.0)], [1.0]
    )
    figures: list[Figure] = []
    own = Figure

    def kept(*given: Any, **more: Any) -> Figure:
        figures.append(own(*given, **more))
        return figures[-1]

    monkeypatch.setattr("tests.reports.sketches.Figure", kept)
    sketch(monkeypatch)
    stars = test_evaluation_plots.judged(40)
    for draw in (
        kiel_plots.kiel,
        kiel_plots.carbon,
        lambda some, lines: kiel_plots.abundance(some, "FeH", lines),
    ):
        assert draw(stars, ()) is not None
        assert draw(stars, curves) is not None
        bare, with_them = figures[-2:]
        panels = [axis for axis in with_them.axes if axis.get_lines()]
        assert [len(axis.get_lines()) for axis in panels] == [2] * len(panels)
        assert with_them.axes[0].get_xlim() == bare.axes[0].get_xlim()
        assert with_them.axes[0].get_xlim()[0] > with_them.axes[0].get_xlim()[1]
        assert [text.get_text() for text in with_them.legends[0].get_texts()] == [
            "1 Gyr, [Fe/H] -1.35",
            "1 Gyr, [Fe/H] +0.00",
        ]


def test_files_are_read_before_any_work_and_ages_are_checked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.iso: no such file"):
        evaluate.drawing(
            Evaluate.checked("evaluate", {"of": "run", "isochrones": [str(tmp_path / "nowhere.iso")]})
        )
    assert evaluate.drawing(Evaluate.checked("evaluate", {"of": "run"})) == ()
    with pytest.raises(SettingsError, match=r"ages: .*ages are numbers of Gyr above 0"):
        Evaluate.checked("evaluate", {"of": "run", "ages": [0]})
