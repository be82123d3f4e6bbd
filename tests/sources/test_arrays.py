"""Users' own arrays: the spectra read are those that numpy and pandas wrote, and the computed spectra."""

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey import files
from survey.settings import SettingsError
from survey.sources import arrays, reading
from survey.sources.column_names import ALIASES
from survey.sources.visit import valid_values
from survey.spectrum import GRIDS, VISIT_KEYS, LogWave, Refused, Spectrum
from survey.store.manifest.table_sizes import spectra_in_table
from survey.tables.columns import CATALOGUE_COLUMNS, STAR_COLUMNS

NULL = arrays.Options()
CEMP4900 = arrays.Options(grid="cemp4900")
PIXELS = len(GRIDS["cemp4900"])


def save_array(
    folder: Path, flux: np.ndarray, labels: Mapping[str, object] | None = None, name: str = "X"
) -> str:
    np.save(folder / f"{name}.npy", flux)
    if labels is not None:
        pd.DataFrame(labels).to_csv(folder / f"{name.replace('X', 'y', 1)}.csv", index=False)
    return str(folder / f"{name}.npy")


def save_table(folder: Path, **columns: object) -> str:
    pq.write_table(pa.table(columns), folder / "t.parquet", row_group_size=2)
    return str(folder / "t.parquet")


def read_spectra(path: str, rows: list[int], options: arrays.Options = NULL) -> list[Spectrum]:
    """The spectra of these rows, none of which may be refused."""
    spectra = arrays.read_rows(path, rows, options)
    assert not [spectrum for spectrum in spectra if isinstance(spectrum, Refused)]
    return [spectrum for spectrum in spectra if isinstance(spectrum, Spectrum)]


def read_refusals(path: str, rows: list[int], options: arrays.Options = NULL) -> list[str]:
    """The reasons for which these rows are refused; all must be."""
    refusals = [row for row in arrays.read_rows(path, rows, options) if isinstance(row, Refused)]
    assert len(refusals) == len(rows)
    return [refusal.reason for refusal in refusals]


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4"])
def test_rows_of_an_array_come_in_the_requested_order(tmp_path: Path, kind: str) -> None:
    flux = np.random.default_rng(1).normal(size=(6, PIXELS)).astype(kind)
    flux[4, 7] = np.nan
    path = save_array(tmp_path, flux)
    assert arrays.count(path, NULL) == 6
    for spectrum, row in zip(read_spectra(path, [4, 0, 4]), [4, 0, 4], strict=True):
        np.testing.assert_array_equal(spectrum.flux, flux[row])
        np.testing.assert_array_equal(spectrum.ivar > 0, np.isfinite(flux[row]))
        assert spectrum.noise_estimated
        np.testing.assert_array_equal(spectrum.angstrom, GRIDS["cemp4900"].wave)
        assert spectrum.flux.dtype.itemsize >= 4
        assert spectrum.visit == {"visit": f"X-{row}", "survey": "arrays", "layout": "npy"}


@pytest.mark.parametrize("name", ["X", "X_train"])
def test_the_csv_beside_an_array_describes_the_visits(tmp_path: Path, name: str) -> None:
    labels = {
        "combined_obsid": [11, -3, 13],
        "RA": [1.5, 2.5, 400.0],
        "combined_z": [0.001, -9999, 0.002],
        "Teff": [5000, 6000, 7000],
        "combined_file": ["20111024/F5902/spec-55859-F5902_sp01-005.fits.gz", "b.fits", "c"],
        "class": ["STAR", "", "QSO"],
    }
    path = save_array(tmp_path, np.ones((3, PIXELS), "f4"), labels, name)
    visits = [spectrum.visit for spectrum in read_spectra(path, [0, 1, 2])]
    base = {"survey": "arrays", "layout": "npy"}
    assert visits[0] == {
        **base,
        "visit": "spec-55859-F5902_sp01-005",
        "obsid": 11,
        "ra": 1.5,
        "z": 0.001,
        "class": "STAR",
    }
    assert visits[1] == {**base, "visit": "b", "ra": 2.5}
    assert visits[2] == {**base, "visit": "c", "obsid": 13, "z": 0.002, "class": "QSO"}


