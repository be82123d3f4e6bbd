"""Pictures of single spectra, stage by stage."""

import struct
from pathlib import Path

import pytest

from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.reports.ingest import summary
from survey.reports.preview import preview
from survey.store.ingest import ingest
from survey.store.settings import Ingest


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night") / "files"
    make(Mock(out=str(folder), n=120, broken=0.05))
    return folder


def test_as_many_spectra_are_drawn_as_the_settings_say(night: Path, tmp_path: Path) -> None:
    settings = Ingest(
        input=str(night),
        store=str(tmp_path / "store"),
        sources=("lamost",),
        shard=50,
        refuse_above=1.0,
        preview=4,
    )
    ingest(settings)
    drawn = preview(settings)
    assert len(drawn) == 4
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
