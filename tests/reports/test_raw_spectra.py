"""Pixels that are read again from the files are those of the store, whatever gave the shift to rest."""

from pathlib import Path

import numpy as np
import pytest

from survey.reports.raw_spectra import prepare_rows
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store

GRID = {"start": 4500.0, "stop": 6500.0, "step": 2.0, "scale": "linear"}
LINE = 5200.0


@pytest.mark.parametrize(("velocity", "z"), [("z", 0.002), ("rv_or_z", 0.5), ("rv_or_z", 0.002)])
def test_a_redshift_of_the_catalogue_counts_for_pixels_from_files(
    tmp_path: Path, velocity: str, z: float
) -> None:
    wave = np.linspace(4400, 6600, 2000) * (1 + z)
    noise = np.random.default_rng(1).normal(0, 0.01, wave.size)
    flux = 100 * (1 + noise - 0.8 * np.exp(-0.5 * ((wave / (1 + z) - LINE) / 5) ** 2))
    np.savetxt(tmp_path / "a.txt", np.stack([wave, flux, np.full(wave.size, 1.0)], 1))
    (tmp_path / "c.csv").write_text(f"file,z\na.txt,{z}\n")
    values = {"input": str(tmp_path / "c.csv"), "store": str(tmp_path / "store"), "sources": ["ascii"]}
    settings = Ingest.from_dict("ingest", values | {"prepare": {"grid": GRID, "velocity": velocity}})
    ingest(settings)
    (row,) = open_store(settings.store).spectra(0).to_pylist()
    (pixels,) = prepare_rows([row], settings)
    assert pixels is not None
    wave_P = settings.prepare.wavelengths().wave
    assert wave_P[np.argmin(row["flux"])] == LINE == wave_P[np.argmin(pixels[0])]
    np.testing.assert_allclose(pixels[0], row["flux"], atol=1e-3)
