"""Pictures of single spectra, stage by stage."""

import struct
from pathlib import Path

import pytest

from survey.mock import Mock, make
from survey.reports import ingest as summary
from survey.reports.preview import preview
from survey.store.ingest import Ingest, ingest


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night") / "files"
    make(Mock(out=str(folder), n=120, broken=0.05))
    return folder


def test_so_many_spectra_are_drawn_as_png(night: Path, tmp_path: Path):
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


def test_a_file_that_is_gone_since_is_passed_over(night: Path, tmp_path: Path):
    settings = Ingest(
        input=str(night), store=str(tmp_path / "store"), sources=("lamost",), refuse_above=1.0, preview=3
    )
    ingest(settings)
    moved = night.rename(night.with_name("away"))
    try:
        assert preview(settings) == []
    finally:
        moved.rename(night)


def test_no_preview_draws_nothing(night: Path, tmp_path: Path):
    assert preview(Ingest(input=str(night), store=str(tmp_path / "store"))) == []


def test_the_summary_tells_counts_reasons_and_places(night: Path, tmp_path: Path):
    report = ingest(
        Ingest(input=str(night), store=str(tmp_path / "store"), sources=("lamost",), refuse_above=1.0)
    )
    told = summary.ingest(report)
    assert f"written    {report.written:,}" in told
    assert f"refused    {sum(report.refused.values()):,}" in told
    assert all(reason in told for reason in report.refused)
    assert str(tmp_path / "store" / "refused") in told