def test_the_csv_beside_an_array_may_hold_velocities_gaia_numbers_and_magnitudes(tmp_path: Path) -> None:
    gaia = 2147483647000000003
    labels = {
        "combined_rv": [-51.25, -9999, 0, 0, 999],
        "z": [0.5, 0.001, 0.002, np.nan, -9999],
        "gaia_source_id": [gaia, gaia + 1, -9999, 0, 1],
        "mag_g": [15.5, 99, 0, -9999, 14],
        "mag_r": 15.0,
        "mag_i": 14.5,
        "mag_gaia": 15.25,
        "mag_system": "ps",
    }
    path = save_array(tmp_path, np.ones((5, PIXELS), "f4"), labels, "X")
    visits = [spectrum.visit for spectrum in read_spectra(path, list(range(5)))]
    columns = ("rv", "z", "gaia_source_id", "mag_g")
    assert [tuple(visit.get(column) for column in columns) for visit in visits] == [
        (-51.25, 0.5, gaia, 15.5),
        (None, 0.001, gaia + 1, None),
        (None, 0.002, None, None),  # 0 beside a redshift was not measured
        (0.0, None, None, None),
        (None, None, 1, 14.0),
    ]
    assert all({"mag_r": 15.0, "mag_i": 14.5, "mag_gaia": 15.25}.items() <= visit.items() for visit in visits)
    assert {visit["mag_system"] for visit in visits} == {"ps"}


BANDS = {"u": 19.1, "g": 17.9, "r": 17.2, "i": 16.8, "z": 16.5}
"""The magnitudes of the usual query of SDSS."""


@pytest.mark.parametrize(
    ("labels", "z"),
    [
        (BANDS, None),
        (BANDS | {"redshift": 0.01}, 0.01),
        (BANDS | {"combined_z": 0.02}, 0.02),
        ({"redshift": 0.01, "z": 16.5}, 0.01),
        ({"z": 0.03}, 0.03),
    ],
)
def test_a_magnitude_z_is_not_the_redshift_of_an_array(
    tmp_path: Path, labels: dict[str, float], z: float | None
) -> None:
    path = save_array(tmp_path, np.ones((1, PIXELS), "f4"), {name: [value] for name, value in labels.items()})
    (spectrum,) = read_spectra(path, [0])
    assert spectrum.visit.get("z") == z
    text, option = arrays.note(path, arrays.Options()) or ("", "")
    assert text.startswith("column z: taken as a magnitude") is ("u" in labels)
    assert option == "grid"


def test_a_gaia_number_that_lost_digits_in_a_float_is_none() -> None:
    given = [2147483647000000003.0, "2.1e18", "2147483647000000003", 9007199254740991.0]
    read = [valid_values([("gaia_source_id", value)]).get("gaia_source_id") for value in given]
    assert read == [None, None, 2147483647000000003, 9007199254740991]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_star_id_that_lost_digits_in_a_float_is_no_name_and_a_note_says_so(
    tmp_path: Path, kind: str
) -> None:
    ids = [2134567890123456789.0, None, 77.0]
    if kind == "csv":
        path = save_array(tmp_path, np.ones((3, PIXELS), "f4"), {"source_id": ids})
    else:
        path = save_table(
            tmp_path, flux=[[1.0] * PIXELS] * 3, wave=[GRIDS["cemp4900"].wave] * 3, source_id=ids
        )
    assert [spectrum.visit.get("star") for spectrum in read_spectra(path, [0, 1, 2])] == [None, None, "77"]
    text, _ = arrays.note(path, arrays.Options()) or ("", "")
    example = "2.1345678901234568e+18" if kind == "csv" else "2134567890123456768"
    assert text.startswith(f"column source_id: 1 ids, such as {example}, are floating-point numbers")
    assert valid_values([("star", "3.21099E+18"), ("visit", "3.2E+18")]) == {"visit": "3.2E+18"}
    assert valid_values([("star", "J012345.67+012345.6")]) == {"star": "J012345.67+012345.6"}


