"""Every real SDSS file against astropy, and against the index of the same files."""

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits

from survey.settings import Settings
from survey.sources import fits, lamost, sdss
from survey.sources.reading import spectra, unpack
from survey.spectrum import VISIT_COLUMNS, LogWave, Refused, Spectrum
from survey.store.schema import FLAG_MEANINGS, Flag

BOTH: dict[str, Settings] = {"lamost": lamost.Options(), "sdss": sdss.Options()}

Files = list[tuple[dict[str, str], fits.Bytes, Spectrum]]
"""Objects of the index, each with the file's bytes and spectrum."""


@pytest.fixture(scope="module")
def seen(shared: Path) -> Files:
    """All objects."""
    found = []
    with (shared / "sdss/spec_index.csv").open() as file:
        for row in csv.DictReader(file):
            if row["kind"] == "spec":
                data = unpack((shared / "sdss/spec" / row["file"]).read_bytes())
                (spectrum,) = spectra(data, row["file"], BOTH)
                found.append((row, data, spectrum))
    return found


def test_all_25_objects_are_read_and_all_20_sky_fibres_refused(shared: Path, seen: Files) -> None:
    assert Counter(spectrum.visit["layout"] for _, _, spectrum in seen) == {
        "sdss_legacy": 10,
        "sdss_boss": 15,
    }
    reasons: Counter[str] = Counter()
    for path in sorted((shared / "sdss/sky").iterdir()):
        with pytest.raises(Refused) as refused:
            spectra(path.read_bytes(), path.name, BOTH)
        reasons[refused.value.reason] += 1
    assert reasons == {"no_object": 20}


def test_pixels_are_those_of_astropy_bit_for_bit(seen: Files) -> None:
    for row, data, spectrum in seen:
        with astropy_fits.open(io.BytesIO(data)) as hdus:
            wanted = {name.lower(): hdus[1].data[name] for name in hdus[1].columns.names}
        assert np.array(spectrum.flux).tobytes() == np.array(wanted["flux"]).tobytes(), row["file"]
        assert np.array(spectrum.ivar).tobytes() == np.array(wanted["ivar"]).tobytes(), row["file"]
        assert len(spectrum.flux) == int(row["npix"])
        np.testing.assert_array_equal(spectrum.bad, (wanted["and_mask"] & sdss.UNUSABLE) != 0)
        np.testing.assert_array_equal(spectrum.suspect, (wanted["or_mask"] & sdss.UNUSABLE) != 0)


def test_wavelengths_are_log_linear_to_what_float32_can_hold(seen: Files) -> None:
    """0.003 angstrom, and 0.0057 beyond 10,000 angstrom, where the last digit of a float32 log10 is twice as
    large."""
    for _, data, spectrum in seen:
        assert isinstance(spectrum.wave, LogWave)
        with astropy_fits.open(io.BytesIO(data)) as hdus:
            loglam = np.asarray(hdus[1].data["loglam"])
        off = np.abs(spectrum.angstrom - 10 ** loglam.astype(float))
        assert off[loglam < 4].max() <= 0.003
        assert off.max() < 0.0058
        assert np.abs(np.log10(spectrum.angstrom) - loglam.astype(float)).max() <= 0.51 * np.spacing(
            np.float32(loglam.max())
        )


def test_the_visits_are_those_of_the_index(seen: Files) -> None:
    for row, _, spectrum in seen:
        visit = spectrum.visit
        plate, mjd, fiber = row["file"].split(".")[0].split("-")[1:]
        assert visit["visit"] == f"{int(plate)}-{mjd}-{int(fiber)}"
        assert (visit["class"], visit.get("subclass", "")) == (row["class"], row["subclass"])
        for name in ("z", "ra", "dec"):
            assert visit[name] == pytest.approx(float(row[name]), abs=1e-6)
        assert set(visit) <= set(VISIT_COLUMNS)
        assert visit["survey"] == "sdss"
        assert visit["snr_r"] > visit["snr_u"]


