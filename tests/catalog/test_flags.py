"""Each bit at its limit: just within it is not set, just beyond it is."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from survey.catalog.flags import BITS, Bit, Limits, dictionary, of
from survey.settings import SettingsError
from survey.store.quality import Flag

RANGES = {"Teff": (4000.0, 7000.0), "FeH": (-4.0, 0.5)}


def table(**columns: Any) -> pa.Table:
    return pa.table(
        {
            name: pa.array([value], {"flags": pa.int32(), "visits_disagree": pa.bool_()}.get(name))
            for name, value in columns.items()
        }
    )


def bits(**columns: Any) -> tuple[Bit, Bit]:
    warn, bad = of(table(**columns), RANGES)
    return Bit(int(warn[0])), Bit(int(bad[0]))


NONE = Bit(0)
LIMITS: list[tuple[dict[str, Any], Bit, Bit]] = [
    ({"flags": int(Flag.LOW_SNR | Flag.NO_OBSID)}, NONE, NONE),
    ({"flags": int(Flag.OUTLIERS)}, Bit.SPECTRUM, NONE),
    ({"flags": int(Flag.FIBER | Flag.NO_VELOCITY)}, Bit.SPECTRUM | Bit.NO_VELOCITY, NONE),
    ({"flags": None}, NONE, NONE),
    ({"class": "STAR"}, NONE, NONE),
    ({"class": "GALAXY"}, NONE, Bit.NOT_A_STAR),
    ({"class": "qso"}, NONE, Bit.NOT_A_STAR),
    ({"class": "Unknown"}, Bit.UNKNOWN_OBJECT, NONE),
    ({"snr": 10.0}, NONE, NONE),
    ({"snr": 9.9}, Bit.LOW_SNR, NONE),
    ({"snr": 2.9}, Bit.LOW_SNR, Bit.VERY_LOW_SNR),
    ({"snr": float("nan")}, Bit.LOW_SNR, Bit.VERY_LOW_SNR),
    ({"snr": 2.9, "snr_total": 12.0}, NONE, NONE),
    ({"domain": 1.0}, NONE, NONE),
    ({"domain": 1.1}, Bit.OUT_OF_DOMAIN, NONE),
    ({"domain": 2.1}, Bit.OUT_OF_DOMAIN, Bit.FAR_OUT_OF_DOMAIN),
    ({"domain": float("nan")}, NONE, NONE),
    ({"doubt": 0.19}, NONE, NONE),
    ({"doubt": 0.21}, Bit.MEMBERS_DISAGREE, NONE),
    ({"visits_disagree": True}, Bit.VISITS_DISAGREE, NONE),
    ({"classes_disagree": True}, Bit.CLASSES_DISAGREE, NONE),
    ({"identity_violated": True}, Bit.IDENTITY, NONE),
    ({"no_answer": True}, NONE, Bit.NO_ANSWER),
    ({"no_answer": False, "visits_disagree": None}, NONE, NONE),
    ({"Teff": 5000.0, "Teff_err": 249.0}, NONE, NONE),
    ({"Teff": 5000.0, "Teff_err": 251.0}, Bit.LARGE_ERROR, NONE),
    ({"CFe": 0.0, "CFe_err": 0.36}, Bit.LARGE_ERROR, NONE),
    ({"CFe": 0.0, "CFe_err": 0.3, "CFe_low": -1.0, "CFe_high": 1.0}, NONE, NONE),
    ({"CFe": 0.0, "CFe_err": 0.3, "CFe_low": -1.1, "CFe_high": 1.1}, Bit.WIDE_INTERVAL, NONE),
    ({"Teff": 4061.0}, NONE, NONE),
    ({"Teff": 4059.0}, Bit.EDGE, NONE),
    ({"Teff": 9000.0}, Bit.EDGE, NONE),
    ({"FeH": 0.42}, Bit.EDGE, NONE),
    ({"logg": 9.0}, NONE, NONE),
    ({"path": "x"}, NONE, NONE),
]


@pytest.mark.parametrize(("columns", "warn", "bad"), LIMITS)
def test_a_bit_is_set_beyond_its_limit_and_not_before(columns: dict[str, Any], warn: Bit, bad: Bit) -> None:
    assert bits(**columns) == (warn, bad)


def test_every_bit_is_tried_above_and_has_one_row_of_its_own() -> None:
    assert {row.bit for row in BITS} == set(Bit)
    assert len(BITS) == len(Bit)
    tried = NONE
    for _, warn, bad in LIMITS:
        tried |= warn | bad
    assert tried == Bit(sum(Bit))


def test_the_dictionary_tells_every_bit() -> None:
    rows = dictionary().to_pylist()
    assert (
        [row["value"] for row in rows]
        == [1 << row["bit"] for row in rows]
        == [1 << number for number in range(len(rows))]
    )
    assert {row["severity"] for row in rows} == {"warn", "bad"}
    assert all(len(row["description"]) > 10 for row in rows)
    assert rows[13] == {
        "bit": 13,
        "value": 8192,
        "name": "NO_ANSWER",
        "severity": "bad",
        "description": "the networks gave no answer",
    }


def test_flags_fit_their_columns_and_are_those_of_each_row() -> None:
    rows = pa.table({"snr": [50.0, 1.0, 5.0], "domain": [0.5, 3.0, None]})
    warn, bad = of(rows, {})
    assert (warn.dtype, bad.dtype) == (np.int32, np.int32)
    assert warn.tolist() == [0, Bit.LOW_SNR | Bit.OUT_OF_DOMAIN, Bit.LOW_SNR]
    assert bad.tolist() == [0, Bit.VERY_LOW_SNR | Bit.FAR_OUT_OF_DOMAIN, 0]


def test_limits_are_settings() -> None:
    limits = Limits(snr_warn=4, error={"CFe": 1.0}, error_dex=0.1)
    assert of(table(snr=5.0, CFe=0.0, CFe_err=0.9, Teff=5000.0, Teff_err=900.0), RANGES, limits)[0][0] == 0
    assert of(table(FeH=0.0, FeH_err=0.2), {}, limits)[0][0] == Bit.LARGE_ERROR
    with pytest.raises(SettingsError, match=r"catalog: edge: 0\.7"):
        Limits.checked("catalog", {"edge": 0.7})