def test_a_grid_is_given_by_name_or_by_numbers(tmp_path: Path) -> None:
    named = arrays.Options.from_dict("ingest: arrays", {"grid": "log3921"})
    given = arrays.Options.from_dict(
        "ingest: arrays", {"grid": {"start": 4000.0, "stop": 4100.0, "step": 0.5}}
    )
    (first,) = read_spectra(save_array(tmp_path, np.ones((1, 3921), "f4")), [0], named)
    assert first.wave == LogWave(GRIDS["log3921"].start, 1e-4, 3921)
    (second,) = read_spectra(save_array(tmp_path, np.ones((1, 201), "f4"), name="X2"), [0], given)
    np.testing.assert_allclose(second.angstrom, np.arange(4000, 4100.1, 0.5))
    with pytest.raises(SettingsError, match="scale"):
        arrays.Options.from_dict(
            "ingest: arrays", {"grid": {"start": 1.0, "stop": 2.0, "step": 0.5, "scale": "cubic"}}
        )


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_grid_by_numbers_is_used_as_an_ingest_reads_it(tmp_path: Path, scale: str) -> None:
    numbers = {"linear": (4000, 4100, 1), "log": (3.6, 3.7, 0.001)}[scale]
    grid = dict(zip(("start", "stop", "step"), numbers, strict=True)) | {"scale": scale}
    options = reading.with_options([], {"arrays": {"grid": grid}})
    path = save_array(tmp_path, np.ones((2, 101), "f4"))
    assert reading.table_count("arrays", path, options["arrays"]) == 2
    (spectrum, _) = reading.table_rows(path, [0, 1], options)
    assert isinstance(spectrum, Spectrum)
    wanted = np.linspace(*numbers[:2], 101)
    np.testing.assert_allclose(spectrum.angstrom, wanted if scale == "linear" else 10**wanted)


def test_a_grid_that_is_guessed_is_named(tmp_path: Path) -> None:
    path = save_array(tmp_path, np.ones((1, PIXELS), "f4"))
    assert reading.table_note("arrays", path, NULL, "ingest.") == (
        f"{path}: wavelengths: taken as cemp4900, because it has 4900 points; "
        "give ingest.options.arrays.grid= if that is wrong"
    )
    assert reading.table_note("arrays", path, CEMP4900) == ""
    with_wave = save_table(tmp_path, flux=[[1.0] * PIXELS], wave=[GRIDS["cemp4900"].wave])
    assert reading.table_note("arrays", with_wave, NULL) == ""


def broken_array(tmp_path: Path, what: str) -> tuple[str, arrays.Options]:
    good = np.ones((3, PIXELS), "f4")
    path = str(tmp_path / "X.npy")
    if what == "objects":
        np.save(path, np.array([{}, []], dtype=object), allow_pickle=True)
    elif what == "cut":
        np.save(path, good)
        Path(path).write_bytes(Path(path).read_bytes()[:-10])
    elif what == "text":
        Path(path).write_text("not an array")
    elif what == "labels":
        save_array(tmp_path, good, {"z": [1, 2]})
    elif what == "csv":
        np.save(path, good)
        (tmp_path / "y.csv").write_text("a,b\n1,2,3\n")
    else:
        arrays_of = {
            "flat": good[0],
            "whole": good.astype(int),
            "columns": np.asfortranarray(good),
            "length": good[:, :50],
            "grid": good,
        }
        np.save(path, arrays_of[what])
    return path, arrays.Options(grid="log3921" if what == "grid" else None)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("objects", r"X\.npy: an array \(2,\) of object.*give floating-point"),
        ("cut", r"X\.npy: \d+ bytes, but 3 spectra of 4900 pixels take \d+; copy the file again"),
        ("text", r"X\.npy: no header of a \.npy file.*numpy\.save"),
        ("labels", r"y\.csv: 2 rows, but .*X\.npy has 3 spectra; give one row"),
        ("csv", r"y\.csv: no readable CSV"),
        ("flat", r"an array \(4900,\)"),
        ("whole", r"of int64"),
        ("columns", r"column by column"),
        ("length", r"50 pixels and no wavelengths; give options.arrays.grid= \(one of cemp4900, log3921"),
        ("grid", r"4900 pixels, but the grid log3921 has 3921 points; give options.arrays.grid="),
    ],
)
def test_an_array_that_cannot_be_used_is_an_error_that_says_what_to_do(
    tmp_path: Path, what: str, message: str
) -> None:
    path, options = broken_array(tmp_path, what)
    with pytest.raises(ValueError, match=message):
        arrays.count(path, options)
    if what != "cut":
        with pytest.raises(ValueError, match=message):
            arrays.read_rows(path, [0], options)


