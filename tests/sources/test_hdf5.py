"""HDF5 files of arrays, written by h5py: values, units, what is refused, and links that are not followed."""

import builtins
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from survey.settings import SettingsError
from survey.sources import hdf5
from survey.sources.wavelengths import air_to_vacuum
from survey.spectrum import Refused, Spectrum
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store

WAVE = np.linspace(4000, 8000, 400)
FLUX = 1 + np.random.default_rng(5).normal(0, 0.02, (6, 400))


def write(path: Path, **datasets: Any) -> str:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return str(path)


def spectra(path: str, rows: list[int], **options: Any) -> list[Spectrum]:
    found = hdf5.read_rows(path, rows, hdf5.Options(**options))
    assert all(isinstance(spectrum, Spectrum) for spectrum in found)
    return [spectrum for spectrum in found if isinstance(spectrum, Spectrum)]


def test_a_magnitude_z_is_not_the_redshift(tmp_path: Path) -> None:
    bands = {name: np.full(6, 17.0) for name in "ugriz"}
    path = write(tmp_path / "a.h5", flux=FLUX, wave=WAVE, **bands, redshift=np.full(6, 0.01))
    assert spectra(path, [0])[0].visit["z"] == 0.01
    path = write(tmp_path / "b.h5", flux=FLUX, wave=WAVE, **bands)
    assert "z" not in spectra(path, [0])[0].visit
    assert (hdf5.note(path, hdf5.Options()) or ("", ""))[0].startswith("column z: taken as a magnitude")
    assert hdf5.note(write(tmp_path / "c.h5", flux=FLUX, wave=WAVE), hdf5.Options()) is None


def test_ids_that_lost_digits_are_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", flux=FLUX, wave=WAVE, source_id=np.full(6, 2134567890123456789.0))
    assert "star" not in spectra(path, [0])[0].visit
    text, option = hdf5.note(path, hdf5.Options()) or ("", "")
    assert text.startswith("column source_id: 6 ids, such as 2134567890123456768, are floating-point numbers")
    assert not option
    whole = np.full(6, 2134567890123456789)
    assert hdf5.note(write(tmp_path / "b.h5", flux=FLUX, wave=WAVE, source_id=whole), hdf5.Options()) is None


def test_rows_have_the_values_of_the_datasets(tmp_path: Path) -> None:
    ivar = np.random.default_rng(6).uniform(1, 2, FLUX.shape).astype(np.float32)
    path = write(
        tmp_path / "a.h5",
        Flux=FLUX,
        ivar=ivar,
        wavelength=WAVE,
        mask=FLUX > 1.03,
        obsid=np.arange(10, 16),
        RA=np.arange(6) / 2,
        star=[f"S{i}" for i in range(6)],
        other=np.zeros(3),
    )
    assert hdf5.count(path, hdf5.Options()) == 6
    five, zero, one = spectra(path, [5, 0, 1])
    for number, spectrum in ((5, five), (0, zero), (1, one)):
        np.testing.assert_array_equal(spectrum.flux, FLUX[number])
        np.testing.assert_array_equal(spectrum.ivar, ivar[number])
        np.testing.assert_array_equal(spectrum.bad, FLUX[number] > 1.03)
        np.testing.assert_allclose(spectrum.angstrom, WAVE)
        assert spectrum.visit["obsid"] == 10 + number
        assert spectrum.visit["ra"] == number / 2
        assert spectrum.visit["star"] == f"S{number}"


