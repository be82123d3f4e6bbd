"""Numbers of long tables: exact ones stay exact, others have five digits that mean something."""

from pathlib import Path
from typing import Any

import pytest

from survey.pages.html import render
from survey.pages.report_blocks import ReportPage
from tests.pages.conftest import Visitor
from tests.pages.test_report import packed

GAIA = [4471886480513495297, 4471886480513503216, 12]
COLUMNS: dict[str, list[Any]] = {
    "gaia_source_id": GAIA,
    "rows": [12345678, None, -3],
    "value": [0.912345678, 152.3456789, -0.0003181234],
    "size": [123456.789, 2.0, None],
    "ra": [351.234567, 0.000012, 10.0],
    "FeH": [-2.345678, 0.1, 0.0],
    "name": ["a", None, "c"],
}


def write(path: Path) -> Path:
    page = ReportPage("table", "numbers")
    page.add("Numbers", page.long_table("", COLUMNS, {"FeH": 2}))
    about = dict.fromkeys(("title", "kind", "heading", "page_class", "command", "date"), "")
    path.write_bytes(render("blocks.html", "0" * 32, page.attachments, sections=page.sections, **about))
    return path


def test_large_whole_numbers_are_sent_as_text(tmp_path: Path) -> None:
    text = write(tmp_path / "page.html").read_text(encoding="utf-8")
    sent = packed(text, "block-0-rows")
    assert sent["gaia_source_id"] == [str(number) for number in GAIA]
    assert sent["rows"] == COLUMNS["rows"]


@pytest.mark.browser
def test_a_browser_shows_each_number_by_its_own_size(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.open(write(tmp_path / "page.html"))
    cells = page.locator(".long-row").evaluate_all(
        "(rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent))"
    )
    assert cells == [
        [str(GAIA[0]), "12345678", "0.91235", "123457", "351.23457", "−2.35", "a"],
        [str(GAIA[1]), "–", "152.35", "2", "0.00001", "0.10", "–"],
        ["12", "−3", "−0.00031812", "–", "10.00000", "0.00", "c"],
    ]
    page.get_by_label("find rows").fill(f"gaia_source_id={GAIA[1]}")
    assert page.locator(".long-row").count() == 1