@pytest.mark.parametrize("how", ["cut", "saved again"])
def test_an_array_that_got_shorter_still_gives_the_rows_that_it_has(tmp_path: Path, how: str) -> None:
    flux = np.random.default_rng(1).normal(1, 0.1, (4, PIXELS)).astype("f4")
    path = save_array(tmp_path, flux[:2] if how == "saved again" else flux)
    if how == "cut":
        os.truncate(path, Path(path).stat().st_size - 6 * PIXELS)  # a row and a half
    found = arrays.read_rows(path, [3, 0, 2, 1], NULL)
    assert [isinstance(row, Spectrum) for row in found] == [False, True, False, True]
    assert isinstance(found[0], Refused)
    assert (found[0].reason, found[0].detail) == (
        "bad_row",
        "the file has 2 complete rows now; copy it again",
    )


def test_an_unknown_grid_is_an_error(tmp_path: Path) -> None:
    path = save_array(tmp_path, np.ones((3, PIXELS), "f4"))
    with pytest.raises(
        ValueError, match=r"there is no grid 'cemp'; give options.arrays.grid= \(one of cemp4900"
    ):
        arrays.count(path, arrays.Options(grid="cemp"))


# Parquet


def test_a_parquet_of_lists_is_read_across_row_groups_in_the_requested_order(tmp_path: Path) -> None:
    flux = np.random.default_rng(2).normal(size=(7, PIXELS)).astype("f4")
    columns = {
        "Flux": list(flux),
        "ivar": list(np.abs(flux)),
        "OBSID": list(range(1, 8)),
        "snrg": [float(row) for row in range(7)],
    }
    path = save_table(tmp_path, **columns)
    options = CEMP4900
    assert arrays.count(path, options) == 7
    rows = [6, 0, 3, 3, 1]
    for spectrum, row in zip(read_spectra(path, rows, options), rows, strict=True):
        np.testing.assert_array_equal(spectrum.flux, flux[row])
        np.testing.assert_array_equal(spectrum.ivar, np.abs(flux[row]))
        assert not spectrum.noise_estimated
        assert (spectrum.visit["obsid"], spectrum.visit["snr_g"], spectrum.visit["layout"]) == (
            row + 1,
            row,
            "parquet",
        )


@pytest.mark.parametrize("column", ["wave", "loglam"])
def test_wavelengths_may_be_a_column(tmp_path: Path, column: str) -> None:
    log, linear = 3.6 + 1e-4 * np.arange(300), np.linspace(4000, 5000, 200)
    waves = [10**log, linear, linear[::-1]]
    lists = [np.log10(wave) if column == "loglam" else wave for wave in waves]
    path = save_table(tmp_path, flux=[np.ones(len(wave)) for wave in waves], **{column: lists})
    assert arrays.count(path, NULL) == 3
    first, second = read_spectra(path, [0, 1])
    assert isinstance(first.wave, LogWave)
    np.testing.assert_allclose(first.angstrom, waves[0], atol=0.003)
    np.testing.assert_allclose(second.angstrom, linear)
    assert read_refusals(path, [2]) == ["bad_wavelength"]


def test_one_bad_row_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    good = [1.0] * PIXELS
    flux = [good, None, good[:-1], [], good]
    path = save_table(tmp_path, flux=flux, ivar=[good, good, good, good, good[:-1]])
    spectra = arrays.read_rows(path, [0, 1, 2, 3, 4], CEMP4900)
    assert isinstance(spectra[0], Spectrum)
    assert read_refusals(path, [1, 2, 3, 4], CEMP4900) == ["bad_row"] * 4


