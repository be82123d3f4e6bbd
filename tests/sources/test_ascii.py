"""Spectra as text: the numbers are those that numpy, pandas and astropy wrote."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from survey.sources import ascii as text_source
from survey.sources.wavelengths import air_to_vacuum
from survey.spectrum import LogWave, Refused, Spectrum

WAVE = np.linspace(4000, 5000, 200)
FLUX = 1 + np.random.default_rng(1).normal(0, 0.05, 200)
ERROR = np.full(200, 0.05)


def read(text: str | bytes, **options: str) -> Spectrum:
    data = text.encode() if isinstance(text, str) else text
    found = text_source.read_bytes(data, "star.txt", text_source.Options.from_dict("ascii", options))
    assert found is not None
    (spectrum,) = found
    return spectrum


def saved(*columns: np.ndarray, **options: object) -> str:
    stream = io.StringIO()
    np.savetxt(stream, np.column_stack(columns), **options)  # type: ignore[arg-type]
    return stream.getvalue()


def check(spectrum: Spectrum, has_errors: bool = True) -> None:
    np.testing.assert_allclose(spectrum.angstrom, WAVE, atol=0.004)
    np.testing.assert_allclose(spectrum.flux, FLUX, rtol=1e-5)
    assert spectrum.noise_estimated != has_errors
    if has_errors:
        np.testing.assert_allclose(spectrum.ivar, 1 / ERROR**2, rtol=1e-5)


@pytest.mark.parametrize("delimiter", [" ", "\t", ",", ";", ", "])
def test_columns_without_names_are_wavelength_flux_and_error(delimiter: str) -> None:
    check(read(saved(WAVE, FLUX, ERROR, delimiter=delimiter)))
    check(read(saved(WAVE, FLUX, delimiter=delimiter)), has_errors=False)


@pytest.mark.parametrize(
    "header",
    ["# x wavelength(A) Flux error", "# made by hand\nx wave flux e_flux", "% x, lambda [AA], flux, sigma"],
)
def test_names_decide_which_column_is_which(header: str) -> None:
    delimiter = "," if "," in header else " "
    check(read(f"{header}\n{saved(FLUX * 0, WAVE, FLUX, ERROR, delimiter=delimiter)}"))


def test_files_of_pandas_and_astropy_are_read() -> None:
    frame = pd.DataFrame({"flux": FLUX, "ivar": 1 / ERROR**2, "wavelength": WAVE, "order": 1})
    check(read(frame.to_csv(index=False)))
    table = Table({"wave": WAVE, "flux": FLUX, "err": ERROR})
    for kind in ("ascii.commented_header", "ascii.csv", "ascii.tab", "ascii.ecsv"):
        stream = io.StringIO()
        table.write(stream, format=kind)
        check(read(stream.getvalue()))


def test_a_third_column_holds_what_the_options_say() -> None:
    columns = saved(WAVE, FLUX, 1 / ERROR**2)
    check(read(columns, third="ivar"))
    check(read(columns, third="none"), has_errors=False)


@pytest.mark.parametrize(
    "header",
    [
        "# columns: wave flux ivar",
        "# wave flux ivar\n# Angstrom counts 1/counts2",
        "# wave flux ivar\n# made from three exposures",
        "#wave flux ivar\n#--------------------",
        "|wave|flux|ivar|\n|double|double|double|",
        "wave flux ivar # as in the survey",
    ],
)
def test_the_nearest_line_that_names_wavelength_and_flux_names_the_columns(header: str) -> None:
    check(read(f"{header}\n{saved(WAVE, FLUX, 1 / ERROR**2)}"))
    check(read(f"{header.replace('ivar', 'snr')}\n{saved(WAVE, FLUX, FLUX / ERROR)}"), has_errors=False)


@pytest.mark.parametrize(
    "header", ["# 1 wave\n# 2 flux\n# 3 ivar", "# wave, flux and snr", "# x inverse variance"]
)
def test_a_third_column_that_may_be_no_error_is_refused_until_the_options_say_what_it_is(header: str) -> None:
    text = f"{header}\n{saved(WAVE, FLUX, ERROR)}"
    with pytest.raises(Refused, match=r"give options\.ascii\.third=error, ivar or none"):
        read(text)
    check(read(text, third="error"))
    check(read(f"# snr of the star = 45\n{saved(WAVE, FLUX, ERROR)}"))
    check(read(f"{header}\n{saved(WAVE, FLUX)}"), has_errors=False)


def test_units_air_and_direction_become_rising_vacuum_angstrom() -> None:
    check(read(saved(WAVE / 10, FLUX, ERROR), wave="nm"))
    check(read(saved(WAVE / 1e4, FLUX, ERROR), wave="micron"))
    check(read(saved(np.log10(WAVE), FLUX, ERROR), wave="log10"))
    check(read(f"loglam flux error\n{saved(np.log10(WAVE), FLUX, ERROR)}"))
    check(read(saved(WAVE[::-1], FLUX[::-1], ERROR)))
    in_air = read(saved(WAVE, FLUX, ERROR), medium="air")
    np.testing.assert_allclose(in_air.angstrom, air_to_vacuum(WAVE), atol=1e-6)


def test_log_linear_wavelengths_are_recognised() -> None:
    spectrum = read(saved(10 ** (3.6 + 1e-4 * np.arange(200)), FLUX, fmt="%.3f"))
    assert isinstance(spectrum.wave, LogWave)


def test_cells_without_a_value_and_numbers_of_fortran_are_read() -> None:
    rows = [f"{wave:.2f},{flux:.6E},0.05" for wave, flux in zip(WAVE, FLUX, strict=True)]
    rows[3], rows[4] = f"{WAVE[3]:.2f},,0.05", f"{WAVE[4]:.2f},{FLUX[4]:.6E},NaN".replace("E", "D")
    spectrum = read("\n".join(rows))
    assert np.isnan(spectrum.flux[3])
    assert spectrum.flux[4] == pytest.approx(FLUX[4], rel=1e-5)
    assert spectrum.ivar[4] == 0
    assert (spectrum.ivar > 0).sum() == 199


@pytest.mark.parametrize("cell", ["nan", "", "inf"])
def test_a_first_line_without_a_flux_keeps_the_names_of_the_columns(cell: str) -> None:
    table = pd.DataFrame({"wave": WAVE, "flux": FLUX, "ivar": 1 / ERROR**2})
    for frame in (table, table.assign(order=1), table.assign(loglam=np.log10(WAVE)).drop(columns="wave")):
        columns = [name for name in ("loglam", "wave") if name in frame]
        cells = frame[[*columns, "flux", *(name for name in frame if name not in (*columns, "flux"))]]
        cells = cells.astype({"flux": object})
        cells.loc[0, "flux"] = cell
        spectrum = read(cells.to_csv(index=False))
        assert not np.isfinite(spectrum.flux[0])
        np.testing.assert_allclose(spectrum.flux[1:], FLUX[1:])
        np.testing.assert_allclose(spectrum.ivar, 400)
        np.testing.assert_allclose(spectrum.angstrom, WAVE, rtol=1e-6)


def test_a_first_line_without_a_wavelength_keeps_the_names_of_the_columns() -> None:
    text = pd.DataFrame({"wave": WAVE, "flux": FLUX, "ivar": 1 / ERROR**2}).to_csv(index=False)
    check(read(text.replace("ivar\n", "ivar\nnan,nan,0\n")))


def test_errors_that_are_all_0_are_no_errors() -> None:
    check(read(saved(WAVE, FLUX, 0 * ERROR)), has_errors=False)


@pytest.mark.parametrize(
    "text",
    [
        b"\x89HDF\r\n\x1a\n" + bytes(range(256)),
        "",
        "obsid,file\n1,a.fits\n",
        "obsid,file\n" + "101,\n" * 90,
        "a b c\nd e f\n",
        "obsid,lmjd,teff,logg,feh\n" + "101,55859,5000,2.0,-1\n" * 90,
    ],
    ids=["binary", "empty", "catalogue", "no files", "words", "labels"],
)
def test_what_is_no_table_of_wavelengths_and_fluxes_is_left_to_others(text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    assert text_source.read_bytes(data, "x.csv", text_source.Options()) is None


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        (saved(WAVE[:20], FLUX[:20]), "unknown_layout", "20 rows; a spectrum has 50 to 300000 pixels"),
        (saved(WAVE, FLUX) + "end of file\n", "bad_row", "line 201 is 'end of file', which has no wave"),
        (saved(WAVE, FLUX) + "5001\n", "bad_row", "line 201 is '5001', which has no flux"),
        (saved(np.r_[WAVE[1:], WAVE[0]], FLUX), "bad_wavelength", "do not rise"),
        (saved(WAVE * 1e6, FLUX), "bad_wavelength", "angstrom"),
    ],
    ids=["short", "words", "cells", "order", "unit"],
)
def test_a_damaged_file_is_refused_with_what_was_found(text: str, reason: str, detail: str) -> None:
    with pytest.raises(Refused) as caught:
        read(text)
    assert caught.value.reason == reason
    assert detail in caught.value.detail


def test_spectra_in_shared_templates_survive_a_round_trip_through_text(shared: Path) -> None:
    templates = np.load(shared / "sdss" / "pyhammer_templates_grid.npz")
    wave, flux = templates["wave_vac"], templates["flux"][10]
    good = np.isfinite(flux)
    spectrum = read(saved(wave[good], flux[good]))
    np.testing.assert_allclose(spectrum.angstrom, wave[good], atol=0.004)
    np.testing.assert_allclose(spectrum.flux, flux[good], rtol=1e-6)
