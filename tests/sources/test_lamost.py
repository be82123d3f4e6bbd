"""Every real LAMOST file against astropy, and against the index of the same files."""

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits

from survey.settings import Settings
from survey.sources import fits, lamost, visit, wavelengths
from survey.sources.reading import spectra, unpack
from survey.spectrum import VISIT_COLUMNS, VISIT_KEYS, LogWave, Refused, Spectrum
from tests.fits_files import fits_bytes

COADD: dict[str, Settings] = {"lamost": lamost.Options()}
SINGLE: dict[str, Settings] = {"lamost": lamost.Options(mrs="single")}

Files = list[tuple[dict[str, str], fits.Bytes, Spectrum]]
"""Rows of the index, each with the file's bytes and spectrum."""


def index(shared: Path, name: str) -> list[dict[str, str]]:
    with (shared / "lamost" / name).open() as file:
        return list(csv.DictReader(file))


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Bit for bit, whatever the byte order."""
    return (
        found.dtype.newbyteorder("=") == wanted.dtype.newbyteorder("=")
        and found.astype(wanted.dtype).tobytes() == wanted.tobytes()
    )


def arrays_of(data: fits.Bytes) -> dict[str, np.ndarray]:
    """What astropy finds in a low-resolution file."""
    with astropy_fits.open(io.BytesIO(data), memmap=False) as hdus:
        if hdus[0].data is not None:
            names = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK")
            return dict(zip(names, hdus[0].data, strict=True))
        return {name: hdus[1].data[name][0] for name in hdus[1].columns.names}


@pytest.fixture(scope="module")
def low(shared: Path) -> Files:
    """All low-resolution files."""
    found = []
    for row in index(shared, "lrs_index.csv"):
        data = unpack((shared / "lamost" / row["layout"] / row["file"]).read_bytes())
        (spectrum,) = spectra(data, f"some/folder/{row['file']}", COADD)
        found.append((row, data, spectrum))
    return found


def test_all_426_low_resolution_files_are_read_in_the_layout_they_have(low: Files) -> None:
    layouts = Counter(spectrum.visit["layout"] for _, _, spectrum in low)
    assert layouts == {"lrs_image": 286, "lrs_image_subcont": 120, "lrs_table": 20}
    assert all(spectrum.visit["layout"] == row["layout"] for row, _, spectrum in low)
    assert Counter(spectrum.visit["survey"] for _, _, spectrum in low) == {"lamost-lrs": 426}
    assert all(set(spectrum.visit) <= set(VISIT_COLUMNS) for _, _, spectrum in low)


def test_flux_inverse_variance_and_masks_are_those_of_astropy_bit_for_bit(low: Files) -> None:
    for row, data, spectrum in low:
        wanted = arrays_of(data)
        assert same(spectrum.flux, wanted["FLUX"]), row["file"]
        assert same(spectrum.ivar, wanted["IVAR"]), row["file"]
        np.testing.assert_array_equal(spectrum.bad, wanted["ANDMASK"] != 0)
        np.testing.assert_array_equal(spectrum.suspect, wanted["ORMASK"] != 0)
        assert np.shares_memory(spectrum.flux, np.frombuffer(data, np.uint8))


def test_wavelengths_are_within_3_milliangstrom_of_the_file(low: Files) -> None:
    for row, data, spectrum in low:
        assert isinstance(spectrum.wave, LogWave)
        if row["layout"] != "lrs_image_subcont":
            assert np.abs(spectrum.angstrom - arrays_of(data)["WAVELENGTH"]).max() <= 0.003, row["file"]
        assert abs(spectrum.angstrom[0] - float(row["w_first"])) < 0.003
        assert abs(spectrum.angstrom[-1] - float(row["w_last"])) < 0.003


def test_the_visits_are_those_of_the_index(low: Files) -> None:
    for row, _, spectrum in low:
        visit = spectrum.visit
        for column, name, missing in [
            ("ra", "ra", None),
            ("dec", "dec", None),
            ("z", "z", -9999),
            ("z_err", "z_err", -9999),
        ]:
            wanted = float(row[name])
            assert visit.get(column) == (None if wanted == missing else pytest.approx(wanted, abs=1e-9)), (
                row["file"],
                column,
            )
        for column, name in [("snr_u", "snru"), ("snr_g", "snrg")]:
            assert visit[column] == pytest.approx(float(row[name]), abs=1e-6)
        assert visit["class"] == row["class"]
        assert visit.get("subclass", "Non") == row["subclass"]
        assert visit.get("release", "") == row["data_v"]
        obsid = int(float(row["obsid"] or -1))
        assert visit.get("obsid") == (obsid if obsid > 0 else None)
        assert len(spectrum.flux) == int(row["npix"])


def test_counts_of_zero_masked_and_negative_pixels_are_those_of_the_index(low: Files) -> None:
    compared = 0
    for row, _, spectrum in low:
        assert spectrum.bad is not None
        assert spectrum.suspect is not None
        counts = {
            "n_ivar0": (spectrum.ivar == 0).sum(),
            "n_neg_flux": (spectrum.flux < 0).sum(),
            "n_and": spectrum.bad.sum(),
            "n_or": spectrum.suspect.sum(),
        }
        for name, found in counts.items():
            if row[name]:
                assert found == float(row[name]), (row["file"], name)
                compared += 1
    assert compared >= 4 * 306


def test_missing_and_overflowed_numbers_are_absent(low: Files) -> None:
    """One OBSID overflowed 16 bits, 129 have no card; 5 redshifts, 3 signals to noise are -9999; 3 masks are
    -1."""
    found = [spectrum.visit for _, _, spectrum in low]
    assert sum("obsid" not in visit for visit in found) == 130
    assert sum("z" not in visit for visit in found) == 5
    assert sum("fiber_mask" not in visit for visit in found) == 120 + 10 + 3
    assert sum(f"snr_{band}" not in visit for visit in found for band in "ugriz") == 3
    assert all(visit["star"].startswith("J") for visit in found)


def test_a_visit_has_the_same_identity_in_two_releases(low: Files) -> None:
    visits_of = [
        spectrum.visit["visit"]
        for row, _, spectrum in low
        if row["file"].startswith("spec-55859-F5902_sp01-005")
    ]
    assert visits_of == ["55859-F5902-01-005"] * 2
    assert {
        name: count
        for name, count in Counter(spectrum.visit["visit"] for _, _, spectrum in low).items()
        if count > 2
    } == {}


def medium(shared: Path) -> list[tuple[dict[str, str], fits.Bytes]]:
    return [
        (row, unpack((shared / "lamost/mrs" / row["file"]).read_bytes()))
        for row in index(shared, "mrs_index.csv")
    ]


def arm_of(hdu: astropy_fits.BinTableHDU) -> list[np.ndarray]:
    """Wavelength, flux, inverse variance and mask in rising wavelength, by astropy."""
    mask = "ANDMASK" if "ANDMASK" in hdu.columns.names else "PIXMASK"
    order = np.argsort(hdu.data["LOGLAM"])
    return [
        10 ** hdu.data["LOGLAM"].astype(float)[order],
        *(hdu.data[name][order] for name in ("FLUX", "IVAR", mask)),
    ]


def test_all_7_medium_resolution_files_give_both_arms_in_one_spectrum(shared: Path) -> None:
    for row, data in medium(shared):
        (spectrum,) = spectra(data, row["file"], COADD)
        with astropy_fits.open(io.BytesIO(data)) as hdus:
            blue, red = arm_of(hdus["COADD_B"]), arm_of(hdus["COADD_R"])
            assert spectrum.visit["snr_g"] == hdus["COADD_B"].header["SNR"]
            assert spectrum.visit["snr_r"] == hdus["COADD_R"].header["SNR"]
        np.testing.assert_allclose(spectrum.angstrom, np.concatenate((blue[0], red[0])), rtol=0, atol=1e-9)
        assert same(spectrum.flux, np.concatenate((blue[1], red[1])))
        assert same(spectrum.ivar, np.concatenate((blue[2], red[2])))
        np.testing.assert_array_equal(spectrum.bad, np.concatenate((blue[3], red[3])) != 0)
        visit = spectrum.visit
        assert (visit["obsid"], visit["ra"], visit["dec"]) == (
            int(row["obsid"]),
            float(row["ra"]),
            float(row["dec"]),
        )
        assert (visit["survey"], visit["layout"], visit["release"]) == (
            "lamost-mrs",
            "mrs_coadd",
            row["data_v"],
        )


def test_single_exposures_come_one_by_one_in_rising_wavelength(shared: Path) -> None:
    total = 0
    for row, data in medium(shared):
        found = spectra(data, row["file"], SINGLE)
        exposures = sorted(name[2:] for name in row["extensions"].split() if name.startswith("B-"))
        assert [spectrum.visit["visit"].rsplit("-", 1)[1] for spectrum in found] == exposures
        total += len(found)
        with astropy_fits.open(io.BytesIO(data)) as hdus:
            for spectrum, exposure in zip(found, exposures, strict=True):
                blue, red = arm_of(hdus[f"B-{exposure}"]), arm_of(hdus[f"R-{exposure}"])
                np.testing.assert_allclose(
                    spectrum.angstrom, np.concatenate((blue[0], red[0])), rtol=0, atol=1e-9
                )
                assert same(spectrum.flux, np.concatenate((blue[1], red[1])))
                np.testing.assert_array_equal(spectrum.bad, np.concatenate((blue[3], red[3])) != 0)
                assert spectrum.visit["layout"] == "mrs_single"
    assert total == 35


def arm(name: str, wave: np.ndarray, column: str = "LOGLAM", **cards: object) -> astropy_fits.BinTableHDU:
    table = np.zeros(
        len(wave), [("FLUX", "f4"), ("IVAR", "f4"), (column, "f8"), ("ANDMASK", "i2"), ("ORMASK", "i2")]
    )
    table["FLUX"], table[column] = np.arange(len(wave)), np.log10(wave) if column == "LOGLAM" else wave
    return astropy_fits.BinTableHDU(table, astropy_fits.Header(cards), name)


def test_one_arm_alone_is_a_spectrum_and_arms_never_overlap() -> None:
    blue, red = np.linspace(5000, 5400, 200), np.linspace(5300, 6000, 200)
    (single,) = spectra(fits_bytes(astropy_fits.PrimaryHDU(), arm("COADD_R", red)), "a/one.fits.gz", COADD)
    np.testing.assert_allclose(single.angstrom, red)
    assert single.visit["visit"] == "one"
    (both,) = spectra(
        fits_bytes(astropy_fits.PrimaryHDU(), arm("COADD_B", blue), arm("COADD_R", red, "WAVELENGTH")),
        "two.fits",
        COADD,
    )
    np.testing.assert_allclose(both.angstrom, np.concatenate((blue, red[red > 5400])))
    assert both.suspect is not None
    assert len(both.flux) == len(both.suspect) == len(both.angstrom)


def low_image(rows: np.ndarray, **cards: object) -> bytes:
    return fits_bytes(
        astropy_fits.PrimaryHDU(
            rows, astropy_fits.Header({"TELESCOP": "LAMOST", "COEFF0": 3.5682, "COEFF1": 1e-4, **cards})
        )
    )


def rows_of(size: int = 400) -> np.ndarray:
    rows = np.ones((5, size), "f4")
    rows[2], rows[3:] = 10 ** (3.5682 + 1e-4 * np.arange(size)), 0
    return rows


def refusal(data: bytes) -> str:
    with pytest.raises(Refused) as refused:
        spectra(data, "x.fits", COADD)
    return refused.value.reason


def test_the_computed_spectra_in_both_layouts_are_the_same(shared: Path) -> None:
    names = sorted(path.name for path in (shared / "physics/fits_old").iterdir())
    assert len(names) == 120
    for name in names:
        (old,) = spectra((shared / "physics/fits_old" / name).read_bytes(), name, COADD)
        (new,) = spectra((shared / "physics/fits_new" / name).read_bytes(), name, COADD)
        assert same(old.flux, new.flux)
        assert same(old.ivar, new.ivar)
        np.testing.assert_array_equal(old.bad, new.bad)
        assert old.wave == new.wave
        assert {**old.visit, "layout": ""} == {**new.visit, "layout": ""}


def test_a_table_is_known_by_its_columns_whatever_its_name() -> None:
    row = np.zeros(1, [(name, "f4", (400,)) for name in ("FLUX", "IVAR", "WAVELENGTH")])
    row["WAVELENGTH"] = rows_of()[2]
    (found,) = spectra(
        fits_bytes(astropy_fits.PrimaryHDU(), astropy_fits.BinTableHDU(row, name="ANYTHING")), "x.fits", COADD
    )
    assert found.visit["layout"] == "lrs_table"
    assert found.bad is None
    assert isinstance(found.wave, LogWave)
    assert found.wave.start == pytest.approx(3.5682, abs=1e-6)
    assert found.wave.step == pytest.approx(1e-4, abs=1e-8)
    assert len(found.wave) == 400


def test_a_row_that_is_not_log_linear_stays_a_list() -> None:
    rows = rows_of()
    rows[2] = np.linspace(4000, 5000, 400)
    (found,) = spectra(low_image(rows), "x.fits", COADD)
    assert isinstance(found.wave, np.ndarray)
    np.testing.assert_array_equal(found.wave, rows[2].astype(float))


@pytest.mark.parametrize("value", [np.nan, np.inf, -4000.0, 0.0, 5e7])
def test_one_broken_wavelength_refuses_the_spectrum(value: float) -> None:
    rows = rows_of()
    rows[2, 123] = value
    assert refusal(low_image(rows)) == "bad_wavelength"


def test_an_erased_row_of_wavelengths_is_not_taken_for_flux() -> None:
    rows = rows_of()
    rows[2] = 0
    assert refusal(low_image(rows, EXTEN0="Flux, Inverse, Wavelength, Andmask, Ormask")) == "bad_wavelength"
    (old,) = spectra(low_image(rows, EXTEN0="Flux Inverse Subcontinuum Andmask Ormask"), "x.fits", COADD)
    assert old.visit["layout"] == "lrs_image_subcont"


def test_falling_wavelengths_are_refused_and_not_replaced() -> None:
    rows = rows_of()
    rows[2] = rows[2, ::-1]
    assert refusal(low_image(rows)) == "bad_wavelength"


def test_wavelengths_without_a_row_come_from_either_pair_of_cards() -> None:
    rows = rows_of()
    rows[2] = 1
    (found,) = spectra(low_image(rows, COEFF0=None, COEFF1=None, CRVAL1=3.6, CD1_1=2e-4), "x.fits", COADD)
    assert found.wave == LogWave(3.6, 2e-4, 400)
    assert refusal(low_image(rows, COEFF0=None, COEFF1=None)) == "bad_wavelength"
    assert refusal(low_image(rows, COEFF0=3698.0, COEFF1=1.0)) == "bad_wavelength"


@pytest.mark.parametrize(
    ("card", "value", "seen"),
    [
        ("OBS_TYPE", "OBJ", True),
        ("OBS_TYPE", 0, True),
        ("OBS_TYPE", "FLAT", False),
        ("OBS_TYPE", "ARC", False),
        ("FIBERTYP", "F-Std", True),
        ("FIBERTYP", "Sky", False),
        ("FIB_TYPE", "Unused", False),
        ("OBJTYPE", "sky", False),
        ("OBJTYPE", "FS", True),
    ],
)
def test_only_fibres_with_an_object_give_a_spectrum(card: str, value: object, seen: bool) -> None:
    data = low_image(rows_of(), **{card: value})
    assert (len(spectra(data, "x.fits", COADD)) == 1) if seen else (refusal(data) == "no_object")


def test_a_mask_of_nan_is_bad() -> None:
    rows = rows_of()
    rows[3, 7] = np.nan
    rows[4, 8] = -0.0
    (found,) = spectra(low_image(rows), "x.fits", COADD)
    assert found.bad is not None
    assert found.suspect is not None
    assert found.bad.nonzero()[0].tolist() == [7]
    assert not found.suspect.any()


@pytest.mark.parametrize("size", [99, 100_001])
def test_spectra_of_absurd_length_are_no_spectra(size: int) -> None:
    assert refusal(low_image(rows_of(size))) == "unknown_layout"


def test_files_of_other_surveys_are_left_to_others(shared: Path) -> None:
    assert refusal((shared / "sdss/spec/spec-0266-51602-0013.fits").read_bytes()) == "unknown_layout"
    assert refusal(low_image(rows_of(), TELESCOP="SDSS 2.5-M")) == "unknown_layout"
    assert refusal(fits_bytes(astropy_fits.PrimaryHDU())) == "unknown_layout"


def test_the_card_of_a_fibre_may_be_text() -> None:
    data = low_image(
        rows_of(), LMJD=55_000, PLANID="B1", SPID=3, FIBERID="7       ", OBSID="12", Z="0.001", RA="361"
    )
    visit = spectra(data, "x.fits", COADD)[0].visit
    assert (visit["fiberid"], visit["obsid"], visit["z"], visit["visit"]) == (7, 12, 0.001, "55000-B1-03-007")
    assert "ra" not in visit


def test_air_wavelengths_become_vacuum() -> None:
    """Na D and H alpha in air and in vacuum by NIST; the relation of 1991 differs by 0.003."""
    np.testing.assert_allclose(
        wavelengths.air_to_vacuum(np.array([5889.950, 6562.801])), [5891.583, 6564.614], atol=4e-3
    )
    (found,) = spectra(low_image(rows_of(), VACUUM=False), "x.fits", COADD)
    np.testing.assert_allclose(found.angstrom, wavelengths.air_to_vacuum(rows_of()[2]), atol=0.004)


def test_air_and_vacuum_pairs_of_published_lines_agree(shared: Path) -> None:
    with (shared / "lines/stellar_features.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["air_A"]]
    air = np.array([float(row["air_A"]) for row in rows])
    vacuum = np.array([float(row["vac_A"]) for row in rows])
    assert len(air) > 20
    np.testing.assert_allclose(wavelengths.air_to_vacuum(air), vacuum, atol=0.005)


def test_every_checked_value_is_a_column_of_a_visit() -> None:
    assert set(visit.CHECKS) <= set(VISIT_KEYS)
    assert set(lamost.CARDS) <= set(VISIT_COLUMNS)


def test_magnitudes_are_those_of_the_bands_that_the_header_names(low: Files) -> None:
    """Against a reading of the cards by astropy; types of several letters a band are left out, and 0."""
    compared = 0
    for _, data, spectrum in low:
        header = astropy_fits.getheader(io.BytesIO(data))
        bands = str(header.get("MAGTYPE", "")).strip().lower()
        wanted = {}
        if bands in ("ugriz", "ugrizjh", "gri", "grizyjh", "ugrijhk", "gribvjh", "g", "v", "jhk"):
            wanted = {band: header[f"MAG{number}"] for number, band in enumerate(bands, 1) if band in "gri"}
        elif "MAG_PS_G" in header:
            wanted = {band: header[f"MAG_PS_{band.upper()}"] for band in "gri"}
        for band in "gri":
            value = wanted.get(band)
            assert spectrum.visit.get(f"mag_{band}") == (value if value and -5 <= value <= 40 else None)
            compared += value is not None
    assert compared > 1000


def test_a_number_of_gaia_is_the_name_of_an_object_that_says_so(low: Files, shared: Path) -> None:
    numbers = {
        spectrum.visit["gaia_source_id"] for _, _, spectrum in low if "gaia_source_id" in spectrum.visit
    }
    assert 172381471658586112 in numbers  # OBJNAME = G172381471658586112
    assert 1237678880471711834 not in numbers  # a number of SDSS
    medium = [
        spectra(unpack((shared / "lamost" / "mrs" / row["file"]).read_bytes()), row["file"], COADD)[0]
        for row in index(shared, "mrs_index.csv")
    ]
    by_gaia = [spectrum.visit for spectrum in medium if spectrum.visit.get("mag_system") == "gbprp"]
    assert [(visit["gaia_source_id"], visit["mag_gaia"]) for visit in by_gaia] == [
        (2125971226269667584, 12.74)
    ]
