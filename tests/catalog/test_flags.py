"""Each flag at its limit: just inside it is not set, just outside it is."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from survey.catalog.flag_settings import CatalogFlag, FlagLimits, SecondKey, flag_bits
from survey.catalog.flags import DEFINITIONS, FlagRules, flag_table
from survey.settings import SettingsError
from survey.store.schema import Flag

RANGES = {"Teff": (4000.0, 7000.0), "FeH": (-4.0, 0.5)}
TYPES = {"flags": pa.int32(), "visits_disagree": pa.bool_()}


def table(**columns: Any) -> pa.Table:
    return pa.table({name: pa.array([value], TYPES.get(name)) for name, value in columns.items()})


NONE = CatalogFlag(0)
CARBON = {"c2_4668": 39.0, "c2_5165": 32.0, "g_band": 6.8, "na_d": 3.9}
SUBDWARF = {"tio5": 0.94, "cah2": 0.51, "cah3": 0.65, "na_d": 14.6, "c2_4668": -2.5}
"""What the spectra of a cool carbon star and of a usdM4 of libraries have."""
CASES: list[tuple[dict[str, Any], CatalogFlag, CatalogFlag]] = [
    ({"flags": int(Flag.LOW_SNR | Flag.NO_OBSID)}, NONE, NONE),
    ({"flags": int(Flag.FIBER | Flag.NOISE_ESTIMATED | Flag.LOW_CONTINUUM)}, NONE, NONE),
    ({"flags": int(Flag.OUTLIERS)}, CatalogFlag.SPECTRUM, NONE),
    (
        {"flags": int(Flag.FIBER | Flag.NEGATIVE | Flag.NO_VELOCITY)},
        CatalogFlag.SPECTRUM | CatalogFlag.NO_VELOCITY,
        NONE,
    ),
    ({"flags": None}, NONE, NONE),
    ({"class": "STAR"}, NONE, NONE),
    ({"class": "GALAXY"}, NONE, CatalogFlag.NOT_A_STAR),
    ({"class": "qso"}, NONE, CatalogFlag.NOT_A_STAR),
    ({"class": "Unknown"}, CatalogFlag.UNKNOWN_OBJECT, NONE),
    ({"snr": 10.0}, NONE, NONE),
    ({"snr": 9.9}, CatalogFlag.LOW_SNR, NONE),
    ({"snr": 2.9}, CatalogFlag.LOW_SNR, CatalogFlag.VERY_LOW_SNR),
    ({"snr": float("nan")}, CatalogFlag.LOW_SNR, CatalogFlag.VERY_LOW_SNR),
    ({"snr": 2.9, "snr_total": 12.0}, NONE, NONE),
    ({"domain": 1.0}, NONE, NONE),
    ({"domain": 1.1}, CatalogFlag.OUT_OF_DOMAIN, NONE),
    ({"domain": 2.1}, CatalogFlag.OUT_OF_DOMAIN, CatalogFlag.FAR_OUT_OF_DOMAIN),
    ({"domain": float("nan")}, NONE, NONE),
    ({"class_entropy_model": 0.19}, NONE, NONE),
    ({"class_entropy_model": 0.21}, CatalogFlag.MEMBERS_DISAGREE, NONE),
    ({"visits_disagree": True}, CatalogFlag.VISITS_DISAGREE, NONE),
    ({"classes_disagree": True}, CatalogFlag.CLASSES_DISAGREE, NONE),
    ({"carbon_inconsistent": True}, CatalogFlag.CARBON_INCONSISTENT, NONE),
    ({"no_answer": True}, NONE, CatalogFlag.NO_ANSWER),
    ({"no_answer": False, "visits_disagree": None}, NONE, NONE),
    ({"Teff": 5000.0, "Teff_err": 249.0}, NONE, NONE),
    ({"Teff": 5000.0, "Teff_err": 251.0}, CatalogFlag.LARGE_ERROR, NONE),
    ({"CFe": 0.0, "CFe_err": 0.36}, CatalogFlag.LARGE_ERROR, NONE),
    ({"CFe": 0.0, "CFe_err": 0.3, "CFe_low": -1.1, "CFe_high": 1.1}, NONE, NONE),
    ({"Teff": 7499.0}, CatalogFlag.EXTRAPOLATED, NONE),
    ({"Teff": 9000.0}, CatalogFlag.EXTRAPOLATED, CatalogFlag.HOT_STAR),
    ({"Teff": 7700.0, "Teff_err": 240.0}, CatalogFlag.EXTRAPOLATED, NONE),
    ({"tio5": 0.89, "cah2": 0.84}, NONE, CatalogFlag.MOLECULAR_BANDS),
    ({"tio5": 0.89, "cah2": 0.86}, NONE, NONE),
    ({"tio5": 0.91, "cah2": 0.80}, NONE, NONE),
    ({"tio5": float("nan"), "cah2": 0.5}, NONE, NONE),
    ({"class": "STAR", "subclass": "G2"}, NONE, NONE),
    ({"class": "STAR", "subclass": "DA"}, NONE, CatalogFlag.SURVEY_TYPE),
    (CARBON, NONE, CatalogFlag.CARBON_BANDS),
    (CARBON | {"na_d": 2.9}, NONE, NONE),
    (CARBON | {"c2_4668": 14.9}, NONE, NONE),
    (CARBON | {"c2_5165": 14.9}, NONE, NONE),
    (CARBON | {"g_band": 1.9}, NONE, NONE),
    (SUBDWARF, NONE, CatalogFlag.M_SUBDWARF),
    (SUBDWARF | {"tio5": 0.55}, NONE, CatalogFlag.MOLECULAR_BANDS),
    (SUBDWARF | {"cah3": 1.2}, NONE, NONE),
    (SUBDWARF | {"na_d": 7.9}, NONE, NONE),
    (SUBDWARF | {"c2_4668": 15.1}, NONE, NONE),
    ({"h_delta": 7.6}, NONE, CatalogFlag.HOT_STAR),
    ({"h_delta": 7.4}, NONE, NONE),
    ({"FeH": -1.5, "FeH_err": 0.12, "FeH_lines": -0.91, "FeH_lines_err": 0.16}, NONE, NONE),
    (
        {"FeH": -1.5, "FeH_err": 0.12, "FeH_lines": -0.89, "FeH_lines_err": 0.16},
        CatalogFlag.KEYS_DISAGREE,
        NONE,
    ),
    ({"FeH": -1.5, "FeH_err": 0.01, "FeH_lines": -1.98, "FeH_lines_err": 0.05}, NONE, NONE),
    ({"FeH": -1.5, "FeH_lines": -2.02, "FeH_lines_err": 0.05}, CatalogFlag.KEYS_DISAGREE, NONE),
    ({"FeH": -1.5, "FeH_lines": float("nan"), "FeH_lines_err": float("nan")}, NONE, NONE),
    ({"FeH_lines": 0.0, "FeH_lines_err": 0.1}, NONE, NONE),
    ({"path": "x"}, NONE, NONE),
]


@pytest.mark.parametrize(("columns", "warn", "bad"), CASES)
def test_a_flag_is_set_beyond_its_limit_and_not_before(
    columns: dict[str, Any], warn: CatalogFlag, bad: CatalogFlag
) -> None:
    warn_N, bad_N, _ = FlagRules(ranges=RANGES).flags(table(**columns))
    assert (CatalogFlag(int(warn_N[0])), CatalogFlag(int(bad_N[0]))) == (warn, bad)


INFORMATION: list[tuple[dict[str, Any], CatalogFlag]] = [
    ({"flags": int(Flag.LOW_SNR | Flag.NO_OBSID | Flag.OUTLIERS)}, NONE),
    ({"flags": int(Flag.FIBER)}, CatalogFlag.FIBER),
    ({"flags": int(Flag.NOISE_ESTIMATED)}, CatalogFlag.NOISE_ESTIMATED),
    ({"flags": int(Flag.LOW_CONTINUUM)}, CatalogFlag.LOW_CONTINUUM),
    ({"CFe": 0.0, "CFe_err": 0.3, "CFe_low": -1.0, "CFe_high": 1.0}, NONE),
    ({"CFe": 0.0, "CFe_err": 0.3, "CFe_low": -1.1, "CFe_high": 1.1}, CatalogFlag.WIDE_INTERVAL),
    ({"Teff": 4061.0}, NONE),
    ({"Teff": 4059.0}, CatalogFlag.EDGE),
    ({"Teff": 9000.0}, CatalogFlag.EDGE),
    ({"FeH": 0.42}, CatalogFlag.EDGE),
    ({"logg": 9.0}, NONE),
    ({"p_nmp": 0.49, "FeH_lines": float("nan")}, CatalogFlag.ONE_KEY),
    ({"p_nmp": 0.51, "FeH_lines": float("nan")}, NONE),
]


@pytest.mark.parametrize(("columns", "info"), INFORMATION)
def test_what_decides_nothing_is_an_information(columns: dict[str, Any], info: CatalogFlag) -> None:
    assert CatalogFlag(int(FlagRules(ranges=RANGES).flags(table(**columns))[2][0])) == info


def test_each_flag_has_one_definition_and_a_case_above() -> None:
    assert {definition.bit for definition in DEFINITIONS} == set(CatalogFlag)
    assert len(DEFINITIONS) == len(CatalogFlag)
    tested = NONE
    for _, warn, bad in CASES:
        tested |= warn | bad
    for _, info in INFORMATION:
        tested |= info
    assert tested == CatalogFlag(sum(CatalogFlag))


def test_the_table_of_flags_describes_each_bit() -> None:
    rows = flag_table().to_pylist()
    assert [row["value"] for row in rows] == [1 << row["bit"] for row in rows]
    assert [row["bit"] for row in rows] == list(range(len(rows)))
    assert {row["severity"] for row in rows} == {"info", "warn", "bad"}
    assert all(len(row["description"]) > 10 for row in rows)
    assert rows[13] == {
        "bit": 13,
        "value": 8192,
        "name": "NO_ANSWER",
        "severity": "bad",
        "description": "the networks gave no answer",
    }


def test_flags_are_those_of_each_row_and_fit_their_columns() -> None:
    rows = pa.table({"snr": [50.0, 1.0, 5.0], "domain": [0.5, 3.0, None]})
    warn_N, bad_N, info_N = FlagRules().flags(rows)
    assert warn_N.dtype == bad_N.dtype == info_N.dtype == np.dtype(np.int32)
    assert warn_N.tolist() == [0, CatalogFlag.LOW_SNR | CatalogFlag.OUT_OF_DOMAIN, CatalogFlag.LOW_SNR]
    assert bad_N.tolist() == [0, CatalogFlag.VERY_LOW_SNR | CatalogFlag.FAR_OUT_OF_DOMAIN, 0]


def test_bad_flags_and_chosen_flags_keep_a_star_out_of_the_lists() -> None:
    warn_N = np.array([0, CatalogFlag.LOW_SNR, CatalogFlag.UNKNOWN_OBJECT, 0, 0], np.int32)
    bad_N = np.array([0, 0, 0, CatalogFlag.NO_ANSWER, 0], np.int32)
    info_N = np.array([0, 0, 0, 0, CatalogFlag.FIBER], np.int32)
    flags = pa.table({"star": list("abcde")}), warn_N, bad_N, info_N
    assert (FlagRules().excluding(*flags) != 0).tolist() == [False, False, False, True, False]
    rules = FlagRules(leave_out=int(CatalogFlag.UNKNOWN_OBJECT | CatalogFlag.FIBER))
    assert rules.excluding(*flags).tolist() == [
        0,
        0,
        CatalogFlag.UNKNOWN_OBJECT,
        CatalogFlag.NO_ANSWER,
        CatalogFlag.FIBER,
    ]


LINES = {"FeH": [-2.0, -2.0, -2.0, 0.5], "FeH_lines": [-0.3, -0.5, 0.0, -0.3], "FeH_lines_err": [0.2] * 4}


@pytest.mark.parametrize(("second_key", "left_out"), [("require", [0, 2]), ("flag", [])])
def test_a_star_that_is_not_metal_poor_by_its_lines_is_left_out_if_the_keys_disagree(
    second_key: SecondKey, left_out: list[int]
) -> None:
    stars = pa.table(LINES | {"FeH_err": [0.1, 0.1, 0.1, 1.0]})
    rules = FlagRules(second_key=second_key)
    flags = rules.flags(stars)
    disagree_N = (flags[0] & CatalogFlag.KEYS_DISAGREE) != 0
    assert np.flatnonzero(disagree_N).tolist() == [0, 1, 2]
    bits_N = rules.excluding(stars, *flags)
    assert np.flatnonzero(bits_N).tolist() == left_out
    assert set(bits_N[left_out].tolist()) <= {CatalogFlag.KEYS_DISAGREE}


def test_a_metal_poor_star_without_an_estimate_from_lines_has_one_key() -> None:
    stars = pa.table({"p_nmp": [0.1, 0.1, 0.9, None], "FeH_lines": [None, -1.5, None, None]})
    rules = FlagRules(leave_out=flag_bits(["one_key"]))
    flags = rules.flags(stars)
    assert np.flatnonzero(flags[2] & CatalogFlag.ONE_KEY).tolist() == [0]
    assert np.flatnonzero(rules.excluding(stars, *flags) & CatalogFlag.ONE_KEY).tolist() == [0]


def test_the_limits_are_settings() -> None:
    limits = FlagLimits(snr_warn=4, error={"CFe": 1.0, "Teff": 1000.0}, error_dex=0.1)
    rules = FlagRules(limits, RANGES)
    assert rules.flags(table(snr=5.0, CFe=0.0, CFe_err=0.9, Teff=5000.0, Teff_err=900.0))[0][0] == 0
    assert rules.flags(table(FeH=0.0, FeH_err=0.2))[0][0] == CatalogFlag.LARGE_ERROR
    with pytest.raises(SettingsError, match=r"catalog: edge: 0\.7"):
        FlagLimits.from_dict("catalog", {"edge": 0.7})


def test_a_limit_that_is_given_leaves_those_of_other_labels() -> None:
    limits = FlagLimits(error={"Teff": 100.0, "CFe": 1.0})
    names = ("Teff", "logg", "vmic", "rv", "CFe", "FeH")
    assert [limits.largest_error(name) for name in names] == [100.0, 0.5, 0.5, 20.0, 1.0, 0.35]
