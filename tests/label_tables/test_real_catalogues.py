"""Real tables of labels: JINAbase, Placco et al. 2014, LAMOST DR1, DR2 x APOGEE DR12, DR10, Gaia, PyLASP.

The truth is a reading of the same files with the csv module, all pairs of positions compared, and numbers
that were looked up in the files.
"""

import csv
import gzip
import io
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.label_tables.label_tables import LabelsResult, make_labels
from survey.label_tables.settings import LabelTables, SurveyColumns
from survey.label_tables.survey_stars import open_survey

JINA, PLACCO = "jinabase_2021.csv", "placco2014_cemp.csv"
APOGEE, DR1 = "lamost_dr2_apogee_dr12.csv", "lamost_dr1_plan_catalog.csv"
DR10, GAIA = "lamost_dr10_afg_sample.csv", "gaia_lamost_halo_features.csv"
MDWARFS, ADAM, CURVEFIT = "mdwarf_teff_logg_feh.csv", "pylasp_adam.csv", "pylasp_curvefit.csv"
REPEATS = "dr8_repeat_groups.csv"

APOGEE_COLUMNS = {
    "ids": {"apogee_id": "apogee_id", "file": "lamost_file"},
    "position": {"name": "apogee_id"},
    "labels": {"Teff": {"column": "teff"}, "logg": {"column": "logg"}, "FeH": {"column": "meta2"}},
    "snr": "snr",
}
SOURCES: dict[str, dict[str, Any]] = {
    JINA: {"format": "jinabase", "cuts": {"Priority": {"max": 9}}},
    PLACCO: {"format": "placco2014"},
    APOGEE: APOGEE_COLUMNS,
    DR1: {"format": "lamost_stellar", "cuts": {"snrg": {"min": -10_000, "empty": True}}},
    DR10: {"format": "lamost_stellar", "cuts": {"snrg": {"min": 0}}},
    GAIA: {},
    MDWARFS: {
        "ids": {"file": "file_name", "designation": "lamost"},
        "position": {"ra": "RA", "dec": "DEC"},
        "labels": {"Teff": {"column": "teffin"}, "logg": {"column": "loggin"}, "FeH": {"column": "fehin"}},
    },
    ADAM: {"format": "pylasp"},
    CURVEFIT: {"format": "pylasp"},
}
ROWS = {JINA: 2032, PLACCO: 425, APOGEE: 7445, DR1: 2125, DR10: 1974, GAIA: 1244, MDWARFS: 34, ADAM: 16}
COLUMNS = {
    JINA: ("Teff", "logg", None),
    PLACCO: ("Teff", "logg", "[Fe/H]"),
    APOGEE: ("teff", "logg", "meta2"),
    DR1: ("teff", "logg", "feh"),
    DR10: ("teff", "logg", "feh"),
    GAIA: ("teff", "logg", "feh"),
    MDWARFS: ("teffin", "loggin", "fehin"),
    ADAM: ("pred_Teff", "pred_logg", "pred_FeH"),
    CURVEFIT: ("pred_Teff", "pred_logg", "pred_FeH"),
}


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "labels"


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    path = folder / name
    data = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
    return list(csv.DictReader(io.StringIO(data.decode())))


def make(tmp_path: Path, folder: Path, names: dict[str, str], **settings: Any) -> LabelsResult:
    """The label table of these files, by name of the source."""
    sources = {name: SOURCES[file] | {"file": file} for name, file in names.items()}
    values = {"labels": str(tmp_path / "out"), "folder": str(folder), "sources": sources}
    return make_labels(LabelTables.from_dict("labels", values | settings))


def table_of(result: LabelsResult, name: str = "labels.parquet") -> list[dict[str, Any]]:
    table = result.table(name)
    assert table is not None
    return list(table.to_pylist())


