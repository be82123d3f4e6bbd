"""The mock files open in astropy and in our own readers with the content that was written."""

import gzip
import io
from functools import cache

import numpy as np
import pytest
from astropy.io import fits

from survey.mock import layouts, mock
from survey.mock.cards import card, header
from survey.mock.settings import LAYOUTS, Mock
from survey.settings import Settings
from survey.sources import lamost, reading, sdss

SOURCES: dict[str, Settings] = {"lamost": lamost.Options(), "sdss": sdss.Options()}


@cache
def sample(layout: str) -> tuple[layouts.CardValues, list[layouts.Pixels], bytes]:
    """Card values, pixels and bytes of one valid file."""
    settings = Mock.from_dict(
        "mock", {"out": "nowhere", "n": 100, "broken": 0.0, "gz": 0.0, "layouts": {layout: 1.0}}
    )
    table, contents = mock.compute(settings, 0)
    row = 7
    values = mock.card_values(table, row)
    data = list(contents)[row]
    assert data is not None
    return values, mock.pixels_of_parts(values, mock.exposures(settings, table, 0), row), data


def test_every_card_is_80_characters_wide() -> None:
    for layout in LAYOUTS:
        _, _, data = sample(layout)
        assert len(data) % 2880 == 0
        head = data[: data.index(b"END".ljust(80)) + 80]
        for start in range(0, len(head), 80):
            text = head[start : start + 80].decode("ascii")
            assert text[:3] == "END" or text.startswith("COMMENT") or text[8:10] == "= ", text


@pytest.mark.parametrize("layout", ["lrs_image", "lrs_image_subcont"])
def test_an_image_opens_in_astropy_with_the_rows_of_its_layout(layout: str) -> None:
    values, (pixels,), data = sample(layout)
    with fits.open(io.BytesIO(data)) as file:
        file.verify("exception")
        rows, cards = file[0].data, file[0].header
    size = len(pixels["flux"])
    assert rows.shape == (5, size)
    assert np.array_equal(rows[0], pixels["flux"])
    assert np.array_equal(rows[1], pixels["ivar"])
    third = pixels["wave"] if layout == "lrs_image" else pixels["flux"] / pixels["continuum"]
    assert np.array_equal(rows[2], third)
    assert (rows[3] != 0).tolist() == pixels["bad"].tolist()
    assert ("OBSID" in cards) == (layout == "lrs_image")
    assert ("SNRG" in cards) == (layout == "lrs_image")
    assert ("SN_G" in cards) == (layout == "lrs_image_subcont")
    assert cards["DESIG"] == values["designation"]
    assert (cards["COEFF0"], cards["COEFF1"], cards["VACUUM"]) == (3.5682, 1e-4, True)


def test_an_early_image_is_float64_and_writes_the_fibre_as_text() -> None:
    values, parts, _ = sample("lrs_image")
    values = values | {"early": True}
    with fits.open(io.BytesIO(layouts.lrs_image(values, parts))) as file:
        cards = file[0].header
        assert cards["BITPIX"] == -64
        assert cards["FIBERID"] == str(values["fiberid"])
        assert "OBSID" not in cards
        assert "SN_U" in cards


def test_a_table_file_has_one_row_of_six_arrays() -> None:
    _, (pixels,), data = sample("lrs_table")
    with fits.open(io.BytesIO(data)) as file:
        assert file[0].data is None
        table = file["COADD"]
        assert table.columns.names == ["FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK", "NORMALIZATION"]
        assert len(table.data) == 1
        assert np.array_equal(table.data["FLUX"][0], pixels["flux"])
        assert np.nanmedian(table.data["NORMALIZATION"][0]) == pytest.approx(0.95, abs=0.12)


def test_a_medium_resolution_file_has_both_arms_and_their_exposures() -> None:
    _, parts, data = sample("mrs")
    with fits.open(io.BytesIO(data)) as file:
        names = [hdu.name for hdu in file]
        assert names[:3] == ["Information", "COADD_B", "COADD_R"]
        assert len(names) == 9
        assert file["COADD_B"].columns.names == ["FLUX", "IVAR", "LOGLAM", "ANDMASK", "ORMASK"]
        assert file[3].columns.names == ["FLUX", "IVAR", "LOGLAM", "PIXMASK"]
        assert np.array_equal(file["COADD_R"].data["FLUX"], parts[1]["flux"])
        wave = 10 ** file["COADD_B"].data["LOGLAM"].astype(float)
        assert wave[0] < 4950
        assert wave[-1] > 5350
        assert (np.diff(file[8].data["LOGLAM"]) <= 0).all()  # red exposures run from red to blue


