"""One catalogue becomes plain arrays: what is no measurement is counted, what cannot be right is an error."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from survey.label_tables.catalogue_settings import LabelSource, format_names
from survey.settings import SettingsError
from tests.label_tables.catalogues_by_hand import read, source, write_csv


def reasons(rows: Any) -> dict[str, int]:
    return dict(Counter(rows.reason_R.tolist()))


@pytest.mark.parametrize("name", format_names())
def test_every_known_catalogue_is_described_and_says_where_it_is_from(name: str) -> None:
    described = LabelSource.from_dict("labels", {"format": name, "file": "x"})
    assert described.about
    assert described.where
    assert "FeH" in described.labels
    assert described.ids or described.position.ra


def test_settings_of_a_source_change_the_known_description() -> None:
    changed = LabelSource.from_dict(
        "labels", {"format": "apogee_dr17", "file": "x", "cuts": {"SNR": {"min": 100}}}
    )
    assert changed.cuts["SNR"].min == 100
    assert changed.cuts["ASPCAPFLAG"].bits_off == (23,)


def test_an_unknown_format_is_an_error_with_the_most_similar_name() -> None:
    with pytest.raises(
        SettingsError, match=r"there is no catalogue 'apogee_dr18'; did you mean apogee_dr17?"
    ):
        LabelSource.from_dict("labels", {"format": "apogee_dr18", "file": "x"})


def test_numbers_that_stand_for_nothing_are_counted_and_left_out(tmp_path: Path) -> None:
    values = [-1.5, -9999, 999, 9999, 99.99, -0.5, "", "nan", "*", "none", "<-2.5", -4.2]
    path = write_csv(tmp_path / "a.csv", "ra dec feh", [(10 + n, 20, v) for n, v in enumerate(values)])
    rows = read(path, labels={"FeH": {"column": "feh"}})
    known = np.isfinite(rows.labels.label["FeH"])
    assert rows.labels.label["FeH"][known].tolist() == [-1.5, -0.5, -4.2]
    assert rows.labels.left_out["FeH"] == {
        "no measurement (-9999 and the like)": 4,
        "limits": 1,
        "no number": 1,
    }
    assert reasons(rows) == {"": 3, "no label": 9}


def test_a_temperature_of_9999_is_no_temperature(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec teff", [(1, 2, 9999), (2, 2, 9998), (3, 2, 5000)])
    rows = read(path, labels={"Teff": {"column": "teff"}})
    assert np.isnan(rows.labels.label["Teff"]).tolist() == [True, False, False]


def test_log_eps_taken_for_iron_over_hydrogen_is_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec feh", [(n, 2, 6.0 + 0.1 * n) for n in range(10)])
    with pytest.raises(
        ValueError, match=r"a.csv: feh: the median is 6.45: this seems to be log eps, not \[Fe/H\]"
    ):
        read(path)


def test_iron_over_hydrogen_taken_for_log_eps_is_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec feh", [(n, 2, -2.0) for n in range(10)])
    with pytest.raises(ValueError, match=r"this seems to be \[X/H\], not log eps; give labels.FeH.scale=x_h"):
        read(path, labels={"FeH": {"column": "feh", "scale": "log_eps"}})


@pytest.mark.parametrize(
    ("values", "message"),
    [([3.7, 3.75, 3.68], "this seems to be log Teff"), ([5.1, 5.5, 4.8], "or Teff in 1,000 K")],
)
def test_a_temperature_in_another_unit_is_an_error(values: list[float], message: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec t", [(n, 2, value) for n, value in enumerate(values)])
    with pytest.raises(ValueError, match=message):
        read(path, labels={"Teff": {"column": "t"}})


def test_a_logarithm_and_a_factor_give_kelvin_and_their_errors(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec logt e kilo ekilo", [(1, 2, 3.7, 0.01, 5.2, 0.1)])
    column = {"column": "logt", "error": "e", "unit": "log10"}
    rows = read(path, labels={"Teff": column})
    assert rows.labels.label["Teff"][0] == pytest.approx(5011.872)
    assert rows.labels.error["Teff"][0] == pytest.approx(115.4, abs=0.1)  # 0.01 * ln(10) * 5011.872
    rows = read(path, labels={"Teff": {"column": "kilo", "error": "ekilo", "factor": 1000}})
    assert (rows.labels.label["Teff"][0], rows.labels.error["Teff"][0]) == (5200, pytest.approx(100))


def test_most_values_outside_the_range_of_a_label_are_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec g", [(n, 2, 250.0) for n in range(6)])
    with pytest.raises(ValueError, match=r"6 of 6 values .* are outside -1 to 9"):
        read(path, labels={"logg": {"column": "g"}})


def test_a_missing_column_is_an_error_with_similar_names_and_the_origin(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec Fe_H_x", [(1, 2, -1)])
    with pytest.raises(ValueError, match=r"there is no column feh \(for labels.FeH.column\); .*Fe_H_x"):
        read(path)
    with pytest.raises(ValueError, match="is expected from VizieR"):
        read(path, format="placco2014", labels={}, position={})


def test_a_column_of_positions_that_is_missing_is_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "alpha delta feh", [(1, 2, -1)])
    with pytest.raises(ValueError, match=r"there is no column ra \(for position\)"):
        read(path)


def test_an_empty_table_is_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec feh", [])
    with pytest.raises(ValueError, match=r"a.csv: has no rows, only the columns ra, dec, feh"):
        read(path)


def test_cuts_by_limits_words_and_bits_are_counted_each_row_once(tmp_path: Path) -> None:
    rows_in = [
        (1, 2, -1, 80, 0, "ok", 0),
        (2, 2, -1, 20, 0, "ok", 0),  # low S/N
        (3, 2, -1, 80, 1 << 23, "ok", 0),  # STAR_BAD
        (4, 2, -1, 80, 4, "PERSIST_HIGH,BRIGHT", 0),
        (5, 2, -1, 20, 1 << 23, "ok", 7),  # counted by its first cut
        (6, 2, -1, -9999, 0, "ok", 0),  # no S/N
        (7, 2, -1, 80, 0, "ok", 3),
    ]
    path = write_csv(tmp_path / "a.csv", "ra dec feh snr bits words flag", [
        [*row[:5], f'"{row[5]}"', row[6]] for row in rows_in
    ])  # fmt: skip
    cuts = {
        "snr": {"min": 50},
        "bits": {"bits_off": [23]},
        "words": {"without": ["BRIGHT"]},
        "flag": {"equals": [0]},
        "not_there": {"min": 0, "optional": True},
    }
    assert reasons(read(path, cuts=cuts)) == {
        "": 1,
        "cut on snr": 3,
        "cut on bits": 1,
        "cut on words": 1,
        "cut on flag": 1,
    }
    with pytest.raises(ValueError, match=r"words: holds no whole numbers, but its bits are asked for"):
        read(path, cuts={"words": {"bits_off": [1]}})


def test_a_cut_on_one_label_leaves_the_others(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "a.csv", "ra dec feh cfe flag", [(1, 2, -1, 0.3, 0), (2, 2, -2, 1.3, 1)]
    )  # fmt: skip
    columns = {"FeH": {"column": "feh"}, "CFe": {"column": "cfe", "good": {"flag": {"equals": 0}}}}
    rows = read(path, labels=columns)
    assert rows.labels.label["FeH"].tolist() == [-1, -2]
    assert np.isnan(rows.labels.label["CFe"]).tolist() == [False, True]
    assert rows.labels.left_out["CFe"] == {"cut on flag": 1}


def test_log_eps_becomes_abundances_of_the_stated_solar_scale(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec Fe C Ba", [(1, 2, 4.41, 5.30, 0.08)])
    columns = {
        "FeH": {"column": "Fe", "scale": "log_eps"},
        "CFe": {"column": "C", "scale": "log_eps"},
        "BaFe": {"column": "Ba", "scale": "log_eps"},
    }
    rows = read(path, labels=columns)
    assert rows.labels.label["FeH"][0] == pytest.approx(4.41 - 7.50)
    assert rows.labels.label["CFe"][0] == pytest.approx(5.30 - 8.43 - (4.41 - 7.50))
    assert rows.labels.label["BaFe"][0] == pytest.approx(0.08 - 2.18 - (4.41 - 7.50))
    other = read(path, labels=columns, solar="lodders2003")
    # its own Sun turns log eps into [X/H]; then the difference of the Suns is put on top: the same log eps
    assert other.labels.label["CFe"][0] == pytest.approx(rows.labels.label["CFe"][0])


def test_abundances_of_another_solar_scale_are_put_on_ours(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec feh cfe", [(1, 2, -2.0, 1.0)])
    columns = {"FeH": {"column": "feh"}, "CFe": {"column": "cfe"}}
    rows = read(path, labels=columns, solar="grevesse2007")  # Fe 7.45, C 8.39; Asplund 2009: 7.50, 8.43
    assert rows.labels.label["FeH"][0] == pytest.approx(-2.05)
    assert rows.labels.label["CFe"][0] == pytest.approx(1.01)
    assert read(path, labels=columns).labels.label["FeH"][0] == -2.0


def test_carbon_over_hydrogen_gives_carbon_over_iron(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec feh ch", [(1, 2, -2.5, -1.5), (2, 2, "", -1.0)])
    rows = read(path, labels={"FeH": {"column": "feh"}, "CH": {"column": "ch"}})
    assert rows.labels.label["CFe"][0] == pytest.approx(1.0)
    assert np.isnan(rows.labels.label["CFe"][1])
    assert rows.labels.label["CH"][1] == -1.0


def test_an_element_without_a_solar_value_is_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec Fe alpha", [(1, 2, 5.0, 6.0)])
    columns = {"FeH": {"column": "Fe", "scale": "log_eps"}, "aFe": {"column": "alpha", "scale": "log_eps"}}
    with pytest.raises(ValueError, match="aFe: the solar scale has no element for it"):
        read(path, labels=columns)


def test_a_limit_is_no_value(tmp_path: Path) -> None:
    cells = [(1, 2, -2.5, ""), (2, 2, -3, "<"), (3, 2, "<-4", ""), (4, 2, -1, 0)]
    path = write_csv(tmp_path / "a.csv", "ra dec feh ul", cells)
    rows = read(path, labels={"FeH": {"column": "feh", "limit": "ul"}})
    assert np.isfinite(rows.labels.label["FeH"]).tolist() == [True, False, False, True]
    assert rows.labels.left_out["FeH"] == {"limits": 2}


@pytest.mark.parametrize("kind", ["parquet", "fits", "csv"])
def test_a_mark_of_a_limit_may_be_a_fraction_and_zero_is_no_mark(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    cells = {"ra": [1.0, 2.0, 3.0], "dec": [2.0] * 3, "feh": [-2.5, -3.0, -1.0], "ul": [0.5, 0.0, 1.0]}
    Table(cells).write(path, format="ascii.csv" if kind == "csv" else kind)
    rows = read(str(path), labels={"FeH": {"column": "feh", "limit": "ul"}})
    assert np.isfinite(rows.labels.label["FeH"]).tolist() == [False, True, False]


def test_every_format_of_file_gives_the_same_values(tmp_path: Path) -> None:
    table = Table(
        {
            "source_id": np.array([4295806720, 34361129088]),
            "ra": [10.5, 20.25],
            "dec": [-5.0, 5.0],
            "feh": [-1.25, -2.5],
            "e_feh": [0.1, 0.2],
            "elements": np.zeros((2, 5)),
        }
    )
    paths = {name: tmp_path / f"a.{name}" for name in ("csv", "fits", "vot", "parquet", "psv")}
    plain = table.copy()
    plain.remove_column("elements")
    plain.write(paths["csv"])
    plain.write(paths["psv"], format="ascii.basic", delimiter="|")
    table.write(paths["fits"])
    plain.write(paths["vot"], format="votable")
    plain.to_pandas().to_parquet(paths["parquet"])
    for path in paths.values():
        rows = read(str(path), ids={"gaia_dr3": "source_id"})
        assert rows.labels.label["FeH"].tolist() == [-1.25, -2.5]
        assert rows.labels.error["FeH"].tolist() == [0.1, 0.2]
        assert rows.ids["gaia_dr3"].to_pylist() == ["4295806720", "34361129088"]
        assert rows.positions.ra_R.tolist() == [10.5, 20.25]


def test_usual_names_of_columns_need_no_description(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "a.csv", "obsid ra dec teff teff_err [Fe/H] rv", [(101, 1, 2, 5000, 50, -1, 7)]
    )
    rows = read(path, labels={}, position={}, ids={})
    assert set(rows.labels.label) == {"Teff", "FeH"}
    assert rows.labels.error["Teff"].tolist() == [50]
    assert rows.ids["obsid"].to_pylist() == ["101"]


def test_a_label_under_another_than_its_usual_name_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"labels: FE_H: its usual name is FeH; give that"):
        source(labels={"FE_H": {"column": "x"}})
    with pytest.raises(SettingsError, match=r"there is no kind 'gaia'; did you mean gaia_dr3?"):
        source(ids={"gaia": "x"})