@pytest.mark.parametrize("name", SOURCES)
def test_every_table_is_read_and_its_labels_counted(name: str, folder: Path, tmp_path: Path) -> None:
    result = make(tmp_path, folder, {"one": name})
    rows = rows_of(folder, name)
    record = result.document.sources[0]
    assert record.rows == len(rows) == ROWS.get(name, len(rows))
    assert record.rows == record.used + sum(record.refused.values())
    matches = table_of(result, "matches.parquet")
    stars = {row["row"]: row["star"] for row in matches if row["star"]}
    teff, logg, feh = COLUMNS[name]
    expected: dict[str, set[str]] = {"Teff": set(), "logg": set(), "FeH": set()}
    for number, row in enumerate(rows):
        for label, column in zip(expected, (teff, logg, feh), strict=True):
            if column and number in stars and float(row[column] or -9999) > -9000:
                expected[label].add(stars[number])
    found = {row["star"]: row for row in table_of(result)}
    for label, known in expected.items():
        if label != "FeH" or feh:
            assert {star for star, row in found.items() if row[label] is not None} == known, label


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            PLACCO,
            {
                0: {"Teff": 5926, "logg": 4.63, "FeH": -2.08, "CFe": -0.04, "CFe_correction": 0.0},
                1: {"Teff": 4400, "logg": 0.9, "FeH": -2.09, "CFe": -0.19, "CFe_natal": 0.45},
                199: {"Teff": 4729, "logg": 1.54, "FeH": -2.68, "CFe": -0.39, "CFe_correction": 0.42},
            },
        ),
        (
            JINA,
            {  # log eps 4.70 of Fe; 5.30 of C, 4.41 of Fe, 0.08 of Ba, -1.13 of Eu; 6.21 and 1.49
                1: {"Teff": 4570, "logg": 1.4, "FeH": -2.80, "CFe": None},
                658: {"Teff": 4650, "FeH": -3.09, "CFe": -0.04, "BaFe": 0.99, "EuFe": 1.44},
                1292: {"Teff": 6200, "logg": 4.04, "FeH": -6.01, "CFe": 3.79, "BaFe": None, "EuFe": None},
            },
        ),
        (DR1, {1: {"Teff": 5989.04, "logg": 4.0, "FeH": -1.192, "e_FeH": 1.221, "e_Teff": 434.91}}),
        (DR10, {0: {"Teff": 9440.990234375, "logg": 4.017000198364258, "FeH": -0.4050000011920929}}),
        (APOGEE, {0: {"Teff": 4734.85, "logg": 2.43463, "FeH": -0.231567}}),
        (GAIA, {0: {"Teff": 5940.15, "logg": 4.278, "FeH": -0.439}}),
        (MDWARFS, {0: {"Teff": 3861, "logg": 5.0, "FeH": 0.27}}),
        (ADAM, {1: {"Teff": 5904.1484, "logg": 4.164043, "FeH": -0.2943313, "e_FeH": 0.05184709}}),
    ],
)
def test_stars_have_the_values_that_stand_in_the_tables(
    name: str, expected: dict[int, dict[str, float | None]], folder: Path, tmp_path: Path
) -> None:
    sources = {"one": SOURCES[name] | {"file": name, "duplicates": "best"}}
    if name == JINA:
        sources["one"]["cuts"] = {"Priority": {"max": 1}}
    values = {"labels": str(tmp_path / "out"), "folder": str(folder), "sources": sources}
    result = make_labels(LabelTables.from_dict("labels", values))
    star_of = {match["row"]: match["star"] for match in table_of(result, "matches.parquet")}
    found = {line["star"]: line for line in table_of(result)}
    for row, labels in expected.items():
        for label, value in labels.items():
            wanted = None if value is None else pytest.approx(value, abs=1e-6)
            assert found[star_of[row]][label] == wanted, (row, label)


def sky(folder: Path, name: str) -> np.ndarray:
    """Unit vectors of the positions of a table, NaN where there is none; read by hand."""

    def degrees(text: str, hours: bool) -> float:
        parts = re.split(r"[ :]+", text.strip())
        if len(parts) < 3:
            return float(text) if text.strip() else np.nan
        size = abs(float(parts[0])) + float(parts[1]) / 60 + float(parts[2]) / 3600
        return (15 if hours else 1) * (-size if text.strip().startswith("-") else size)

    def of_name(text: str) -> tuple[float, float]:
        found = re.search(r"(\d\d)(\d\d)(\d\d)(\d\d)([+-])(\d\d)(\d\d)(\d\d)(\d)", text)
        if not found:
            return np.nan, np.nan
        h, m, s, s100 = (int(found[number]) for number in range(1, 5))
        d, am, sec, tenth = (int(found[number]) for number in range(6, 10))
        dec = d + am / 60 + (sec + tenth / 10) / 3600
        return 15 * (h + m / 60 + (s + s100 / 100) / 3600), -dec if found[5] == "-" else dec

    rows = rows_of(folder, name)
    columns = {JINA: ("RA", "DEC"), PLACCO: ("RA_hms", "DEC_dms")}
    if name == APOGEE:
        places = [of_name(row["apogee_id"]) for row in rows]
    else:
        places = [
            (degrees(row[columns[name][0]], True), degrees(row[columns[name][1]], False)) for row in rows
        ]
    ra, dec = np.radians(np.array(places)).T
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], 1)


