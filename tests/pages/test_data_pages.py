"""Pages about data show a part of long tables, and do not read the rest."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.latent.latent import look
from survey.latent.settings import LatentSettings
from survey.pages import data_pages
from survey.pages.report_blocks import ReportPage
from tests.latent.drawn_latents import drawn, write_predictions


def test_a_page_of_a_latent_space_shows_every_kth_row(tmp_path: Path) -> None:
    latent_ND, class_N = drawn(400, spread=3.0)
    write_predictions(tmp_path / "p", latent_ND, 150, predicted_N=class_N)
    values = {"predictions": str(tmp_path / "p"), "latent": str(tmp_path / "l"), "maps": ["pca"]}
    result = look(LatentSettings.from_dict("latent", values | {"sample": 200, "clusters": {"least": 20}}))
    for points, rows in ((1000, 400), (100, 100), (150, 134)):
        page = ReportPage("latent", "l")
        data_pages.latent_page(page, result.document, result.folder, points)
        [maps] = [section for section in page.sections if section.title == "Maps"]
        about = json.loads(page.attachments.json[f"{maps.blocks[0]['source']}-stars-about"])
        assert (about["rows"], about["of"]) == (rows, 400)
        assert (f"of 400 rows (points={points} decides)" in maps.about) == (rows < 400)


def test_of_a_long_table_only_the_first_rows_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"row": range(100), "list": [[1]] * 100})
    pq.write_table(table, tmp_path / "long.parquet", row_group_size=10)
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    read: list[int] = []
    groups = pq.ParquetFile.read_row_groups

    def counted(self: pq.ParquetFile, chosen: list[int], *given: object, **named: object) -> pa.Table:
        read.extend(chosen)
        return groups(self, chosen, *given, **named)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    monkeypatch.setattr(data_pages, "MOST_ROWS", 25)
    page = ReportPage("other", "x")
    data_pages.other_page(page, {}, str(tmp_path))
    assert read == [0, *(0, 1, 2)], "the group without rows, and three of ten"
    [section] = [section for section in page.sections if section.title == "long.parquet"]
    assert section.blocks[0]["title"] == "the first 25 of 100 rows"


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(ValueError, match=r"report: .*broken.parquet: damaged"):
        data_pages.other_page(ReportPage("other", "x"), {}, str(tmp_path))