def test_magnitudes_are_those_of_the_fluxes_in_nanomaggies(seen: Files) -> None:
    compared = 0
    for _, data, spectrum in seen:
        with astropy_fits.open(io.BytesIO(data)) as hdus:
            names = [name.upper() for name in hdus[2].columns.names]
            flux = np.asarray(hdus[2].data["CALIBFLUX"][0]) if "CALIBFLUX" in names else np.zeros(5)
        for number, band in enumerate("ugriz"):
            if band in "gri" and flux[number] > 0:
                wanted = 22.5 - 2.5 * np.log10(float(flux[number]))
                assert spectrum.visit[f"mag_{band}"] == pytest.approx(wanted)
                compared += 1
            else:
                assert f"mag_{band}" not in spectrum.visit
    assert compared > 50


def test_stars_are_named_by_thing_or_photometric_object(seen: Files) -> None:
    named = {row["file"]: spectrum.visit.get("star") for row, _, spectrum in seen}
    assert named["spec-10000-57346-0002.fits"] == "342410358"
    assert named["spec-0266-51602-0013.fits"] == "1237650795146576091"


def test_spectrum_numbers_beyond_64_bits_with_sign_are_absent(seen: Files) -> None:
    numbers = {row["file"]: spectrum.visit.get("obsid") for row, _, spectrum in seen}
    assert numbers["spec-0266-51602-0013.fits"] == 299492975510054912
    assert numbers["spec-10000-57346-0002.fits"] is None  # 11258999741428506624 >= 2**63


def test_the_flag_says_from_which_plate_on_spectrum_numbers_do_not_fit() -> None:
    """SDSS: specObjID holds the plate in its highest 14 of 64 bits."""
    first = next(plate for plate in range(1 << 14) if plate << 50 > 2**63 - 1)
    assert f"from plate {first} on" in FLAG_MEANINGS[Flag.NO_OBSID]


def coadd(**columns: np.ndarray) -> bytes:
    size = 400
    table = np.zeros(
        size, [("FLUX", "f4"), ("LOGLAM", "f4"), ("IVAR", "f4"), ("AND_MASK", "i4"), ("OR_MASK", "i4")]
    )
    table["LOGLAM"], table["IVAR"] = 3.6 + 1e-4 * np.arange(size), 1
    for name, values in columns.items():
        table[name] = values
    row = np.zeros(
        1,
        [
            ("class", "S6"),
            ("PLATE", "i4"),
            ("MJD", "i4"),
            ("FIBERID", "i4"),
            ("OBJTYPE", "S16"),
            ("ZWARNING", "i4"),
        ],
    )
    file = io.BytesIO()
    hdus = [
        astropy_fits.PrimaryHDU(),
        astropy_fits.BinTableHDU(table, name="COADD"),
        astropy_fits.BinTableHDU(row, name="SPALL"),
    ]
    astropy_fits.HDUList(hdus).writeto(file)
    return file.getvalue()


def test_only_bits_that_make_a_pixel_unusable_count() -> None:
    mask = np.zeros(400, "i4")
    mask[1], mask[2], mask[3], mask[4] = 1 << 23, 1 << 24, 1 << 16, 1 << 2
    (found,) = spectra(coadd(AND_MASK=mask, OR_MASK=mask), "spec-1-2-3.fits", BOTH)
    assert found.bad is not None
    assert found.bad.nonzero()[0].tolist() == [1]
    assert found.visit["layout"] == "sdss_boss"


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 40.0])
def test_one_broken_wavelength_refuses_the_spectrum(value: float) -> None:
    loglam = 3.6 + 1e-4 * np.arange(400)
    loglam[200] = value
    with pytest.raises(Refused) as refused:
        spectra(coadd(LOGLAM=loglam), "x.fits", BOTH)
    assert refused.value.reason == "bad_wavelength"


def test_templates_in_tables_are_no_survey_files(shared: Path) -> None:
    for path in (shared / "sdss/pyhammer_templates").iterdir():
        with pytest.raises(Refused, match=r"not readable by lamost, sdss; the file has .*61618"):
            spectra(path.read_bytes(), path.name, BOTH)