def nearest_arcsec(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The distance of each position here to the nearest there, by comparing all pairs."""
    there = there[np.isfinite(there).all(1)]
    chord = np.array([np.sqrt(((there - place) ** 2).sum(1)).min() for place in here])
    return np.asarray(np.degrees(2 * np.arcsin(chord / 2)) * 3600)


@pytest.mark.parametrize("radius", [1.0, 3.0, 10.0])
def test_matches_of_placco_and_jinabase_are_those_of_all_pairs(
    radius: float, folder: Path, tmp_path: Path
) -> None:
    result = make(
        tmp_path,
        folder,
        {"placco": PLACCO},
        to=str(folder / JINA),
        match={"radius": radius, "ambiguous": "nearest"},
    )
    apart = nearest_arcsec(sky(folder, PLACCO), sky(folder, JINA))
    matches = table_of(result, "matches.parquet")
    reached = {row["row"] for row in matches if row["star"] or "nearer" in row["reason"]}
    assert reached == set(np.flatnonzero(apart <= radius).tolist())
    if radius == 3.0:
        assert len(reached) == 389
    arcsec = {row["row"]: row["arcsec"] for row in matches if row["star"]}
    for row, distance in arcsec.items():
        assert distance == pytest.approx(apart[row], abs=1e-3)


def test_two_stars_with_three_rows_are_in_jinabase_and_in_apogee(folder: Path, tmp_path: Path) -> None:
    apart = nearest_arcsec(sky(folder, JINA), sky(folder, APOGEE))
    here = set(np.flatnonzero(apart <= 3).tolist())
    result = make(tmp_path, folder, {"jina": JINA, "apogee": APOGEE})
    stars: dict[str, set[str]] = {}
    for row in table_of(result, "matches.parquet"):
        if row["star"] and (row["source"] == "apogee" or row["row"] in here):
            stars.setdefault(row["star"], set()).add(row["source"])
    both = [star for star, sources in stars.items() if len(sources) == 2]
    assert len(here) == 3
    assert len(both) == len({round(value, 6) for value in apart[sorted(here)]}) == 2


def test_pylasp_rows_are_matched_by_obsid(folder: Path, tmp_path: Path) -> None:
    ours = {row["ID"] for row in rows_of(folder, ADAM)}
    theirs = {row["ID"] for row in rows_of(folder, CURVEFIT)}
    result = make(
        tmp_path,
        folder,
        {"adam": ADAM},
        to=str(folder / CURVEFIT),
        survey={"ids": {"obsid": "ID"}},
    )
    record = result.document.sources[0]
    assert record.by == {"obsid": len(ours & theirs)}
    assert record.refused == {"no such star in the survey": len(ours - theirs)} or ours <= theirs
    assert {f"{row['obsid']}.fits" for row in table_of(result)} == ours & theirs


def test_gaia_positions_find_their_lamost_stars(folder: Path, tmp_path: Path) -> None:
    """LAMOST's positions are those of Gaia in 2016 for these stars: a few mas apart, and no id is given."""
    source = {
        "file": GAIA,
        "position": {"ra": "ra_gaia", "dec": "dec_gaia", "epoch": 2016.0, "pmra": "pmra", "pmdec": "pmdec"},
        "labels": {"FeH": {"column": "feh"}},
    }
    columns = {"ra": "ra_lamost", "dec": "dec_lamost", "epoch": 2016.0}
    values = {
        "labels": str(tmp_path / "out"),
        "folder": str(folder),
        "sources": {"gaia": source},
        "to": str(folder / GAIA),
        "survey": columns,
    }
    matches = table_of(make_labels(LabelTables.from_dict("labels", values)), "matches.parquet")
    rows = rows_of(folder, GAIA)
    assert [row["star"] for row in matches] == [row["source_id"] for row in rows]
    for match, row in zip(matches, rows, strict=True):
        assert match["arcsec"] == pytest.approx(float(row["coord_match_sep_arcsec"]), abs=2e-3)


def test_visits_of_dr8_are_grouped_as_their_list_says(folder: Path) -> None:
    survey = open_survey(str(folder / REPEATS), SurveyColumns())
    groups = [row["GroupID"] for row in rows_of(folder, REPEATS)]
    pairs = set(zip(groups, survey.star_N.tolist(), strict=True))
    assert len(survey) == 156
    assert survey.stars == len(set(groups)) == len(pairs) == 94


def test_contradictions_are_the_differences_that_a_loop_finds(folder: Path, tmp_path: Path) -> None:
    """Between Placco et al. and JINAbase, by their declared errors and the tolerances."""
    tolerance = {"Teff": 300.0, "logg": 0.6, "FeH": 0.4}
    error = {"Teff": (100, 100), "logg": (0.25, 0.25), "FeH": (0.15, 0.15)}
    sources = {
        "placco": SOURCES[PLACCO] | {"file": PLACCO, "priority": 1, "duplicates": "best"},
        "jina": {"format": "jinabase", "file": JINA, "duplicates": "best"},
    }
    values = {"labels": str(tmp_path / "out"), "folder": str(folder), "sources": sources}
    result = make_labels(LabelTables.from_dict("labels", values | {"scale": {"least": 10_000}}))
    star_of = {
        (row["source"], row["row"]): row["star"] for row in table_of(result, "matches.parquet") if row["star"]
    }
    columns = {
        "placco": (PLACCO, {"Teff": "Teff", "logg": "logg", "FeH": "[Fe/H]"}, 0.0),
        "jina": (JINA, {"Teff": "Teff", "logg": "logg", "FeH": "Fe"}, 7.5),
    }
    # the first row of each star that has a number; these tables have no S/N and equal errors
    value: dict[tuple[str, str, str], float] = {}
    for source, (file, names, sun) in columns.items():
        for number, row in enumerate(rows_of(folder, file)):
            for label, column in names.items():
                star, text = star_of.get((source, number)), row[column].strip()
                if star and text and not text.startswith("<") and text != "*":
                    number_of = float(text) - (sun if label == "FeH" else 0)
                    if label != "FeH" or -7 <= number_of <= 1:
                        value.setdefault((source, star, label), number_of)
    expected = set()
    for label, limit in tolerance.items():
        for _, star, _ in [key for key in value if key[0] == "placco" and key[2] == label]:
            if ("jina", star, label) in value:
                apart = abs(value["placco", star, label] - value["jina", star, label])
                if apart > max(limit, 4 * np.hypot(*error[label])):
                    expected.add((star, label))
    found = {
        (row["star"], row["label"])
        for row in table_of(result, "contradictions.parquet")
        if row["label"] in tolerance and row["source_1"] != row["source_2"]
    }
    assert found == expected
    assert len(expected) >= 5


def test_two_fits_of_pylasp_to_the_same_spectra_agree_or_are_named(folder: Path, tmp_path: Path) -> None:
    values = {
        (file, row["ID"].removesuffix(".fits")): row
        for file in (ADAM, CURVEFIT)
        for row in rows_of(folder, file)
    }
    result = make(tmp_path, folder, {"adam": ADAM, "curvefit": CURVEFIT}, combine={"tolerance": {"Teff": 5}})
    expected = set()
    ids = Counter(name for _, name in values)
    for name in (name for name, count in ids.items() if count == 2):
        one, two = values[ADAM, name], values[CURVEFIT, name]
        for label, limit in (("Teff", 5.0), ("logg", 0.6), ("FeH", 0.4)):
            apart = abs(float(one[f"pred_{label}"]) - float(two[f"pred_{label}"]))
            joint = np.hypot(float(one[f"pred_{label}_err"]), float(two[f"pred_{label}_err"]))
            if apart > max(limit, 4 * joint):
                expected.add((name, label))
    found = {(row["star"], row["label"]) for row in table_of(result, "contradictions.parquet")}
    assert {label for _, label in found} == {label for _, label in expected}
    assert len(found) == len(expected)


def test_cemp_stars_of_placco_are_those_with_enough_carbon(folder: Path, tmp_path: Path) -> None:
    """129 of its rows have a final [C/Fe] of 0.7 or more (README of the data)."""
    rows = rows_of(folder, PLACCO)
    assert sum(float(row["[C/Fe]f"]) >= 0.7 for row in rows) == 129
    result = make(tmp_path, folder, {"one": PLACCO}, natal=True)
    found = table_of(result)
    by_row = {row["row"]: row["star"] for row in table_of(result, "matches.parquet")}
    single = {star for star, count in Counter(by_row.values()).items() if count == 1}
    classes = {row["star"]: row["class"] for row in found}
    for number, row in enumerate(rows):
        if by_row[number] in single:
            is_rich = round(float(row["[C/Fe]"]) + float(row["[C/Fe]c"]), 6) >= 0.7
            assert (classes[by_row[number]] == "CEMP") == is_rich


def test_overlaps_between_all_tables_are_few_and_known(folder: Path, tmp_path: Path) -> None:
    """No star of one LAMOST table is in another one; so nothing but the above can match."""
    result = make(tmp_path, folder, {"dr1": DR1, "dr10": DR10, "gaia": GAIA, "mdwarfs": MDWARFS})
    stars: dict[str, set[str]] = {}
    for row in table_of(result, "matches.parquet"):
        if row["star"]:
            stars.setdefault(row["source"], set()).add(row["star"])
    for one, two in combinations(stars, 2):
        assert not stars[one] & stars[two]