def test_a_null_pixel_becomes_nan(tmp_path: Path) -> None:
    path = save_table(tmp_path, flux=[[None, *[1.0] * (PIXELS - 1)]])
    (spectrum,) = read_spectra(path, [0], CEMP4900)
    assert np.isnan(spectrum.flux[0])
    assert (spectrum.ivar > 0).sum() == PIXELS - 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"spectrum": [[1.0]]},
            "the columns are spectrum; a Parquet of spectra needs a column of lists named flux",
        ),
        ({"flux": [1.0]}, "the column flux holds double; give a list"),
        ({"flux": [[1.0, 2.0]]}, "lists of any length and no wavelengths; give options.arrays.grid="),
    ],
)
def test_a_parquet_that_cannot_be_used_is_an_error_that_says_what_to_do(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        arrays.count(save_table(tmp_path, **columns), NULL)


def test_a_file_that_is_no_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="no readable Parquet"):
        arrays.count(str(tmp_path / "x.parquet"), NULL)


def test_the_computed_spectra_are_read_like_their_fits_files(shared: Path) -> None:
    path = str(shared / "physics/wide.parquet")
    frame = pd.read_parquet(path)
    assert arrays.count(path, NULL) == len(frame) == 1350
    rows = [1349, 0, 700, 3]
    for spectrum, row in zip(read_spectra(path, rows), rows, strict=True):
        wanted = frame.iloc[row]
        np.testing.assert_array_equal(spectrum.flux, wanted["flux"])
        np.testing.assert_array_equal(spectrum.ivar, wanted["ivar"])
        np.testing.assert_array_equal(
            spectrum.bad, np.unpackbits(np.frombuffer(wanted["andmask"], "u1"))[:3909] == 1
        )
        np.testing.assert_array_equal(
            spectrum.suspect, np.unpackbits(np.frombuffer(wanted["ormask"], "u1"))[:3909] == 1
        )
        np.testing.assert_allclose(spectrum.angstrom, 10 ** (3.5682 + 1e-4 * np.arange(3909)), rtol=1e-12)
        visit = spectrum.visit
        assert (visit["obsid"], visit["z"], visit["ra"], visit["snr_g"]) == (
            wanted["obsid"],
            wanted["z"],
            wanted["ra"],
            wanted["SNRG"],
        )
        assert (
            visit["visit"]
            == f"{wanted['lmjd']}-{wanted['planid']}-{wanted['spid']:02d}-{wanted['fiberid']:03d}"
        )
        assert set(visit) <= set(VISIT_KEYS)