@pytest.mark.parametrize(
    ("written", "name", "options", "expected"),
    [
        (WAVE[::-1], "wave", {}, WAVE),
        (WAVE / 10, "wave", {"wave": "nm"}, WAVE),
        (np.log10(WAVE), "loglam", {}, WAVE),
        (WAVE, "wave", {"medium": "air"}, air_to_vacuum(WAVE)),
        (np.tile(WAVE, (6, 1)), "wave", {}, WAVE),
    ],
)
def test_wavelengths_become_rising_vacuum_angstrom(
    tmp_path: Path, written: np.ndarray, name: str, options: dict[str, str], expected: np.ndarray
) -> None:
    path = write(tmp_path / "a.h5", flux=FLUX, error=np.full(FLUX.shape, 0.1), **{name: written})
    (spectrum,) = spectra(path, [2], **options)
    np.testing.assert_allclose(spectrum.angstrom, expected, rtol=1e-9)
    is_reversed = written[..., 0].max() > written[..., -1].max()
    np.testing.assert_allclose(spectrum.flux, FLUX[2][::-1] if is_reversed else FLUX[2])
    np.testing.assert_allclose(spectrum.ivar, 100)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"flux": FLUX}, "give flux as .* and wave as"),
        ({"flux": FLUX[0], "wave": WAVE}, "give flux as"),
        ({"flux": FLUX, "wave": WAVE[:9]}, r"wave has the shape \(9,\)"),
        ({"flux": FLUX, "wave": WAVE, "ivar": WAVE}, r"ivar has the shape \(400,\)"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_to_give(
    tmp_path: Path, datasets: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "a.h5", **datasets)
    with pytest.raises(ValueError, match=rf"a\.h5: .*{message}"):
        hdf5.count(path, hdf5.Options())


def test_a_group_may_hold_the_datasets(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", **{"blue/flux": FLUX, "blue/wave": WAVE})
    message = r"no dataset flux in group /; the groups are blue; give options\.hdf5\.group=blue"
    with pytest.raises(ValueError, match=message):
        hdf5.count(path, hdf5.Options())
    assert hdf5.count(path, hdf5.Options(group="blue")) == 6
    assert hdf5.count(write(tmp_path / "b.h5", **{"notes/text": [1, 2]}), hdf5.Options()) is None
    with pytest.raises(ValueError, match=r"there is no group red; give options\.hdf5\.group="):
        hdf5.count(path, hdf5.Options(group="red"))


def test_bad_rows_are_refused_alone(tmp_path: Path) -> None:
    wave = np.tile(WAVE, (6, 1))
    wave[3, 100] = np.nan
    path = write(tmp_path / "a.h5", flux=FLUX, wave=wave)
    found = hdf5.read_rows(path, [2, 3, 4], hdf5.Options())
    assert [isinstance(spectrum, Refused) for spectrum in found] == [False, True, False]


def test_values_in_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(FLUX.nbytes))
    write(tmp_path / "b.h5", flux=FLUX)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("flux", FLUX.shape, float, external=[(str(tmp_path / "secret"), 0, FLUX.nbytes)])
        file["wave"] = WAVE
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(FLUX.shape, float)
        layout[:] = h5py.VirtualSource(tmp_path / "b.h5", "flux", FLUX.shape)
        file.create_virtual_dataset("flux", layout)
        file["wave"] = WAVE
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["flux"] = h5py.ExternalLink(tmp_path / "b.h5", "flux")
        file["wave"] = WAVE
    for name in ("external", "virtual", "link"):
        assert hdf5.count(str(tmp_path / f"{name}.h5"), hdf5.Options()) is None


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, original = write(tmp_path / "a.h5", flux=FLUX, wave=WAVE), builtins.__import__

    def without_h5py(name: str, *rest: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_h5py)
    with pytest.raises(ValueError, match="run pip install h5py"):
        hdf5.count(path, hdf5.Options())


def test_a_folder_with_a_file_of_arrays_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rv = np.array([30.0, -9999.0, 0.0, np.nan, 60.0, 90.0])
    write(tmp_path / "in" / "a.h5", flux=FLUX, wave=WAVE, obsid=np.arange(1, 7), z=np.full(6, 1e-4), rv=rv)
    values = {
        "input": str(tmp_path / "in"),
        "store": str(tmp_path / "store"),
        "prepare": {"grid": {"start": 4100.0, "stop": 7900.0, "step": 10.0}},
    }
    with pytest.raises(SettingsError, match=r"such as a\.h5\).*give sources=\[hdf5\]"):
        ingest(Ingest.from_dict("ingest", values))
    ingest(Ingest.from_dict("ingest", values | {"sources": ["hdf5"]}))
    (table,) = open_store(str(tmp_path / "store")).tables(["obsid", "z", "velocity"])
    assert table["obsid"].to_pylist() == list(range(1, 7))
    by_z = 1e-4 * 299792.458
    assert table["velocity"].to_pylist() == pytest.approx([30, by_z, by_z, by_z, 60, 90])


def test_spectra_are_read_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flux = 1 + np.random.default_rng(6).normal(0, 0.02, (10, 400))
    path, runs = write(tmp_path / "a.h5", flux=flux, wave=WAVE), list[tuple[int, int]]()
    read = hdf5._read_run

    def noted(path: str, datasets: Any, first: int, stop: int, settings: hdf5.Options) -> Any:
        runs.append((first, stop))
        return read(path, datasets, first, stop, settings)

    monkeypatch.setattr(hdf5, "ROWS", 4)
    monkeypatch.setattr(hdf5, "_read_run", noted)
    rows = [0, 1, 2, 3, 4, 8, 9]
    found = hdf5.iterate_rows(path, rows, hdf5.Options())
    next(found)
    assert runs == [(0, 4)]
    assert len(list(found)) == 6
    assert runs == [(0, 4), (4, 5), (8, 10)]
    for row, spectrum in zip(rows, spectra(path, rows), strict=True):
        np.testing.assert_allclose(spectrum.flux, flux[row])
