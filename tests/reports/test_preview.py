"""Pictures of single spectra, stage by stage."""

import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.reports.ingest import summary
from survey.reports.preview import preview
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store
from tests.reports.sketches import sketch


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night") / "files"
    make(Mock(out=str(folder), n=30, broken=0.1))
    return folder


def test_as_many_spectra_are_drawn_as_the_settings_say(night: Path, tmp_path: Path) -> None:
    settings = Ingest(
        input=str(night),
        store=str(tmp_path / "store"),
        sources=("lamost",),
        shard=12,
        refuse_above=1.0,
        preview=2,
    )
    ingest(settings)
    drawn = preview(settings)
    assert len(drawn) == 2
    for path in drawn:
        data = Path(path).read_bytes()
        assert data.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", data[16:24])
        assert (width, height) == (1320, 990)


def test_a_spectrum_whose_file_is_gone_is_not_drawn(night: Path, tmp_path: Path) -> None:
    settings = Ingest(
        input=str(night), store=str(tmp_path / "store"), sources=("lamost",), refuse_above=1.0, preview=3
    )
    ingest(settings)
    moved = night.rename(night.with_name("away"))
    try:
        assert preview(settings) == []
    finally:
        moved.rename(night)


def test_nothing_is_drawn_without_preview(night: Path, tmp_path: Path) -> None:
    assert preview(Ingest(input=str(night), store=str(tmp_path / "store"))) == []


def test_the_summary_holds_counts_reasons_and_folders(night: Path, tmp_path: Path) -> None:
    result = ingest(
        Ingest(input=str(night), store=str(tmp_path / "store"), sources=("lamost",), refuse_above=1.0)
    )
    text = summary(result)
    assert f"written    {result.document.written:,}" in text
    assert f"refused    {sum(result.document.refused.values()):,}" in text
    assert all(reason in text for reason in result.document.refused)
    assert str(tmp_path / "store" / "refused") in text


def test_the_panels_hold_the_spectrum_of_the_file_and_of_the_store(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = sketch(monkeypatch)
    settings = Ingest(
        input=str(night), store=str(tmp_path / "store"), sources=("lamost",), refuse_above=1.0, preview=1
    )
    ingest(settings)
    (path,) = preview(settings)
    rows = pa.concat_tables(list(open_store(settings.store).tables())).to_pylist()
    visit = Path(path).stem.partition("-")[2]
    row = next(each for each in rows if each["visit"] == visit)
    as_file, on_grid, with_continuum, final = figures[0].axes
    flux = np.where(np.array(row["ivar"]) > 0, row["flux"], np.nan)
    np.testing.assert_allclose(np.asarray(final.get_lines()[0].get_ydata(), float), flux, rtol=1e-3)
    grid, continuum = (np.asarray(line.get_ydata(), float) for line in with_continuum.get_lines())
    np.testing.assert_allclose(grid / continuum, flux, rtol=1e-3)
    np.testing.assert_array_equal(np.asarray(on_grid.get_lines()[0].get_ydata(), float), grid)
    assert visit in as_file.get_title(loc="left") + as_file.get_title()
    assert f"S/N {row['snr']:.0f}" in as_file.get_title(loc="left") + as_file.get_title()