class Bucket:
    """A bucket of files in memory that counts the bytes that are read."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = {f"s3://b/{name.replace('__', '.')}": data for name, data in objects.items()}
        self.bytes_read = 0

    def open(self, path: str, _mode: str) -> io.BytesIO:
        bucket = self

        class Counting(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                data = super().read(size)
                bucket.bytes_read += len(data)
                return data

        return Counting(self.objects[path])


def test_only_the_requested_part_of_a_file_in_a_bucket_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flux = np.random.default_rng(3).normal(size=(64, PIXELS)).astype("f4")
    array = Path(save_array(tmp_path, flux)).read_bytes()
    lists = Path(
        save_table(tmp_path, flux=pa.FixedSizeListArray.from_arrays(flux.ravel(), PIXELS))
    ).read_bytes()
    bucket = Bucket(X__npy=array, y__csv=b"z\n" + b"0.5\n" * 64, t__parquet=lists)
    monkeypatch.setattr(files, "bucket_system", lambda: bucket)
    monkeypatch.setattr(files, "stat_of", lambda path: files.Entry(path, len(bucket.objects[path]), 0.0))
    monkeypatch.setattr(files, "read", bucket.objects.__getitem__)
    for path in ("s3://b/X.npy", "s3://b/t.parquet"):
        assert arrays.count(path, NULL) == 64
        bucket.bytes_read = 0
        (spectrum,) = read_spectra(path, [40])
        np.testing.assert_array_equal(spectrum.flux, flux[40])
        assert bucket.bytes_read < len(array) / 8
    assert read_spectra("s3://b/X.npy", [0])[0].visit["z"] == 0.5


def test_refused_rows_are_values_not_exceptions(tmp_path: Path) -> None:
    assert read_refusals(save_table(tmp_path, flux=[None, [1.0]]), [0], CEMP4900) == ["bad_row"]


def test_a_star_may_be_named_as_in_label_tables_and_the_better_name_counts(tmp_path: Path) -> None:
    labels = {"star": ["a", "b", "c"], "gaia_source_id": [2147483647000000003, 0, -9999]}
    path = save_array(tmp_path, np.ones((3, PIXELS), "f4"), labels)
    stars = [spectrum.visit.get("star") for spectrum in read_spectra(path, [0, 1, 2])]
    assert stars == ["2147483647000000003", "b", "c"]
    assert set(STAR_COLUMNS) <= set(ALIASES["star"])
    assert CATALOGUE_COLUMNS["star"] == STAR_COLUMNS
    assert {"star", "desig"} < set(STAR_COLUMNS)


def test_the_csv_beside_an_array_keeps_ids_and_names_as_they_are_written(tmp_path: Path) -> None:
    flux = np.ones((3, PIXELS), "f4")
    lines = ["00003,2020-01-01,00:40:00.0,12", "NA,2020-01-02,-10,12.5", "7.0,,10,NA"]
    (tmp_path / "y.csv").write_text("\n".join(["star,visit,ra,rv", *lines]))
    visits = [spectrum.visit for spectrum in read_spectra(save_array(tmp_path, flux), [0, 1, 2])]
    assert [visit.get("star") for visit in visits] == ["00003", None, "7"]
    assert [visit["visit"] for visit in visits] == ["2020-01-01", "2020-01-02", "X-2"]
    assert [visit["ra"] for visit in visits] == [10, 350, 10]
    assert [visit.get("rv") for visit in visits] == [12, 12.5, None]


def test_the_csv_beside_an_array_is_read_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, original, reads = save_array(tmp_path, np.ones((2, PIXELS), "f4"), {"rv": [1, 2]}), files.read, []

    def noted(name: str) -> bytes:
        reads.append(name)
        return original(name)

    monkeypatch.setattr(files, "read", noted)
    for _ in range(3):
        assert read_spectra(path, [1])[0].visit["rv"] == 2
    assert len(reads) == 1
    (tmp_path / "y.csv").write_text("rv\n10\n20\n")
    assert read_spectra(path, [1])[0].visit["rv"] == 20


def test_a_parquet_may_have_errors_in_place_of_inverse_variances(tmp_path: Path) -> None:
    flux, wave = [[1.0, 2.0, 3.0]] * 2, [[4000.0, 4001.0, 4002.0]] * 2
    path = save_table(tmp_path, flux=flux, wave=wave, Sigma=[[0.5, 0.0, np.nan], None], err=[1.0, 2.0])
    first, second = arrays.read_rows(path, [0, 1], NULL)
    assert isinstance(first, Spectrum)
    assert not first.noise_estimated
    np.testing.assert_array_equal(first.ivar, [4, 0, 0])
    assert isinstance(second, Refused)
    path = save_table(tmp_path, flux=flux, wave=wave, err=[[1.0] * 3] * 2, ivar=[[9.0] * 3] * 2)
    np.testing.assert_array_equal(read_spectra(path, [1])[0].ivar, 9)
    path = save_table(tmp_path, flux=flux, wave=wave, sigma=[120.0, 80.0])  # of a galaxy
    assert read_spectra(path, [1])[0].noise_estimated


def test_the_spectra_of_a_parquet_are_counted_whatever_the_case_of_its_names(tmp_path: Path) -> None:
    assert spectra_in_table(save_table(tmp_path, FLUX=[[1.0, 2.0]] * 2, WAVE=[[4000.0, 4001.0]] * 2)) == 2