def test_an_sdss_file_has_a_table_of_pixels_and_a_row() -> None:
    values, (pixels,), data = sample("sdss")
    with fits.open(io.BytesIO(data)) as file:
        assert file[1].columns.names == [
            "flux",
            "loglam",
            "ivar",
            "and_mask",
            "or_mask",
            "wdisp",
            "sky",
            "model",
        ]
        assert np.array_equal(file[1].data["flux"], pixels["flux"])
        assert file[2].name in ("SPECOBJ", "SPALL")
        assert file[2].data["CLASS"][0] == "STAR"
        assert file[2].data["PLUG_RA"][0] == pytest.approx(values["ra"])
        assert file[2].data["FIBERID"][0] == values["fiberid"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_our_reader_returns_what_was_written(layout: str) -> None:
    values, parts, data = sample(layout)
    (found,) = reading.spectra(gzip.compress(data, 1), values["path"], SOURCES)
    if layout != "mrs":
        assert np.array_equal(found.flux, parts[0]["flux"])
        assert np.array_equal(found.ivar, parts[0]["ivar"])
        exact = parts[0]["wave"] if layout != "sdss" else 10 ** parts[0]["wave"].astype(float)
        assert np.abs(found.angstrom - exact).max() < 0.005
        assert found.bad is not None
        assert np.array_equal(found.bad, parts[0]["bad"])
    else:
        blue = len(parts[0]["flux"])
        assert np.array_equal(found.flux[:blue], parts[0]["flux"])
        assert np.array_equal(found.ivar[blue:], parts[1]["ivar"])
    for name in ("visit", "star", "lmjd", "planid", "spid", "fiberid"):
        assert found.visit[name] == values[name], name
    assert found.visit["ra"] == pytest.approx(values["ra"], abs=1e-6)
    if layout != "mrs":
        assert found.visit["class"] == "STAR"
        assert found.visit["subclass"] == values["subclass"]
    if layout in ("lrs_image", "lrs_table"):
        assert found.visit["obsid"] == values["obsid"]
        assert found.visit["snr_g"] == pytest.approx(values["snr_g"], abs=0.01)


def test_the_pixels_have_the_signal_to_noise_of_the_settings() -> None:
    settings = Mock(out="nowhere", n=100, broken=0.0)
    table, _ = mock.compute(settings, 0)
    double, _ = mock.compute(Mock(out="nowhere", n=100, broken=0.0, snr=2.0), 0)
    assert np.median(table["snr_g"] / table["snr"]) == pytest.approx(1.05, abs=0.12)
    assert np.median(double["snr_g"] / table["snr_g"]) == pytest.approx(2.0, abs=0.1)
    assert np.median(table["snr_u"]) < np.median(table["snr_g"]) / 2
    assert np.median(table["snr_z"]) < np.median(table["snr_i"])


def test_flagged_pixels_have_no_inverse_variance_and_the_noise_is_as_stated() -> None:
    settings = Mock(out="nowhere", n=100, broken=0.0, layouts={"lrs_image": 1.0})
    exposure = mock.exposures(settings, mock.describe(settings, 0), 0)["low"][0]
    assert (exposure.ivar[exposure.bad] == 0).all()
    assert 0.002 < exposure.bad.mean() < 0.02
    assert (exposure.suspect > 0).sum() > exposure.bad.sum()
    smooth = (exposure.flux[:, 2000:2500:2] + exposure.flux[:, 2002:2502:2]) / 2
    pull = (exposure.flux[:, 2001:2501:2] - smooth) * np.sqrt(exposure.ivar[:, 2001:2501:2] / 1.5)
    assert np.median(np.abs(pull)) * 1.48 == pytest.approx(1.0, abs=0.25)


def test_a_card_is_80_characters_wide_after_its_slot_is_filled() -> None:
    assert len(card("RA", "%(ra)20.6f", "degrees") % {"ra": 12.5}) == 80
    assert len(card("PLANID", "'%(planid)-18.18s'", "plan") % {"planid": "HD1"}) == 80
    assert len(header([("SIMPLE", "T", "")])) == 2880
